"""What a host needs before Vagrant can make machines on it: judged from what it says of itself."""

from __future__ import annotations

from provision.core.lab import Lab
from provision.providers.base import Problem
from provision.providers.vagrant import output
from provision.providers.vagrant.facts import OWN_BOX, Facts

NEEDS = (((7, 2), (2, 4, 9)), ((7, 1), (2, 4, 2)), ((7, 0), (2, 3, 2)))
"""VirtualBox from that version on, and the first Vagrant that drives it (Vagrant's CHANGELOG)."""

NEWEST = (7, 2)
ARM = (7, 1, 6)
"""The first VirtualBox for which there is a box of Debian 13 on arm64."""

FREE_MIB = 6144
"""For the box, and what three machines change."""

RESERVE_MIB = 512
"""What the host itself keeps, beside the machines' memory."""


def problems(lab: Lab, facts: Facts) -> list[Problem]:
    """What stands in the way, and how each is mended.

    Args:
        lab: that wants to come up.
        facts: of this host.
    """
    found = [] if facts.vagrant else [_install("Vagrant", facts.system)]
    found += _virtualbox(lab, facts) if facts.provider == "virtualbox" else _libvirt(facts)
    return [*found, *_network(lab, facts), *_room(lab, facts), *_leftovers(lab, facts)]


def _install(what: str, system: str) -> Problem:
    """How a missing program is installed on that system."""
    places = {
        ("Vagrant", "Linux"): "sudo apt-get install vagrant, or developer.hashicorp.com/vagrant",
        ("Vagrant", "macOS"): "brew install --cask hashicorp/tap/hashicorp-vagrant",
        ("Vagrant", "Windows"): "winget install Hashicorp.Vagrant, then a new terminal",
        ("VirtualBox", "Linux"): "install it from virtualbox.org (Debian's stable has none), "
        "or use --provider lxc",
        ("VirtualBox", "macOS"): "brew install --cask virtualbox",
        ("VirtualBox", "Windows"): "winget install Oracle.VirtualBox, then a new terminal",
    }
    return Problem(f"{what} is not installed", places[what, system])


def _virtualbox(lab: Lab, facts: Facts) -> list[Problem]:
    found = []
    if not facts.virtualbox:
        found.append(_install("VirtualBox", facts.system))
    else:
        found += fits(facts.vagrant, facts.virtualbox)
        if facts.system == "Linux" and not facts.driver:
            what = "VirtualBox's kernel driver is not loaded (/dev/vboxdrv)"
            advice = "sudo /sbin/vboxconfig; with Secure Boot its modules must be signed"
            found.append(Problem(what, advice))
        if facts.arch in ("arm64", "aarch64") and output.version(facts.virtualbox) < ARM:
            what = f"VirtualBox {facts.virtualbox} cannot run Debian 13 on arm64"
            found.append(Problem(what, "install VirtualBox 7.1.6 or newer"))
    if facts.hypervisor:
        found.append(
            Problem(
                "Hyper-V has the processor: VirtualBox then is very slow, or does not start",
                "as administrator: bcdedit /set hypervisorlaunchtype off, then restart (WSL 2 and "
                "Docker Desktop need it on)",
                fatal=False,
            )
        )
    elif facts.virtualisation is False:
        what = "virtualisation (VT-x, AMD-V) is off on this computer"
        advice = "switch it on in the firmware's set-up (often under CPU or Security)"
        if facts.system == "Linux":
            advice += ", or use --provider lxc"
        found.append(Problem(what, advice))
    if not any(lab.network.subnet_of(allowed) for allowed in facts.ranges):
        allowed = ", ".join(map(str, facts.ranges))
        advice = "--network 192.168.57.0/24"
        if facts.system != "Windows":
            advice += f", or as root: echo '* {lab.network}' >>/etc/vbox/networks.conf"
        what = f"VirtualBox allows host-only networks in {allowed} alone, not {lab.network}"
        found.append(Problem(what, advice))
    if facts.own_box and not facts.box:
        what = f"there is no box {OWN_BOX} for VirtualBox here"
        found.append(Problem(what, "invoke box.build --provider virtualbox, on a Debian host"))
    return found


