"""Clocks: certificates are valid in a period, so machines and controller must agree on the time.

All clocks are compared before certificates are issued: a wrong clock of the controller would issue
certificates for the wrong period. Each machine's is checked again before it is configured.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from provision.core.errors import LabError
from provision.engine.agent.protocol import Action, Probe
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.engine.plan import Resource, State
from provision.services.tls.agent.probes import ClockReading, clock_probe

SKEW_SECONDS = 60.0
"""The tolerated difference between a machine's clock and the controller's."""

WHY = "certificates would count as expired or not yet valid"


def describe_skew(seconds: float) -> str:
    """A clock's difference from the controller's as text; positive is ahead."""
    if abs(seconds) <= SKEW_SECONDS:
        return "right"
    units = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
    size, unit = next(unit for unit in units if abs(seconds) >= 2 * unit[0])
    return f"{abs(seconds) / size:.0f} {unit} {'ahead' if seconds > 0 else 'behind'}"


@dataclass(frozen=True)
class Clock(Resource[ClockReading]):
    """A machine's clock; a wrong one stops the run.

    The lab does not set clocks: a virtual machine gets the time from its host or over NTP.
    """

    name: ClassVar[str] = "clock"

    def probe(self) -> Probe[ClockReading]:
        return clock_probe()

    def expected(self) -> State:
        return {"clock": "right"}

    def actual(self, result: ClockReading) -> State:
        return {"clock": describe_skew(result.seconds - time.time())}

    def actions(self, result: ClockReading) -> list[Action]:
        skew = self.actual(result)["clock"]
        reason = (
            f"the machine's clock is {skew}, compared with this computer's: {WHY}; set the wrong "
            "one (timedatectl set-ntp true)"
        )
        return [Action("fail", {"reason": reason})]


def check_clocks(context: Context, fleet: Fleet) -> None:
    """Compare the machines' clocks with the controller's in a lab with certificates.

    Machines that do not respond are skipped.

    Raises:
        LabError: when one is wrong.
    """
    if context.lab.topology.https:
        judge_skews({name: skew for name, skew in fleet.each(_skew).items() if skew is not None})


def _skew(host: Host) -> float | None:
    probe = clock_probe()
    try:
        return host.gather([probe])[probe].seconds - time.time()
    except LabError:
        return None


def judge_skews(skews: Mapping[str, float]) -> None:
    """Name the wrong clocks; when all machines differ alike, it is the controller's.

    Args:
        skews: seconds ahead, by machine.

    Raises:
        LabError: when one is wrong.
    """
    texts = {name: describe_skew(seconds) for name, seconds in skews.items()}
    wrong = {name: text for name, text in texts.items() if text != "right"}
    if not wrong:
        return
    if len(wrong) == len(texts) > 1 and len(set(wrong.values())) == 1:
        skew = next(iter(wrong.values()))
        raise LabError(
            f"this computer's clock seems to be wrong: compared with it, those of all machines are "
            f"{skew}; {WHY}",
            "set it (timedatectl set-ntp true), then invoke lab.up",
        )
    clocks = ", ".join(f"that of {name} is {skew}" for name, skew in wrong.items())
    raise LabError(
        f"clocks differ from this computer's: {clocks}; {WHY}",
        f"invoke lab.ssh {next(iter(wrong))} -- sudo timedatectl set-ntp true",
    )
