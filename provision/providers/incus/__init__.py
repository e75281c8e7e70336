"""The incus provider: machines are system containers of Incus, on a server or in a cluster."""

from provision.providers.incus.provider import IncusProvider

__all__ = ["IncusProvider"]
