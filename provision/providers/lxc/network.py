"""A lab's network on this host: a bridge, address translation, a DNS forwarder."""

from __future__ import annotations

import fcntl
import socket
import struct
import time
from collections.abc import Callable
from contextlib import closing
from ipaddress import IPv4Address
from pathlib import Path

from provision.core.errors import ProviderError
from provision.core.lab import Lab
from provision.providers.lxc import firewall, machine, places, sysctls
from provision.providers.lxc.privileged import run, write

_UP = 0x1  # IFF_UP, netdevice(7)
_SIOCGIFADDR = 0x8915  # netdevice(7)


def up(lab: Lab) -> None:
    """Bring the network up; what is there already stays as it is.

    Raises:
        ProviderError: when this host refuses a part of it.
    """
    at = places.of(lab)
    doing = f"the network of lab {lab.name}"
    if not at.directory.is_dir():
        run(doing, ["install", "-d", "-m", "755", "--", places.HOST, at.directory])
    for path, text in ((at.network, f"{lab.network}\n"), (at.owner, f"{lab.root}\n{lab.name}\n")):
        if not path.exists() or path.read_text() != text:
            write(path, text)
    sysctls.enough()
    commands = []
    if not (machine.INTERFACES / at.bridge).exists():
        commands.append(f"link add name {at.bridge} address {at.mac('bridge')} type bridge")
    if address(at.bridge) != lab.gateway:
        commands.append(f"address replace {lab.gateway}/{lab.network.prefixlen} dev {at.bridge}")
    for cable in (at.veth(member.address) for member in lab.machines):
        if (machine.INTERFACES / cable).exists() and not (
            machine.INTERFACES / cable / "master"
        ).exists():
            commands.append(f"link set dev {cable} master {at.bridge}")  # of a lost bridge
    if commands or not is_up(at.bridge):
        commands.append(f"link set dev {at.bridge} up")
        run(doing, ["ip", "-batch", "-"], stdin="\n".join(commands).encode())
    run(doing, ["nft", "-f", "-"], stdin=nft_text(lab).encode())
    firewall.open_for(at.bridge, at.table)
    _dnsmasq(lab)


def down(at: places.Places) -> None:
    """Take the network of a lab away; parts that are missing are no error."""
    doing = f"the network of lab {at.id}"
    pid = dnsmasq(at)
    if pid:
        run(doing, ["kill", str(pid)], ok=())
        _until(lambda: not dnsmasq(at), f"the DNS forwarder (process {pid}) does not end")
    firewall.close_for(at.table)
    text = f"table ip {at.table}\ndelete table ip {at.table}\n"
    run(doing, ["nft", "-f", "-"], stdin=text.encode())
    if (machine.INTERFACES / at.bridge).exists():
        run(doing, ["ip", "link", "delete", "dev", at.bridge, "type", "bridge"])
    run(doing, ["rm", "-f", "--", at.dnsmasq_pid])
    if not any(entry.name.startswith(places.BRIDGE) for entry in machine.INTERFACES.iterdir()):
        sysctls.put_back()


def problem(lab: Lab) -> str:
    """Why nothing may be sent to the lab's addresses now; empty when its network is up.

    It asks the kernel only: nothing is sent.
    """
    bridge = places.of(lab).bridge
    if not (machine.INTERFACES / bridge).exists():
        return f"the bridge {bridge} of lab {lab.name} is not there"
    if not is_up(bridge):
        return f"the bridge {bridge} of lab {lab.name} is down"
    found = address(bridge)
    if found != lab.gateway:
        return (
            f"the bridge {bridge} of lab {lab.name} has {found or 'no address'}, not {lab.gateway}"
        )
    for member in lab.machines:
        source = source_for(member.address)
        if source != lab.gateway:
            return f"{member.address} ({member.name}) is routed by {source}, not over {bridge}"
    return ""


def is_up(interface: str) -> bool:
    """Whether that interface is there and administratively up."""
    try:
        return bool(int((machine.INTERFACES / interface / "flags").read_text(), 16) & _UP)
    except OSError:
        return False


def address(interface: str) -> IPv4Address | None:
    """The interface's IPv4 address, if it has one."""
    request = struct.pack("256s", interface.encode())
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asked:
        try:
            return IPv4Address(fcntl.ioctl(asked, _SIOCGIFADDR, request)[20:24])
        except OSError:
            return None


def source_for(target: IPv4Address) -> IPv4Address | None:
    """Which of our addresses the kernel would send from; connecting UDP sends nothing (udp(7))."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asked:
        try:
            asked.connect((str(target), 9))
            return IPv4Address(asked.getsockname()[0])
        except OSError:
            return None


def nft_text(lab: Lab) -> str:
    """The lab's table: translation for what leaves, and a guard.

    The guard drops what is meant for the lab but would leave by another interface, as happens
    when a bridge is gone and the default route takes its packets.
    """
    at = places.of(lab)
    return f"""\
table ip {at.table}
delete table ip {at.table}
table ip {at.table} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {lab.network} oifname != "{at.bridge}" masquerade
  }}
  chain guard_output {{
    type filter hook output priority filter; policy accept;
    ip daddr {lab.network} oifname != {{ "{at.bridge}", "lo" }} drop
  }}
  chain guard_forward {{
    type filter hook forward priority filter; policy accept;
    ip daddr {lab.network} oifname != "{at.bridge}" drop
  }}
}}
"""


def dnsmasq(at: places.Places) -> int:
    """The process id of the lab's DNS forwarder; 0 when it does not run."""
    try:
        pid = int(at.dnsmasq_pid.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return 0
    return pid if f"--pid-file={at.dnsmasq_pid}".encode() in words else 0


def _dnsmasq(lab: Lab) -> None:
    at = places.of(lab)
    if dnsmasq(at):
        return
    run(
        "the DNS forwarder",
        [
            "dnsmasq",
            "--conf-file=/dev/null",
            "--bind-interfaces",
            f"--listen-address={lab.gateway}",
            "--except-interface=lo",
            "--no-hosts",
            "--cache-size=1000",
            "--user=nobody",
            f"--pid-file={at.dnsmasq_pid}",
        ],
    )


def _until(condition: Callable[[], bool], otherwise: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ProviderError(otherwise)
        time.sleep(0.02)
