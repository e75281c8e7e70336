"""Virtual machines by Vagrant: VirtualBox everywhere, libvirt on Linux."""

from provision.providers.vagrant.provider import VagrantProvider

__all__ = ["VagrantProvider"]
