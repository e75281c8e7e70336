"""Parsers and judges of resource ceilings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provision.checks.ceilings import (
    LAB_PATHS,
    judge_disk,
    judge_inodes,
    judge_memory,
    judge_ports,
)
from provision.engine.agent.suspension import parse_unit
from provision.engine.agent.unit_health import UnitHealth, UnitsHealth
from provision.engine.agent.usage import (
    FileSystem,
    Usage,
    collect_usage,
    local_ports,
    parse_limit,
    parse_memory,
    parse_mounts,
    parse_tcp_sockets,
)
from provision.services.haproxy.statistics import Slots, parse_slots

MOUNTS = r"""
22 1 0:21 / / rw,relatime - overlay /var/cache/layers rw
23 22 0:22 / /proc rw,nosuid - proc proc rw
24 22 0:23 / /dev/shm rw,nosuid - tmpfs tmpfs rw
25 22 0:24 / /dev rw - tmpfs none rw
26 22 0:25 / /run rw,nosuid - tmpfs tmpfs rw,size=4936732k
27 26 0:26 / /run/credentials/systemd-journald.service ro,nosuid - tmpfs tmpfs rw
28 22 0:27 / /var/lib/with\040space rw - ext4 /dev/sda2 rw
29 22 0:28 / /mnt/remote rw - nfs4 server:/ rw
30 22 0:21 /srv /mnt/again rw - overlay /var/cache/layers rw
31 22 0:30 / /usr/local ro - ext4 /dev/sdb1 ro
""".strip()

GIB = 2**30


def usage(**changes: object) -> Usage:
    disk = FileSystem("/", 100 * GIB, 60 * GIB, 1000, 900)
    run = FileSystem("/run", GIB, GIB, 1000, 990)
    return replace(Usage((disk, run), 8 * GIB, 4 * GIB, 28232, 100), **changes)  # type: ignore[arg-type]


def test_mounts_with_data_are_found_once() -> None:
    assert parse_mounts(MOUNTS) == ["/", "/dev/shm", "/run", "/var/lib/with space"]


def test_a_mount_hides_what_is_below_it() -> None:
    covered = MOUNTS + "\n40 22 0:40 / /run rw - proc proc rw"
    assert "/run" not in parse_mounts(covered)


def test_this_computer_has_usage() -> None:
    here = collect_usage({})
    assert here.memory > here.available > 0
    assert here.ports > 0
    assert all(0 <= f.free <= f.size for f in here.filesystems)


def test_parsers_of_proc() -> None:
    assert parse_memory("MemTotal: 1024 kB\nHugePages_Total: 3\n") == {
        "MemTotal": 2**20,
        "HugePages_Total": 3,
    }
    assert parse_tcp_sockets("sockets: used 9\nTCP: inuse 17 orphan 0 tw 80 alloc 433\n") == 97
    assert parse_tcp_sockets("") == 0
    table = "  sl  local_address rem_address\n  0: 0100007F:9C40 0100007F:0050 01\n"
    assert local_ports(table, 40000, 40010) == {40000}
    assert local_ports(table, 50000, 50010) == set()
    assert parse_limit("Limit  Soft\nMax open files            1024     4096    files\n") == 1024
    assert parse_limit("Max open files            unlimited     unlimited    files\n") == 0


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("9:name=systemd:/system.slice/nginx.service\n0::/x\n", "nginx.service"),
        ("0::/system.slice/mysql.service\n", "mysql.service"),
        ("0::/system.slice/system-lab.slice/lab@1.service\n", "lab@1.service"),
        ("0::/user.slice/user-0.slice/session-1.scope\n", ""),
    ],
)
def test_unit_of_a_process(text: str, unit: str) -> None:
    assert parse_unit(text) == unit


def test_slots() -> None:
    assert parse_slots("Maxconn: 4000\nCurrConns: 12\nnode: lb-01\n") == Slots(12, 4000)
    assert parse_slots("unknown command") is None


@pytest.mark.parametrize("share", [0.96, 1.0])
def test_full_disk(share: float) -> None:
    free = int(GIB * (1 - share))
    verdict = judge_disk(usage(filesystems=(FileSystem("/var/log", GIB, free, 0, 0),)))
    assert not verdict.ok
    assert verdict.severity == "error"
    assert "/var/log" in verdict.cause
    assert ("ENOSPC" in verdict.cause) == (share == 1.0)


def test_levels_of_disks_and_inodes() -> None:
    assert judge_disk(usage()).ok
    assert judge_inodes(usage()).ok
    warned = judge_disk(usage(filesystems=(FileSystem("/", 100, 15, 0, 0),)))
    assert (warned.ok, warned.severity) == (False, "warning")
    full = judge_inodes(usage(filesystems=(FileSystem("/run", 100, 90, 100, 2),)))
    assert (full.ok, full.severity) == (False, "error")
    assert "/run: 98 % of 100 inodes" in full.cause


def test_existing_machines_are_judged_by_the_file_systems_that_the_lab_uses() -> None:
    sizes = {"/": GIB, "/home": 0, "/var": GIB, "/var/log": 0}
    disks = tuple(FileSystem(mount, GIB, free, 100, 50) for mount, free in sizes.items())
    assert not judge_disk(usage(filesystems=disks)).ok
    assert judge_disk(usage(filesystems=disks), LAB_PATHS).ok
    full = FileSystem("/var", GIB, 0, 100, 0)
    assert not judge_disk(usage(filesystems=(*disks[:2], full)), LAB_PATHS).ok
    assert not judge_inodes(usage(filesystems=(*disks[:2], full)), LAB_PATHS).ok


def test_ports() -> None:
    assert judge_ports(usage()).ok
    assert not judge_ports(usage(ports_used=28000)).ok
    small = judge_ports(usage(ports=11, ports_used=0))
    assert (small.ok, small.severity) == (False, "error")


def test_memory_and_oom_kills() -> None:
    assert judge_memory(usage(), UnitsHealth()).ok
    low = judge_memory(usage(available=GIB // 2), UnitsHealth())
    assert (low.ok, low.severity) == (False, "warning")
    none = judge_memory(usage(available=GIB // 16), UnitsHealth())
    assert (none.ok, none.severity) == (False, "error")
    failed = UnitHealth("loaded", "failed", "transient", "oom-kill", journal="oom-kill")
    killed = judge_memory(usage(), UnitsHealth({"run-1.service": failed}), "web-01")
    assert (killed.ok, killed.severity) == (False, "error")
    assert "run-1.service" in killed.cause
    assert killed.hint == "invoke lab.ssh web-01 -- sudo systemctl reset-failed run-1.service"
    earlier = UnitHealth("loaded", "active", "enabled", since=300, restarts=1, journal="oom-kill")
    seen = judge_memory(usage(), UnitsHealth({"foobar.service": earlier}))
    assert (seen.ok, seen.severity) == (False, "warning")
