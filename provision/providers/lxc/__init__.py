"""The lxc provider: machines are LXC system containers, built from Debian packages."""

from provision.providers.lxc.provider import LxcProvider

__all__ = ["LxcProvider"]
