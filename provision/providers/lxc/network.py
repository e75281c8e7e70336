"""A lab's network on this host: a bridge, masquerading, and a DNS forwarder."""

from __future__ import annotations

import fcntl
import socket
import struct
from contextlib import closing
from ipaddress import IPv4Address
from pathlib import Path

from provision.core.errors import ProviderError
from provision.core.lab import Lab
from provision.core.waiting import wait_until
from provision.providers.lxc import host_firewall, paths, sysctls
from provision.providers.lxc.container import INTERFACES
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.privileged import make_folders, run, write_file
from provision.providers.routes import source_address

_IFF_UP = 0x1  # netdevice(7)
_SIOCGIFADDR = 0x8915  # netdevice(7)


def up(lab: Lab) -> None:
    """Create the missing parts of the network.

    Raises:
        ProviderError: when a part cannot be created, or does not work afterwards.
    """
    names = LabPaths.of(lab)
    action = f"configuring the network of lab {lab.name}"
    if not names.directory.is_dir():
        make_folders(paths.HOST, names.directory)
    owner = f"{lab.root}\n{lab.name}\n"
    for path, text in ((names.network, f"{lab.network}\n"), (names.owner, owner)):
        if not path.exists() or path.read_text() != text:
            write_file(path, text)
    sysctls.raise_limits()
    commands = _link_commands(lab, names)
    if commands:
        run(action, ["ip", "-batch", "-"], stdin="\n".join(commands).encode())
    run(action, ["nft", "-f", "-"], stdin=render_nft(lab).encode())
    host_firewall.allow(names.bridge, names.table)
    _start_dnsmasq(lab, names)
    reason = problem(lab)
    if reason:
        raise ProviderError(f"refusing to connect to {lab.network}: {reason}", "invoke lab.up")


def _link_commands(lab: Lab, names: LabPaths) -> list[str]:
    """Commands for ``ip -batch`` that create or repair the bridge."""
    commands = []
    if not (INTERFACES / names.bridge).exists():
        commands.append(f"link add name {names.bridge} address {names.mac('bridge')} type bridge")
    if _address(names.bridge) != lab.gateway:
        commands.append(f"address replace {lab.gateway}/{lab.network.prefixlen} dev {names.bridge}")
    for machine in lab.machines:
        veth = INTERFACES / names.veth(machine.address)
        if veth.exists() and not (veth / "master").exists():  # its bridge was deleted
            commands.append(f"link set dev {veth.name} master {names.bridge}")
    if commands or not _is_up(names.bridge):
        commands.append(f"link set dev {names.bridge} up")
    return commands


def down(names: LabPaths) -> None:
    """Remove the network of a lab. Idempotent."""
    action = f"removing the network of lab {names.id}"
    pid = dnsmasq_pid(names)
    if pid:
        run(action, ["kill", str(pid)], ok=())
        wait_until(lambda: not dnsmasq_pid(names), 10, f"dnsmasq (process {pid}) to exit")
    host_firewall.revoke(names.table)
    text = f"table ip {names.table}\ndelete table ip {names.table}\n"
    run(action, ["nft", "-f", "-"], stdin=text.encode())
    for bridge in (names.bridge, names.spare_bridge):
        if (INTERFACES / bridge).exists():
            run(action, ["ip", "link", "delete", "dev", bridge, "type", "bridge"])
    run(action, ["rm", "-f", "--", names.dnsmasq_pid])
    if not any(entry.name.startswith(paths.BRIDGE_PREFIX) for entry in INTERFACES.iterdir()):
        sysctls.reset()


def problem(lab: Lab) -> str:
    """Why packets for the lab would not go through its bridge, or empty. No packet is sent."""
    bridge = LabPaths.of(lab).bridge
    if not (INTERFACES / bridge).exists():
        return f"the bridge {bridge} of lab {lab.name} does not exist"
    if not _is_up(bridge):
        return f"the bridge {bridge} of lab {lab.name} is down"
    address = _address(bridge)
    if address != lab.gateway:
        return (
            f"the bridge {bridge} of lab {lab.name} has {address or 'no address'}, "
            f"not {lab.gateway}"
        )
    for machine in lab.machines:
        source = source_address(str(machine.address))
        if source != lab.gateway:
            return f"{machine.address} ({machine.name}) is routed from {source}, not over {bridge}"
    return ""


def _is_up(interface: str) -> bool:
    """Whether an interface exists and is administratively up."""
    try:
        return bool(int((INTERFACES / interface / "flags").read_text(), 16) & _IFF_UP)
    except OSError:
        return False


def _address(interface: str) -> IPv4Address | None:
    request = struct.pack("256s", interface.encode())
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as any_socket:
        try:
            return IPv4Address(fcntl.ioctl(any_socket, _SIOCGIFADDR, request)[20:24])
        except OSError:
            return None


def render_nft(lab: Lab) -> str:
    """The lab's nftables table: masquerading, and guard chains.

    The guard chains drop packets for the lab that would leave through another interface: without
    the bridge, the default route would apply to them. Packets on the bridge of a spare pass these
    chains where net.bridge.bridge-nf-call-iptables is on.
    """
    names = LabPaths.of(lab)
    bridges = f'"{names.bridge}", "{names.spare_bridge}"'
    return f"""\
table ip {names.table}
delete table ip {names.table}
table ip {names.table} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {lab.network} oifname != {{ {bridges} }} masquerade
  }}
  chain guard_output {{
    type filter hook output priority filter; policy accept;
    ip daddr {lab.network} oifname != {{ "{names.bridge}", "lo" }} drop
  }}
  chain guard_forward {{
    type filter hook forward priority filter; policy accept;
    ip daddr {lab.network} oifname != {{ {bridges} }} drop
  }}
}}
"""


def dnsmasq_pid(names: LabPaths) -> int:
    """The process id of the lab's DNS forwarder; 0 when it does not run."""
    try:
        pid = int(names.dnsmasq_pid.read_text())
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return 0
    return pid if f"--pid-file={names.dnsmasq_pid}".encode() in arguments else 0


def _start_dnsmasq(lab: Lab, names: LabPaths) -> None:
    if dnsmasq_pid(names):
        return
    options = [
        "--conf-file=/dev/null",
        "--bind-interfaces",
        f"--listen-address={lab.gateway}",
        "--except-interface=lo",
        "--no-hosts",
        "--cache-size=1000",
        "--user=nobody",
        f"--pid-file={names.dnsmasq_pid}",
    ]
    run("starting the DNS forwarder", ["dnsmasq", *options])
