"""The configuration of a container and of its network: golden texts."""

from __future__ import annotations

import io
import tarfile
from ipaddress import IPv4Network
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from provision.core.lab import Lab
from provision.providers.lxc import container, container_config, network
from provision.providers.lxc.paths import LabPaths

CONFIG = """\
lxc.include = /usr/share/lxc/config/common.conf
lxc.apparmor.profile = unconfined
lxc.rootfs.path = overlay:/c/layers/ab/root:/c/images/cd/root:/var/lib/foobar-lab/7e5e8cf8/web-01/delta
lxc.uts.name = web-01
lxc.start.auto = 0
lxc.tty.max = 0
lxc.signal.halt = SIGRTMIN+3
lxc.console.logfile = /var/lib/foobar-lab/7e5e8cf8/web-01/console
lxc.console.rotate = 1
lxc.cgroup.dir.monitor = lxc.monitor.foobar-lab.7e5e8cf8.web-01
lxc.cgroup.dir.container = lxc.lab.foobar-lab.7e5e8cf8/lxc.payload.foobar-lab.7e5e8cf8.web-01
lxc.cgroup.dir.monitor.pivot = lxc.pivot.foobar-lab.7e5e8cf8
lxc.net.0.type = veth
lxc.net.0.link = lab-7e5e8cf8
lxc.net.0.flags = up
lxc.net.0.name = eth0
lxc.net.0.hwaddr = 02:0c:5e:65:6d:55
lxc.net.0.veth.pair = v7e5e8cf8-380b
lxc.net.0.ipv4.address = 192.168.56.11/24
lxc.net.0.ipv4.gateway = 192.168.56.1
"""  # noqa: E501

NFT = """\
table ip lab_7e5e8cf8
delete table ip lab_7e5e8cf8
table ip lab_7e5e8cf8 {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 192.168.56.0/24 oifname != { "lab-7e5e8cf8", "spare-7e5e8cf8" } masquerade
  }
  chain guard_output {
    type filter hook output priority filter; policy accept;
    ip daddr 192.168.56.0/24 oifname != { "lab-7e5e8cf8", "lo" } drop
  }
  chain guard_forward {
    type filter hook forward priority filter; policy accept;
    ip daddr 192.168.56.0/24 oifname != { "lab-7e5e8cf8", "spare-7e5e8cf8" } drop
  }
}
"""

SOCKETS = """\
Num       RefCount Protocol Flags    Type St Inode Path
0000000031810f8d: 00000002 00000000 00010000 0001 01 23549 /run/dbus/system_bus_socket
000000001e4329bd: 00000002 00000000 00010000 0001 01 24576 @/var/lib/foobar-lab/7e5e8cf8/web-01/command
000000009bc29ade: 00000002 00000000 00010000 0001 01 25685 @/var/lib/foobar-lab/00000000/lb-01/command
000000009824f70b: 00000003 00000000 00000000 0001 03 17014
"""  # noqa: E501


def test_lxc_configuration(lab: Lab) -> None:
    lower = [Path("/c/layers/ab/root"), Path("/c/images/cd/root")]
    assert container_config.render_config(lab, lab.machine("web-01"), lower) == CONFIG


def test_nftables_table(lab: Lab) -> None:
    assert network.render_nft(lab) == NFT


def test_owners_and_modes_of_a_machines_files(lab: Lab) -> None:
    key = container_config.new_host_key()
    data = container_config.machine_files(
        lab, lab.machine("web-01"), "lab", "ssh-ed25519 AAAA lab", key
    )
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {m.name: m for m in tar.getmembers()}
        texts = {n: tar.extractfile(m) for n, m in members.items() if m.isfile()}
        content = {n: file.read().decode() for n, file in texts.items() if file}
    shown = {n: f"{m.mode:o} {m.uid}" for n, m in members.items()}
    assert shown == {
        "delta": "755 0",
        "delta/etc": "755 0",
        "delta/etc/ssh": "755 0",
        "delta/home": "755 0",
        "delta/home/lab": "700 1000",
        "delta/home/lab/.ssh": "700 1000",
        "delta/home/lab/.ssh/authorized_keys": "600 1000",
        "delta/etc/hostname": "644 0",
        "delta/etc/hosts": "644 0",
        "delta/etc/resolv.conf": "644 0",
        "delta/etc/ssh/ssh_host_ed25519_key": "600 0",
        "delta/etc/ssh/ssh_host_ed25519_key.pub": "644 0",
    }
    assert content["delta/etc/resolv.conf"] == "nameserver 192.168.56.1\n"
    assert "192.168.56.11\tweb-01\n" in content["delta/etc/hosts"]
    assert [n for n, text in content.items() if "PRIVATE" in text] == [
        "delta/etc/ssh/ssh_host_ed25519_key"
    ]


def test_each_host_key_is_a_new_pair() -> None:
    one, two = container_config.new_host_key(), container_config.new_host_key()
    assert one.private != two.private
    assert one.public.startswith("ssh-ed25519 AAAA")
    assert load_ssh_private_key(one.private.encode(), password=None)


def test_interface_names_are_short_enough_and_unique(lab: Lab) -> None:
    names = LabPaths.of(lab)
    wide = IPv4Network("10.1.0.0/16")
    veths = {names.veth(wide[n]) for n in (1, 10, 300, 65534)}
    assert len(veths) == 4
    assert max(map(len, [*veths, names.bridge])) <= 15


def test_mac_addresses_are_fixed_local_and_unicast(lab: Lab) -> None:
    one, two = (LabPaths.of(lab).mac(m.address) for m in lab.machines)
    assert one == LabPaths.of(lab).mac(lab.machines[0].address)
    assert one != two
    assert one != LabPaths("00000000").mac(lab.machines[0].address)
    assert int(one.split(":")[0], 16) & 0b11 == 0b10


def test_running_machines_are_those_of_this_lab_whose_monitor_listens(
    lab: Lab, tmp_path: Path
) -> None:
    sockets = tmp_path / "unix"
    sockets.write_text(SOCKETS)
    assert container.running_machines(LabPaths.of(lab), sockets) == {"web-01"}