def fits(vagrant: str, virtualbox: str) -> list[Problem]:
    """Whether that Vagrant drives that VirtualBox.

    Args:
        vagrant: its version, or empty.
        virtualbox: its version.
    """
    have, box = output.version(vagrant), output.version(virtualbox)
    for since, needed in NEEDS:
        if box[:2] >= since:
            if have and have < needed:
                text = ".".join(map(str, needed))
                what = f"Vagrant {vagrant} does not know VirtualBox {virtualbox}"
                advice = f"install Vagrant {text} or newer (developer.hashicorp.com/vagrant)"
                return [Problem(what, advice)]
            break
    if box[:2] > NEWEST:
        what = f"VirtualBox {virtualbox} is newer than what this lab knows of"
        advice = "if Vagrant refuses it, take the newest Vagrant, or VirtualBox 7.2"
        return [Problem(what, advice, fatal=False)]
    return []


def _libvirt(facts: Facts) -> list[Problem]:
    if facts.system != "Linux":
        return [Problem("libvirt is for Linux alone", "VAGRANT_DEFAULT_PROVIDER=virtualbox")]
    found = []
    if not facts.plugin:
        what = "Vagrant's plugin for libvirt is not installed"
        found.append(Problem(what, "sudo apt-get install vagrant-libvirt libvirt-daemon-system"))
    if not facts.libvirt:
        what = "libvirt does not run here, or does not let you in"
        advice = "sudo systemctl start libvirtd; sudo adduser $(id -un) libvirt, then log in again"
        found.append(Problem(what, advice))
    if not facts.kvm:
        what = "KVM does not work here: machines are emulated, some twenty times slower"
        advice = "switch virtualisation on in the firmware, or use --provider lxc"
        found.append(Problem(what, advice, fatal=False))
    if facts.own_box and not facts.box:
        found.append(Problem(f"there is no box {OWN_BOX} for libvirt here", "invoke box.build"))
    return found


def _network(lab: Lab, facts: Facts) -> list[Problem]:
    """Whether somebody else is on the lab's network: nothing may be, before the machines are."""
    if facts.made or facts.source is None or facts.source not in lab.network:
        return []
    if facts.provider == "virtualbox" and facts.source == lab.gateway:
        return []  # a host-only adapter with that address is used again
    return [
        Problem(
            f"this host is in {lab.network} already (with {facts.source}): a bridge of libvirt or "
            "Docker, another lab, or the network around you",
            "--network 192.168.57.0/24, or another one that is free",
        )
    ]


def _room(lab: Lab, facts: Facts) -> list[Problem]:
    found = []
    wanted = sum(machine.memory for machine in lab.machines)
    if facts.memory and not facts.made and facts.memory < wanted + RESERVE_MIB:
        found.append(
            Problem(
                f"{facts.memory} MiB of memory are available, and the machines want {wanted}",
                "close something, or give them less: memory: in the topology file "
                "(a web server needs about 600, a balancer 300)",
                fatal=facts.memory < wanted * 2 // 3,
            )
        )
    found += [
        Problem(
            f"{free} MiB are free in {folder}, and a box and its machines need {FREE_MIB}",
            "make room; VAGRANT_HOME=/other/folder moves the boxes",
        )
        for folder, free in facts.free
        if free < FREE_MIB and not facts.made
    ]
    return found


def _leftovers(lab: Lab, facts: Facts) -> list[Problem]:
    found = []
    if facts.unknown:
        what = f"{', '.join(facts.unknown)}: made before, by hand or by an attempt that failed"
        advice = "they are used as they are; invoke lab.destroy starts from nothing"
        found.append(Problem(what, advice, fatal=False))
    if facts.strays:
        what = f"{', '.join(facts.strays)}: machines that are not in the topology any more"
        advice = "they stay until the topology that has them is back: vagrant destroy NAME"
        found.append(Problem(what, advice, fatal=False))
    if facts.others:
        names = ", ".join(facts.others)
        tool = (
            "VBoxManage unregistervm NAME --delete"
            if facts.provider == "virtualbox"
            else "virsh -c qemu:///system undefine --remove-all-storage NAME"
        )
        what = (
            f"virtual machines that look like this lab's, and that Vagrant does not know: {names}"
        )
        # libvirt refuses a second machine of the same name; VirtualBox's names hold a time.
        found.append(Problem(what, tool, fatal=facts.provider != "virtualbox"))
    return found
