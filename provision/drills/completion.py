"""When a watched drill is ready to be judged in full: its proofs have held for some seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from provision.drills.drill import DrillProbe
from provision.drills.probes import ProbeResult

HOLD_SECONDS = 3.0
"""For which all proofs must have held."""

AGAIN_SECONDS = 60.0
"""After which a fix that did not survive is judged again although no proof has changed."""


@dataclass
class Completion:
    """Follows the results of the proofs that are judged at any time.

    Args:
        proofs: those without ``after``.
    """

    proofs: Sequence[DrillProbe]
    _since: float | None = None
    _failed: bool = False

    def is_ready(self, results: Sequence[ProbeResult], moment: float) -> bool:
        """Whether everything should be judged now.

        Args:
            moment: in seconds of a monotonic clock.
        """
        if not all(result.held for result in results):
            self._since, self._failed = None, False
            return False
        if self._since is None:
            self._since = moment
        return moment - self._since >= (AGAIN_SECONDS if self._failed else HOLD_SECONDS)

    def judged(self) -> None:
        """It was judged in full; if it did not pass, a change or some time comes first."""
        self._since, self._failed = None, True
