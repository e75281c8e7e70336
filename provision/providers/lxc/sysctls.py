"""What this host's kernel must allow while a lab is up, and is put back after the last one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from provision.providers.lxc import places
from provision.providers.lxc.privileged import run, write

LEAST = {
    "net.ipv4.ip_forward": 1,  # machines reach package sources through this host
    # All machines' root is this host's root. A machine needs some 20 (systemd, journald …) of
    # the usual 128, and a DNS forwarder without one ends at once.
    "fs.inotify.max_user_instances": 2048,
    # Each mysqld takes 2300 of the usual 65536 (native AIO).
    "fs.aio-max-nr": 1048576,
}
RECORD = places.HOST / "sysctls"
BOOT = Path("/proc/sys/kernel/random/boot_id")
TREE = Path("/proc/sys")


def enough() -> None:
    """Raise what is too low; what it was is kept with the boot's id, since a reboot resets all."""
    now = _now()
    low = {name: least for name, least in LEAST.items() if now.get(name, least) < least}
    if not low:
        return
    kept = {**now, **_kept()}
    record = {"boot": BOOT.read_text().strip(), "before": {n: kept[n] for n in LEAST if n in kept}}
    write(RECORD, json.dumps(record))
    run("this host's limits", ["sysctl", "-q", "-w", *(f"{n}={v}" for n, v in low.items())])


def put_back() -> None:
    """Set what we raised to what it was, unless somebody has changed it since."""
    if not RECORD.exists():
        return
    changed = to_restore(_kept(), _now())
    if changed:
        run("this host's limits", ["sysctl", "-q", "-w", *(f"{n}={v}" for n, v in changed.items())])
    run("this host's limits", ["rm", "-f", "--", RECORD])


def to_restore(kept: Mapping[str, int], now: Mapping[str, int]) -> Mapping[str, int]:
    """Those that still have our value, with the one they had.

    Args:
        kept: what they were before the first lab came up.
        now: what they are.
    """
    return {n: v for n, v in kept.items() if now.get(n) == LEAST[n] and v != LEAST[n]}


def _now() -> dict[str, int]:
    paths = {name: TREE / name.replace(".", "/") for name in LEAST}
    return {name: int(path.read_text()) for name, path in paths.items() if path.exists()}


def _kept() -> dict[str, int]:
    try:
        record = json.loads(RECORD.read_text())
    except (OSError, ValueError):
        return {}
    if record.get("boot") != BOOT.read_text().strip():
        return {}
    return {name: int(record["before"][name]) for name in LEAST if name in record["before"]}
