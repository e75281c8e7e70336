"""os-release files of Linux distributions, and the systems of laptops."""

from __future__ import annotations

from provision.setup.system import linux, macos, windows

DEBIAN_12 = """\
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian
HOME_URL="https://www.debian.org/"
"""

DEBIAN_13 = DEBIAN_12.replace("12", "13").replace("bookworm", "trixie")

UBUNTU_24 = """\
PRETTY_NAME="Ubuntu 24.04.1 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION_CODENAME=noble
ID=ubuntu
ID_LIKE=debian
UBUNTU_CODENAME=noble
"""

MINT = """\
NAME="Linux Mint"
VERSION_ID="22"
ID=linuxmint
ID_LIKE="ubuntu debian"
PRETTY_NAME="Linux Mint 22"
VERSION_CODENAME=wilma
"""

FEDORA_41 = """\
NAME="Fedora Linux"
VERSION="41 (Workstation Edition)"
ID=fedora
VERSION_ID=41
VERSION_CODENAME=""
PRETTY_NAME="Fedora Linux 41 (Workstation Edition)"
"""

ROCKY_9 = """\
NAME="Rocky Linux"
ID="rocky"
ID_LIKE="rhel centos fedora"
VERSION_ID="9.4"
PRETTY_NAME="Rocky Linux 9.4 (Blue Onyx)"
"""

ARCH = 'NAME="Arch Linux"\nPRETTY_NAME="Arch Linux"\nID=arch\n'

SYSTEMS = {
    "Debian 12": linux(DEBIAN_12, "x86_64"),
    "Debian 13": linux(DEBIAN_13, "x86_64"),
    "Debian 13 on arm64": linux(DEBIAN_13, "aarch64"),
    "Ubuntu 24.04": linux(UBUNTU_24, "x86_64"),
    "Fedora 41": linux(FEDORA_41, "x86_64"),
    "Arch": linux(ARCH, "x86_64"),
    "macOS Intel": macos("13.7", "x86_64"),
    "Apple silicon": macos("15.1", "arm64"),
    "Windows 10": windows(19045, "AMD64", {}),
    "Windows 11": windows(26100, "AMD64", {}),
    "Windows 11 on arm64": windows(26100, "ARM64", {}),
}
