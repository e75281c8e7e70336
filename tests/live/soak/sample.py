"""Runs on a machine: memory, file descriptors, threads and connections of each service, as JSON."""

from __future__ import annotations

import json
import os
import re


def read(path: str) -> str:
    """A file of /proc; empty when the process has ended."""
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def established() -> set[str]:
    """Inodes of established TCP connections (proc_pid_net(5))."""
    inodes = set()
    for name in ("tcp", "tcp6"):
        for line in read(f"/proc/net/{name}").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "01":
                inodes.add(fields[9])
    return inodes


def descriptors(pid: str) -> list[str]:
    """What the open file descriptors of a process refer to."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []
    targets = []
    for name in names:
        try:
            targets.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue
    return targets


def main() -> None:
    """Print one object per service."""
    connected = established()
    services: dict[str, dict[str, int]] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        unit = re.search(
            r"/system\.slice/(?:[^/\n]+\.slice/)*([^/\n]+\.service)", read(f"/proc/{pid}/cgroup")
        )
        if not unit:
            continue
        values = services.setdefault(
            unit[1], {"pss_kib": 0, "descriptors": 0, "threads": 0, "connections": 0}
        )
        pss = re.search(r"^Pss:\s+(\d+)", read(f"/proc/{pid}/smaps_rollup"), re.MULTILINE)
        threads = re.search(r"^Threads:\s+(\d+)", read(f"/proc/{pid}/status"), re.MULTILINE)
        targets = descriptors(pid)
        sockets = {target[8:-1] for target in targets if target.startswith("socket:[")}
        values["pss_kib"] += int(pss[1]) if pss else 0
        values["threads"] += int(threads[1]) if threads else 0
        values["descriptors"] += len(targets)
        values["connections"] += len(sockets & connected)
    print(json.dumps(services))


if __name__ == "__main__":
    main()
