"""The embedded provider: machines as LXC system containers, made from Debian packages alone."""

from provision.providers.lxc.provider import LxcProvider

__all__ = ["LxcProvider"]
