"""The ssh provider: existing machines, which it neither creates nor removes."""

from provision.providers.ssh.provider import SshProvider

__all__ = ["SshProvider"]
