"""`scripts/bench check`: lab.check of a healthy lab, and of one whose parts do not respond.

What is slow is silence, not an error: each fault here makes something accept work and never answer,
or drops packets.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from provision.core.lab import ROOT
from provision.operations.session import Session
from provision.providers.lxc import container
from provision.providers.lxc.paths import LabPaths
from tests.live.conftest import RunningLab
from tests.live.diagnosis.conftest import CHECK_SECONDS

ROUNDS = 9
HEALTHY_BEFORE = 0.95
"""The baseline: seconds of a healthy lab.check when it had 31 checks, on two quiet cores; the aim
is at most 1.5 times as long."""

Action = Callable[[Session], None]


@dataclass(frozen=True)
class SilentFault:
    """A fault and its end, both from outside of the machines, which may not answer any more."""

    name: str
    begin: Action
    end: Action


def processes(machine: str, name: str) -> SilentFault:
    """Suspend the processes of a machine that have a name; all of them without one."""

    def signal(stop: str) -> Action:
        def send(session: Session) -> None:
            pids = container.processes(LabPaths.of(session.lab), machine)
            for pid in pids:
                if not name or _name(pid) == name:
                    subprocess.run(["kill", f"-{stop}", str(pid)], check=False)

        return send

    return SilentFault(
        f"{machine}: {name or 'every process'} hangs", signal("STOP"), signal("CONT")
    )


def link(*machines: str) -> SilentFault:
    """Cut the network of machines: packets are lost, nothing refuses them."""

    def cut(state: str) -> Action:
        def set_link(session: Session) -> None:
            for machine in machines:
                end = LabPaths.of(session.lab).veth(session.lab.machine(machine).address)
                subprocess.run(["ip", "link", "set", "dev", end, state], check=True)

        return set_link

    return SilentFault(f"{', '.join(machines)}: network cut", cut("down"), cut("up"))


def power(machine: str) -> SilentFault:
    """Kill a machine."""
    return SilentFault(
        f"{machine}: killed",
        lambda session: session.provider.kill(session.lab, machine),
        lambda session: session.provider.start(session.lab, machine),
    )


MACHINES = ("lb-01", "web-01", "web-02")
FAULTS = (
    *(power(machine) for machine in MACHINES),
    *(link(machine) for machine in MACHINES),
    link(*MACHINES),
    *(processes(machine, "") for machine in MACHINES),
    *(processes(machine, "sshd") for machine in MACHINES),
    *(processes(machine, "systemd") for machine in MACHINES),
    processes("lb-01", "haproxy"),
    *(processes(web, name) for web in MACHINES[1:] for name in ("nginx", "gunicorn", "mysqld")),
)


def check(lab: RunningLab) -> tuple[float, int]:
    """The seconds that lab.check takes, and its exit status."""
    started = time.monotonic()
    status = lab.invoke("lab.check", check=False, timeout=120).returncode
    return time.monotonic() - started, status


def main(arguments: list[str]) -> int:
    """Measure and print; the exit status is 1 when a fault is not seen, or takes too long."""
    parser = argparse.ArgumentParser(prog="scripts/bench check")
    parser.add_argument("--fault", default="", help="only those whose name contains it")
    options = parser.parse_args(arguments)
    lab = RunningLab("bench-check")
    bad = 0
    try:
        lab.up()
        rounds = [(floor(lab), check(lab)[0]) for _ in range(ROUNDS)]
        floors, healthy = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"healthy, median of {ROUNDS}: {healthy:.2f} s, {healthy / floors:.2f} × the floor")
        print(f"  {healthy / HEALTHY_BEFORE:.2f} × the baseline of {HEALTHY_BEFORE} s (target 1.5)")
        worst = 0.0
        for fault in FAULTS:
            if options.fault not in fault.name:
                continue
            session = lab.session()
            fault.begin(session)
            try:
                time.sleep(1)
                seconds, status = check(lab)
            finally:
                fault.end(session)
            note = "" if status == 1 else f"    NOT SEEN: exit status {status}"
            print(f"{fault.name:<36} {seconds:6.2f} s{note}", flush=True)
            bad += status != 1 or seconds > CHECK_SECONDS
            worst = max(worst, seconds)
            lab.up()
        print(f"worst under faults: {worst:.2f} s (target {CHECK_SECONDS:.0f})")
    finally:
        lab.destroy()
    return int(bad > 0)


def floor(lab: RunningLab) -> float:
    """The seconds of the minimum for any tool: `scripts/bench.py floor`."""
    started = time.monotonic()
    program = [sys.executable, str(ROOT / "scripts" / "bench.py"), "floor", lab.name]
    subprocess.run(program, check=True, capture_output=True)
    return time.monotonic() - started


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
