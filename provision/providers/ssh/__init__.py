"""Machines that exist already, wherever they came from: reached over SSH, never made or removed."""

from provision.providers.ssh.provider import SshProvider

__all__ = ["SshProvider"]
