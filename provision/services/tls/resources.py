"""The clock that certificates are judged by, and sshd's configuration, which must let us in."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from provision.engine.plan import Answer, Resource, State
from provision.engine.resources.files import File

SKEW = 60.0
"""Seconds that a machine's clock may differ from the controller's."""


def clock_words(ahead: float) -> str:
    """How a clock is, compared with this computer's; ``ahead`` in seconds."""
    if abs(ahead) <= SKEW:
        return "right"
    units = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
    size, unit = next(each for each in units if abs(ahead) >= 2 * each[0])
    return f"{abs(ahead) / size:.0f} {unit} {'ahead' if ahead > 0 else 'behind'}"


@dataclass(frozen=True)
class Clock(Resource):
    """A clock that agrees with the controller's: certificates are only good at their time.

    Setting it is not the lab's business (a virtual machine gets the time from its host or from
    NTP); a wrong one stops the run before anything depends on it.
    """

    kind: ClassVar[str] = "clock"

    @property
    def name(self) -> str:
        """``clock``."""
        return "clock"

    def question(self) -> dict[str, Any]:
        """Nothing to say."""
        return {}

    def expected(self) -> State:
        """Right."""
        return {"clock": "right"}

    def actual(self, answer: Answer) -> State:
        """How far it is from this computer's now; the answer is at most a round trip old."""
        return {"clock": clock_words(answer["now"] - time.time())}

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Say so, and what to do."""
        words = self.actual(answer)["clock"]
        why = (
            f"the machine's clock is {words}, compared with this computer's: certificates would "
            "count as expired or not yet valid; set the wrong one (timedatectl set-ntp true)"
        )
        return [{"do": "refuse", "why": why}]


@dataclass(frozen=True)
class SshdFile(File):
    """A part of sshd's configuration: after it is written, sshd must still admit this login."""

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Write it, then ask sshd; when it would lock us out, the old file is put back."""
        return [*super().actions(answer), {"do": "sshd-admits"}]
