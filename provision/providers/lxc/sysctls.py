"""Kernel parameters of this host that labs need: raised for the first lab, reset after the last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from provision.providers.lxc import paths
from provision.providers.lxc.privileged import run, write_file

MINIMUM = {
    "net.ipv4.ip_forward": 1,  # machines reach package sources through this host
    # All containers share root's limit. A machine needs about 20 of the default 128 (systemd,
    # journald …), and dnsmasq exits at once when it gets none.
    "fs.inotify.max_user_instances": 2048,
    # Each mysqld uses 2300 of the default 65536 (native AIO).
    "fs.aio-max-nr": 1048576,
    # All containers share each user's limit. A service has one or two of the default 200.
    "kernel.keys.maxkeys": 2000,
}
RECORD = paths.HOST / "sysctls"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TREE = Path("/proc/sys")


def raise_limits() -> None:
    """Raise values that are too low.

    The original values are recorded together with the boot id, because a reboot resets all.
    """
    current = _current()
    low = {name: value for name, value in MINIMUM.items() if current.get(name, value) < value}
    if not low:
        return
    original = {**current, **_recorded()}
    before = {name: original[name] for name in MINIMUM if name in original}
    record = {"boot": BOOT_ID.read_text().strip(), "before": before}
    write_file(RECORD, json.dumps(record))
    _set(low)


def reset() -> None:
    """Reset the values that we raised, except those that were changed again since."""
    if not RECORD.exists():
        return
    _set(to_reset(_recorded(), _current()))
    run("removing the record of kernel parameters", ["rm", "-f", "--", RECORD])


def to_reset(original: Mapping[str, int], current: Mapping[str, int]) -> dict[str, int]:
    """The parameters that still have our value, with their original values."""
    return {
        name: value
        for name, value in original.items()
        if current.get(name) == MINIMUM[name] != value
    }


def _set(values: Mapping[str, int]) -> None:
    if values:
        words = [f"{name}={value}" for name, value in values.items()]
        run("setting kernel parameters", ["sysctl", "-q", "-w", *words])


def _current() -> dict[str, int]:
    files = {name: TREE / name.replace(".", "/") for name in MINIMUM}
    return {name: int(file.read_text()) for name, file in files.items() if file.exists()}


def _recorded() -> dict[str, int]:
    try:
        record = json.loads(RECORD.read_text())
    except (OSError, ValueError):
        return {}
    if record.get("boot") != BOOT_ID.read_text().strip():
        return {}
    return {name: int(record["before"][name]) for name in MINIMUM if name in record["before"]}
