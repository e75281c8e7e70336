"""What a host needs before Vagrant can make machines on it: asked first, then judged."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from provision.lab import Lab
from provision.providers import choice
from provision.providers.base import Problem
from provision.providers.routes import source_for
from provision.providers.vagrant import output, record

OWN_BOX = "foobar-lab/debian-13"
HOST_ONLY = IPv4Network("192.168.56.0/21")
"""Where VirtualBox allows host-only networks unless /etc/vbox/networks.conf says otherwise (its
manual, section 6.7, "Host-Only Networking")."""

NEEDS = (((7, 2), (2, 4, 9)), ((7, 1), (2, 4, 2)), ((7, 0), (2, 3, 2)))
"""VirtualBox from that version on, and the first Vagrant that drives it (Vagrant's CHANGELOG)."""

NEWEST = (7, 2)
ARM = (7, 1, 6)
"""The first VirtualBox for which there is a box of Debian 13 on arm64."""

FREE_MIB = 6144
"""For the box, and what three machines change."""

RESERVE_MIB = 512
"""What the host itself keeps, beside the machines' memory."""


@dataclass(frozen=True)
class Facts:
    """What this host says of itself.

    Args:
        system: ``Linux``, ``macOS`` or ``Windows``.
        arch: of the processor, such as ``x86_64`` or ``arm64``.
        provider: Vagrant's provider that is meant: ``virtualbox`` or ``libvirt``.
        vagrant: its version, or empty.
        virtualbox: its version, or empty.
        driver: whether VirtualBox's kernel driver is there (Linux).
        virtualisation: whether the processor offers it to us; None when that cannot be told.
        hypervisor: whether another hypervisor (Hyper-V) has the processor.
        plugin: whether vagrant-libvirt is installed.
        libvirt: whether libvirt runs and lets us in.
        kvm: whether KVM works.
        box: whether our own box is there.
        own_box: whether our own box is the one that is needed.
        memory: MiB that are available; 0 when that cannot be told.
        free: MiB that are free, by folder.
        source: the address from which this host would send to the lab's network.
        ranges: where VirtualBox allows host-only networks, as the administrator says.
        made: machines of this lab that exist.
        unknown: of these, those that were never up (a failed attempt left them).
        strays: machines that exist and are not in the topology any more.
        others: virtual machines that have our names and that Vagrant does not know.
    """

    system: str = "Linux"
    arch: str = "x86_64"
    provider: str = "virtualbox"
    vagrant: str = "2.4.9"
    virtualbox: str = "7.2.0"
    driver: bool = True
    virtualisation: bool | None = True
    hypervisor: bool = False
    plugin: bool = True
    libvirt: bool = True
    kvm: bool = True
    box: bool = True
    own_box: bool = False
    memory: int = 0
    free: tuple[tuple[str, int], ...] = ()
    source: IPv4Address | None = None
    ranges: tuple[IPv4Network, ...] = (HOST_ONLY,)
    made: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


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


# --- asking ------------------------------------------------------------------------------------


def gather(lab: Lab, provider: str) -> Facts:
    """Ask this host; nothing is changed and nothing is sent."""
    system = choice.SYSTEMS.get(sys.platform, "Linux")
    made, known = record.made(lab), record.load(lab)
    own = os.environ.get("LAB_BOX", "") or (OWN_BOX if provider == "libvirt" else "")
    names = [m.name for m in lab.machines]
    version = _said(["vagrant", "--version"]).strip().removeprefix("Vagrant ")
    manager = choice.vboxmanage() if provider == "virtualbox" else None
    return Facts(
        system=system,
        arch=platform.machine().lower(),
        provider=provider,
        vagrant=version,
        virtualbox=_said([manager, "--version"]).strip() if manager else "",
        driver=system != "Linux" or Path("/dev/vboxdrv").exists(),
        virtualisation=_virtualisation(system),
        hypervisor=system == "Windows"
        and "True" in _windows("ComputerSystem", "HypervisorPresent"),
        plugin=choice.plugin(),
        libvirt=any(os.access(path, os.W_OK) for path in choice.LIBVIRT_SOCKETS),
        kvm=system == "Linux" and choice.kvm_works(),
        box=has_box(OWN_BOX, provider),
        own_box=own == OWN_BOX,
        memory=_memory(system),
        free=((str(boxes()), _free(boxes())),),
        source=source_for(str(lab.machines[0].address)) if lab.machines else None,
        ranges=ranges(_read(Path("/etc/vbox/networks.conf"))),
        made=tuple(n for n in names if n in made),
        unknown=tuple(n for n in names if n in made and n not in known),
        strays=tuple(n for n in made if n not in names),
        others=_others(lab, provider, manager, frozenset(number for _, number in made.values())),
    )


def ranges(text: str) -> tuple[IPv4Network, ...]:
    """The networks in VirtualBox's networks.conf: lines such as ``* 10.0.0.0/8 192.168.0.0/16``."""
    found = []
    for line in text.splitlines():
        if line.strip().startswith("*"):
            for word in line.strip()[1:].split():
                with contextlib.suppress(ValueError):
                    found.append(IPv4Network(word, strict=False))
    return tuple(found) or (HOST_ONLY,)


def lookalikes(names: Sequence[str], listed: str, prefix: str, ours: frozenset[str]) -> list[str]:
    """Virtual machines that have a machine's name after our prefix and are not Vagrant's.

    Args:
        names: of the lab's machines.
        listed: of ``VBoxManage list vms`` or ``virsh list --all --uuid --name``: a name and a
            number a line, in either order.
        prefix: what stands before a machine's name.
        ours: the numbers that Vagrant knows.
    """
    found = []
    for line in listed.splitlines():
        number = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", line)
        if number is None or number.group() in ours:
            continue
        name = line.replace(number.group(), "").strip(' "{}')
        rest = name.removeprefix(prefix)
        if name != rest and any(rest == n or re.fullmatch(rf"{n}_\d+_\d+", rest) for n in names):
            found.append(name)
    return found


def _others(lab: Lab, provider: str, manager: str | None, ours: frozenset[str]) -> tuple[str, ...]:
    names = [m.name for m in lab.machines]
    if provider == "virtualbox" and manager:
        return tuple(lookalikes(names, _said([manager, "list", "vms"]), f"{lab.root.name}_", ours))
    if provider == "libvirt" and shutil.which("virsh"):
        argv = ["virsh", "-c", "qemu:///system", "list", "--all", "--uuid", "--name"]
        return tuple(lookalikes(names, _said(argv), f"foobar-lab-{lab.id}-", ours))
    return ()


def boxes(environ: Mapping[str, str] = os.environ) -> Path:
    """Vagrant's home, where boxes are kept."""
    return Path(environ.get("VAGRANT_HOME") or "~/.vagrant.d").expanduser()


def has_box(name: str, provider: str) -> bool:
    """Whether a box is there for a provider: Vagrant 2.4 has a folder an architecture as well."""
    folder = boxes() / "boxes" / name.replace("/", "-VAGRANTSLASH-")
    return any(folder.glob(f"*/{provider}")) or any(folder.glob(f"*/*/{provider}"))


def _virtualisation(system: str) -> bool | None:
    if system == "Linux":
        text = _read(Path("/proc/cpuinfo"))
        flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
        return bool(re.search(r"\b(vmx|svm)\b", flags.group(1))) if flags else None
    if system == "macOS":
        text = _said(["sysctl", "-n", "kern.hv_support"]).strip()
    else:
        text = _windows("Processor", "VirtualizationFirmwareEnabled").strip()
    return {"1": True, "0": False, "True": True, "False": False}.get(text)


def _windows(kind: str, value: str) -> str:
    command = f"(Get-CimInstance Win32_{kind} | Select-Object -First 1).{value}"
    return _said(["powershell", "-NoProfile", "-Command", command])


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of Windows' sysinfoapi.h."""

    _fields_ = (
        ("length", ctypes.c_ulong),
        ("load", ctypes.c_ulong),
        ("total", ctypes.c_ulonglong),
        ("available", ctypes.c_ulonglong),
        ("others", ctypes.c_ulonglong * 5),
    )


def _memory(system: str) -> int:
    """MiB that machines could have; on macOS, which lends freely, half of all there is."""
    if system == "Linux":
        found = re.search(r"^MemAvailable:\s*(\d+)", _read(Path("/proc/meminfo")), re.MULTILINE)
        return int(found.group(1)) // 1024 if found else 0
    if system == "macOS":
        text = _said(["sysctl", "-n", "hw.memsize"]).strip()
        return int(text) // 2**21 if text.isdigit() else 0
    status = _MemoryStatus()
    status.length = ctypes.sizeof(status)
    kernel = getattr(getattr(ctypes, "windll", None), "kernel32", None)
    if kernel is None or not kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
        return 0
    return int(status.available) // 2**20


def _free(path: Path) -> int:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free // 2**20


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _said(argv: Sequence[str]) -> str:
    """What a program prints; nothing when it is not there or does not end."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
