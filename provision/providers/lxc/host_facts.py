"""What the preflight checks need to know about this host. Read only; no packet is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from provision.core.lab import Lab
from provision.providers.image_recipe import load_recipe
from provision.providers.lxc import host_firewall, images, paths
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.privileged import is_installed, run
from provision.setup import containers
from provision.setup.containers import ContainerFacts
from provision.setup.host_os import free_mib


@dataclass(frozen=True)
class LxcHostFacts(ContainerFacts):
    """Facts of this host, also about one lab; the defaults are those of a suitable host.

    Args:
        networks: the networks that are in use, each with its user.
        on_overlay: folders that are on an overlay file system themselves.
    """

    free_mib: Mapping[str, int] = field(default_factory=dict)
    base_image_built: bool = False
    networks: tuple[tuple[IPv4Network, str], ...] = ()
    on_overlay: tuple[str, ...] = ()
    legacy_iptables: bool = False


def collect(lab: Lab) -> LxcHostFacts:
    """The facts of this host."""
    host = containers.collect()
    built = (paths.cache() / "images" / images.base_key(load_recipe()) / "root").is_dir()
    folders = (paths.cache(), paths.HOST)
    mounts = Path("/proc/self/mounts").read_text()
    return LxcHostFacts(
        **vars(host),
        free_mib={str(path): free_mib(path) for path in folders},
        base_image_built=built,
        networks=used_networks(LabPaths.of(lab).bridge) if is_installed("ip") else (),
        on_overlay=tuple(str(p) for p in folders if file_system_type(p, mounts) == "overlay"),
        legacy_iptables=host_firewall.has_legacy_filter(),
    )


def file_system_type(path: Path, mounts: str) -> str:
    """The type of the file system at an absolute path, according to /proc/self/mounts."""
    entries = [line.split(" ")[1:3] for line in mounts.splitlines() if line.count(" ") >= 2]
    above = [(Path(point), kind) for point, kind in entries if path.is_relative_to(point)]
    return max(above, key=lambda entry: len(entry[0].parts), default=(path, ""))[1]


def used_networks(own_bridge: str) -> tuple[tuple[IPv4Network, str], ...]:
    """The networks that this host uses, except that of one bridge, each with its user."""
    commands = [["ip", "-j", "-4", "address", "show"], ["ip", "-j", "-4", "route", "show"]]
    addresses, routes = (run("listing networks", argv, root=False).stdout for argv in commands)
    return parse_networks(json.loads(addresses or "[]"), json.loads(routes or "[]"), own_bridge)


def parse_networks(
    addresses: Sequence[Mapping[str, object]],
    routes: Sequence[Mapping[str, object]],
    own_bridge: str,
) -> tuple[tuple[IPv4Network, str], ...]:
    """The networks in the JSON of ``ip address`` and ``ip route``, each with its user."""
    networks: dict[IPv4Network, str] = {}
    for interface in addresses:
        name = str(interface.get("ifname", ""))
        info = interface.get("addr_info", [])
        for item in info if isinstance(info, list) and name != own_bridge else []:
            network = IPv4Network(f"{item['local']}/{item['prefixlen']}", strict=False)
            other = " (the bridge of another lab)" if name.startswith(paths.BRIDGE_PREFIX) else ""
            networks.setdefault(network, f"interface {name} has {item['local']}{other}")
    for route in routes:
        target, name = str(route.get("dst", "")), str(route.get("dev", ""))
        if target[:1].isdigit() and name != own_bridge:
            networks.setdefault(IPv4Network(target), f"a route to {target} over {name}")
    return tuple(networks.items())
