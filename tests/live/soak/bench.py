"""scripts/bench soak: light traffic and all timers; slopes of disk, memory, descriptors, threads.

Timers, journal rotation, certificate renewal (with the reload that follows one), backup and purge
are triggered once a minute, so that an hour has as many of them as months of operation.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

from provision.checks.growth import facts_probe
from provision.core.errors import LabError
from provision.engine.host import Host
from tests.live.conftest import RunningLab
from tests.live.soak.slopes import Series, table

SAMPLE = (Path(__file__).with_name("sample.py")).read_text(encoding="utf-8")
SAMPLE_SECONDS = 15.0
CYCLE_SECONDS = 60.0
READS_PER_SECOND = 2.0
READS_PER_WRITE = 10

TRIGGERED = (
    "lab-purge.service",
    "lab-facts.service",
    "lab-tls-renew.service",
    "lab-mysql-backup.service",
    "systemd-tmpfiles-clean.service",
    "dpkg-db-backup.service",
)
RELOADED = ("haproxy.service", "nginx.service")


def traffic(lab: RunningLab, stop: threading.Event, counts: dict[str, int]) -> None:
    """Requests at a fixed rate until the event is set; an error is counted."""
    number = 0
    while not stop.wait(1 / READS_PER_SECOND):
        number += 1
        try:
            if number % READS_PER_WRITE == 0:
                note = {"author": "soak", "text": f"note {number}"}
                status = lab.post("/api/notes", note).status_code
            else:
                status = lab.get("/" if number % 2 else "/static/foobar.css").status_code
            counts[f"status {status}"] += 1
        except OSError:
            counts["no response"] += 1


def trigger(host: Host) -> list[str]:
    """Run everything that runs on a schedule, and reload the servers; returns what failed."""
    failures = []
    units = host.run("systemctl", "list-unit-files", "--no-legend", "--plain").stdout
    present = {line.split()[0] for line in units.splitlines() if line}
    for verb, names in (("start", TRIGGERED), ("reload", RELOADED)):
        for name in names:
            if name not in present:
                continue
            active = verb == "start" or host.run("systemctl", "is-active", name).ok
            if active and not host.run("systemctl", verb, name, timeout=120).ok:
                failures.append(f"{host.name}: systemctl {verb} {name}")
    if not host.run("journalctl", "--rotate").ok:
        failures.append(f"{host.name}: journalctl --rotate")
    return failures


def sample(lab: RunningLab, host: Host, series: dict[tuple[str, str, str], Series]) -> None:
    """Add one point to every series of a machine."""
    seconds = time.monotonic()
    services = json.loads(host.run("python3", "-", input=SAMPLE).stdout)
    for unit, values in services.items():
        for metric, value in values.items():
            series[host.name, unit, metric].points.append((seconds, float(value)))
    probe = facts_probe(lab.session().lab.machine(host.name))
    for what, size in host.gather([probe])[probe].sizes.items():
        series[host.name, what, "disk_kib"].points.append((seconds, size.bytes / 1024))


def run(lab: RunningLab, minutes: float) -> int:
    """Soak a running lab and print the slopes; the number of failed triggers and requests."""
    series: dict[tuple[str, str, str], Series] = defaultdict(Series)
    counts: dict[str, int] = defaultdict(int)
    failures: list[str] = []
    stop = threading.Event()
    visitor = threading.Thread(target=traffic, args=(lab, stop, counts), daemon=True)
    end = time.monotonic() + minutes * 60
    next_cycle = time.monotonic() + CYCLE_SECONDS / 2
    visitor.start()
    try:
        with lab.fleet() as fleet:
            while time.monotonic() < end:
                started = time.monotonic()
                fleet.each(lambda host: sample(lab, host, series))
                if started >= next_cycle:
                    next_cycle += CYCLE_SECONDS
                    for failed in fleet.each(trigger).values():
                        failures += failed
                stop.wait(max(0.0, started + SAMPLE_SECONDS - time.monotonic()))
    finally:
        stop.set()
        visitor.join(15)
    print("\n".join(table(series)))
    print(f"requests: {dict(counts)}")
    print(f"failed triggers: {failures or 'none'}")
    bad = sum(n for name, n in counts.items() if not name.startswith("status 2"))
    return len(failures) + bad


def main() -> None:
    """Boot a lab, or use a running one, and soak it."""
    parser = argparse.ArgumentParser(prog="scripts/bench soak")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--topology", default="secured")
    parser.add_argument("--lab", default="", help="a running lab; by default a new one")
    options = parser.parse_args()
    lab = RunningLab(options.lab or "bench-soak")
    try:
        if not options.lab:
            lab.destroy()
            lab.up("--topology", options.topology)
        failed = run(lab, options.minutes)
    except LabError as error:
        sys.exit(f"error: {error}")
    finally:
        if not options.lab:
            lab.destroy()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
