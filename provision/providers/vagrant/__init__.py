"""The vagrant provider: virtual machines with VirtualBox, or with libvirt on Linux."""

from provision.providers.vagrant.provider import VagrantProvider

__all__ = ["VagrantProvider"]
