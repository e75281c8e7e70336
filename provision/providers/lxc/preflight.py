"""What a host needs before machines can be made on it: asked first, then judged."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from provision.core.errors import LabError
from provision.core.lab import Lab
from provision.providers import images
from provision.providers.base import Problem
from provision.providers.lxc import firewall, image, places
from provision.providers.lxc.privileged import program, run

PROGRAMS = {
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
"""Programs and the Debian packages they come from."""

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIN_FREE_MIB = 4096
"""For the base image, two layers and three machines; LAB_MIN_FREE_MIB overrides it."""


@dataclass(frozen=True)
class Facts:
    """What this host says of itself.

    Args:
        root: whether we are root.
        sudo: whether ``sudo`` works without asking.
        missing: programs that are not there.
        keyring: whether Debian's archive keys are there.
        free: MiB where images or machines go, by folder.
        cached: whether the base image is built.
        source: why no package source is known; empty when one is.
        networks: networks in use, each with who uses it.
        kernel: what the kernel cannot do.
        stacked: folders that are on an overlay file system themselves.
        legacy: whether old-style iptables filter.
    """

    root: bool = True
    sudo: bool = True
    missing: tuple[str, ...] = ()
    keyring: bool = True
    free: Mapping[str, int] = field(default_factory=dict)
    cached: bool = False
    source: str = ""
    networks: tuple[tuple[IPv4Network, str], ...] = ()
    kernel: tuple[str, ...] = ()
    stacked: tuple[str, ...] = ()
    legacy: bool = False


def problems(lab: Lab, facts: Facts) -> list[Problem]:
    """What stands in the way, and how each is mended.

    Args:
        lab: that wants to come up.
        facts: of this host.
    """
    found = []
    if facts.missing or not facts.keyring:
        packages = {PROGRAMS[name] for name in facts.missing}
        packages |= set() if facts.keyring else {"debian-archive-keyring"}
        what = ", ".join([*facts.missing, *([] if facts.keyring else ["Debian's archive keys"])])
        found.append(
            Problem(
                f"not installed: {what}",
                f"sudo apt-get install --no-install-recommends {' '.join(sorted(packages))}"
                "    # or scripts/up, which does it",
            )
        )
    if not facts.root and not facts.sudo:
        found.append(
            Problem(
                "machines need root on this host: you are not root, and sudo refuses or asks",
                "sudo -v    # or become root, then run this again",
            )
        )
    found += _room(facts)
    if facts.source:
        what, _, advice = facts.source.partition("\nnext: ")
        found.append(Problem(what, advice))
    found += _network(lab, facts)
    found += [
        Problem(f"this kernel has no {what}", "use a Debian kernel, or the Vagrant provider")
        for what in facts.kernel
    ]
    found += [
        Problem(
            f"{folder} is on an overlay file system, and overlays cannot stand on one another",
            "run the lab on the host itself, not in a container; or mount a disk there",
        )
        for folder in facts.stacked
    ]
    return found


def _room(facts: Facts) -> list[Problem]:
    asked = os.environ.get("LAB_MIN_FREE_MIB", "")
    least = int(asked) if asked.isdecimal() else MIN_FREE_MIB
    # With the images at hand, machines need only what they change.
    least = least // 4 if facts.cached else least
    return [
        Problem(
            f"{free} MiB are free in {folder}, and a lab needs {least}",
            f"make room (df -h {folder}), or put images elsewhere: LAB_CACHE=/other/folder",
        )
        for folder, free in facts.free.items()
        if free < least
    ]


def _network(lab: Lab, facts: Facts) -> list[Problem]:
    users = [who for network, who in facts.networks if network.overlaps(lab.network)]
    found = []
    if users:
        pool = IPv4Network("192.168.56.0/21").subnets(new_prefix=24)
        free = (n for n in pool if not any(n.overlaps(used) for used, _ in facts.networks))
        advice = f"--network {next(free, '10.56.0.0/24')}"
        who = ", ".join(dict.fromkeys(users))
        found.append(
            Problem(f"the network {lab.network} is in use on this host already: {who}", advice)
        )
    if facts.legacy:
        bridge = places.of(lab).bridge
        found.append(
            Problem(
                "this host filters with old-style iptables, which may drop what machines send",
                f"if they reach nothing: sudo iptables-legacy -I FORWARD -i {bridge} -j ACCEPT; "
                f"sudo iptables-legacy -I FORWARD -o {bridge} -j ACCEPT",
                fatal=False,
            )
        )
    return found


def gather(lab: Lab) -> Facts:
    """Ask this host; nothing is changed and nothing is sent."""
    root = os.geteuid() == 0
    sudo = root or (program("sudo") and run("asking sudo", ["true"], ok=()).status == 0)
    source, cached = "", False
    try:
        key = image.base_key(images.recipe())
        cached = (places.cache() / "images" / key / "root").is_dir()
    except LabError as error:
        source = str(error)
    return Facts(
        root=root,
        sudo=sudo,
        missing=tuple(name for name in PROGRAMS if not program(name)),
        keyring=Path(KEYRING).exists(),
        free={str(path): _free(path) for path in (places.cache(), places.HOST)},
        cached=cached,
        source=source,
        networks=networks_of_host(places.of(lab).bridge) if program("ip") else (),
        kernel=_kernel(),
        stacked=tuple(
            str(path)
            for path in (places.cache(), places.HOST)
            if file_system(path, Path("/proc/self/mounts").read_text()) == "overlay"
        ),
        legacy=firewall.legacy_drops(),
    )


def file_system(path: Path, mounts: str) -> str:
    """The type of the file system that a path is, or would be, on.

    Args:
        path: absolute.
        mounts: the content of /proc/self/mounts (fstab(5)'s format; later lines cover earlier).
    """
    entries = [line.split(" ")[1:3] for line in mounts.splitlines() if line.count(" ") >= 2]
    over = [(Path(at), kind) for at, kind in entries if path.is_relative_to(at)]
    return max(over, key=lambda entry: len(entry[0].parts), default=(path, ""))[1]


def _free(path: Path) -> int:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free // 2**20


def networks_of_host(own: str) -> tuple[tuple[IPv4Network, str], ...]:
    """The networks that this host uses, each with who uses it; ``own`` is a bridge to leave out."""
    asked = [["ip", "-j", "-4", "address", "show"], ["ip", "-j", "-4", "route", "show"]]
    addresses, routes = (run("asking for networks", argv, root=False).out for argv in asked)
    return networks_in(json.loads(addresses or "[]"), json.loads(routes or "[]"), own)


def networks_in(
    addresses: Sequence[Mapping[str, object]], routes: Sequence[Mapping[str, object]], own: str
) -> tuple[tuple[IPv4Network, str], ...]:
    """The networks that a host uses, each with who uses it.

    Args:
        addresses: of ``ip -j -4 address show``.
        routes: of ``ip -j -4 route show``.
        own: the lab's own bridge, which does not count.
    """
    found: dict[IPv4Network, str] = {}
    for interface in addresses:
        name = str(interface.get("ifname", ""))
        info = interface.get("addr_info", [])
        for item in info if isinstance(info, list) and name != own else []:
            network = IPv4Network(f"{item['local']}/{item['prefixlen']}", strict=False)
            other = " (the bridge of another lab)" if name.startswith(places.BRIDGE) else ""
            found.setdefault(network, f"interface {name} has {item['local']}{other}")
    for route in routes:
        target, name = str(route.get("dst", "")), str(route.get("dev", ""))
        if target[:1].isdigit() and name != own:
            found.setdefault(IPv4Network(target), f"a route to {target} over {name}")
    return tuple(found.items())


def _kernel() -> tuple[str, ...]:
    """What is certainly missing: neither there, nor built in, nor a module that could be loaded."""
    release = os.uname().release
    tree = Path("/lib/modules") / release
    lists = [tree / "modules.builtin", tree / "modules.dep"]
    known = "".join(p.read_text(errors="replace") for p in lists if p.exists())
    present = {"overlay": "overlay" in Path("/proc/filesystems").read_text()}
    for name in ("overlay", "bridge", "veth"):
        loaded = present.get(name, False) or Path("/sys/module", name).exists()
        # Without lists (a kernel without modules) only the file system can be judged.
        judged = bool(known) or name == "overlay"
        present[name] = loaded or f"/{name}.ko" in known or not judged
    return tuple(name for name, there in present.items() if not there)
