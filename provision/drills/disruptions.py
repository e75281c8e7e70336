"""Disruptions that a fix must survive: a reboot, a restart of a service, load."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from provision.core.errors import HostError, LabError
from provision.core.report import Report
from provision.core.waiting import timeout_factor, wait_until
from provision.drills.drill import Disruption, DrillProbe
from provision.drills.probes import Judge, ProbeResult
from provision.engine.fleet import Fleet
from provision.operations.restart import REBOOT_SECONDS, boot_id
from provision.teaching.load import Load

SETTLE_SECONDS = 8.0
"""In which proofs may become true after the learner's last change."""

AFTER_SECONDS = 40.0
"""In which proofs must be true again after a reboot, a restart or load."""

LOAD_REQUESTS, LOAD_CLIENTS = 400, 20


def plain(proofs: Sequence[DrillProbe]) -> list[DrillProbe]:
    """The proofs that are judged at any time."""
    return [proof for proof in proofs if proof.after is None]


def judge_all(
    judge: Judge, proofs: Sequence[DrillProbe], report: Report, *, settle: float = SETTLE_SECONDS
) -> tuple[ProbeResult, ...]:
    """The results of all proofs, in their order.

    Those with ``after`` are judged only when all others hold; until then they do not hold.
    """
    results: dict[int, ProbeResult] = {}  # by the number of the proof
    numbers = [number for number, proof in enumerate(proofs) if proof.after is None]
    results |= zip(numbers, judge.settle(plain(proofs), settle), strict=True)
    hold = all(result.held for result in results.values())
    for disruption in dict.fromkeys(proof.after for proof in proofs if proof.after):
        numbers = [number for number, proof in enumerate(proofs) if proof.after == disruption]
        group = [proofs[number] for number in numbers]
        if not hold:
            late = "judged when the others hold"
            results |= {n: ProbeResult(proofs[n], False, late) for n in numbers}
            continue
        report(disruption.machine or "host", f"testing {disruption}")
        try:
            disrupt(judge, disruption, report)
        except LabError as error:
            why = error.what.splitlines()[0]
            results |= {n: ProbeResult(proofs[n], False, why) for n in numbers}
            hold = False
            continue
        judged = judge.settle(group, AFTER_SECONDS)
        results |= zip(numbers, judged, strict=True)
        hold = hold and all(result.held for result in judged)
    return tuple(results[number] for number in range(len(proofs)))


def disrupt(judge: Judge, disruption: Disruption, report: Report) -> None:
    """Reboot, restart, or send load.

    Raises:
        LabError: when the machine does not come back, or the service does not start.
    """
    if disruption.kind == "reboot":
        reboot(judge.fleet, disruption.machine, report)
    elif disruption.kind == "restart":
        host = judge.fleet.host(disruption.machine)
        result = host.run("systemctl", "restart", disruption.service, timeout=120)
        if not result.ok:
            raise LabError(f"{disruption.service} does not start on {disruption.machine}")
    else:
        Load(judge.session.lab, writes=10).burst(LOAD_REQUESTS, LOAD_CLIENTS)


def reboot(fleet: Fleet, machine: str, report: Report) -> None:
    """Reboot a machine, and wait for SSH.

    Raises:
        LabError: when it does not come back.
    """
    host = fleet.host(machine)
    before = boot_id(host)
    report(machine, "rebooting")
    with contextlib.suppress(HostError):  # the connection may be lost before the result
        host.run("systemctl", "reboot", timeout=20)
    host.close()

    def has_rebooted() -> bool:
        try:
            return boot_id(host) != before
        except LabError:
            host.close()
            return False

    seconds = REBOOT_SECONDS if timeout_factor() > 1 else 60.0
    wait_until(has_rebooted, seconds, f"the reboot of {machine}")
    report(machine, "is back")
