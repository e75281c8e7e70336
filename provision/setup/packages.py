"""The Debian packages that a lab, its tests, and virtual machines on Linux need."""

from __future__ import annotations

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
"""The keys that Debian's archive is signed with, from the package debian-archive-keyring."""

RUN = {
    "python3-venv": ".venv with the distribution's Python",
    "ca-certificates": "package sources over HTTPS",
    "openssh-client": "lab.ssh, ssh -F .lab/ssh_config",
    "lxc": "the machines",
    "mmdebstrap": "their base image",
    "debian-archive-keyring": "keys that verify the base image",
    "gpgv": "verifies it",
    "uidmap": "required by LXC",
    "iproute2": "the bridge",
    "nftables": "NAT on the bridge",
    "dnsmasq-base": "DNS forwarder on the bridge",
    "procps": "sysctl",
    "zstd": "images in bundles",
    "psmisc": "fuser, for troubleshooting",
}

TEST = {
    "chromium": "renders the guest book's page",
    "libnss3-tools": "imports the lab's CA as tls.trust describes",
    "fonts-liberation": "fonts for Chromium",
}

VIRTUAL_MACHINES = {
    "vagrant": "creates virtual machines",
    "vagrant-libvirt": "libvirt provider for Vagrant",
    "libvirt-daemon-system": "manages QEMU",
    "libvirt-clients": "virsh",
    "qemu-system-x86": "the machines",
    "qemu-system-arm": "machines of boxes for arm64",
    "qemu-efi-aarch64": "their firmware",
    "qemu-user-static": "builds boxes for arm64",
    "dosfstools": "their EFI system partition",
    "mtools": "fills it",
    "qemu-utils": "disk images",
    "fdisk": "the box's partition table",
    "e2fsprogs": "the box's file system",
    "grub-common": "the box's boot loader",
    "grub-pc-bin": "its BIOS modules",
}

CONTAINER_PROGRAMS = {
    "lxc-start": "lxc",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "dnsmasq": "dnsmasq-base",
    "ip": "iproute2",
    "sysctl": "procps",
    "unshare": "util-linux",
    "flock": "util-linux",
    "find": "findutils",
    "tar": "tar",
}
"""The programs that the provider ``lxc`` runs, and their packages."""
