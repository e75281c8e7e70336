"""Clocks, compared before anything is certified or configured: certificates are good at their time.

A wrong clock of this computer would otherwise be found by every machine for itself, after this
computer had made certificates for a day that has not come.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from provision.core.errors import LabError
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.services.tls.resources import clock_words

WHY = "certificates would count as expired or not yet valid"


def agree(context: Context, fleet: Fleet) -> None:
    """Compare every machine's clock with this computer's, where certificates are judged by them.

    A machine that does not answer is left to whoever asks next.

    Raises:
        LabError: when one is wrong; whose it is, and what to do.
    """
    if context.lab.topology.https:
        judge({name: ahead for name, ahead in fleet.each(_ahead).items() if ahead is not None})


def _ahead(host: Host) -> float | None:
    """How many seconds a machine's clock is ahead; the answer is at most a round trip old."""
    try:
        return float(host.gather({"clock": [{}]})["clock"][0]["now"]) - time.time()
    except LabError:
        return None


def judge(ahead: Mapping[str, float]) -> None:
    """Say whose clock is wrong.

    Args:
        ahead: seconds by machine.

    Raises:
        LabError: when one is; this computer's, when all machines differ from it alike.
    """
    words = {name: clock_words(seconds) for name, seconds in ahead.items()}
    wrong = {name: said for name, said in words.items() if said != "right"}
    if not wrong:
        return
    if len(wrong) == len(words) > 1 and len(set(wrong.values())) == 1:
        said = next(iter(wrong.values()))
        raise LabError(
            f"this computer's clock is wrong, it seems: those of all machines are {said}, compared "
            f"with it; {WHY}",
            "set it (timedatectl set-ntp true), then invoke lab.up",
        )
    each = ", ".join(f"that of {name} is {said}" for name, said in wrong.items())
    raise LabError(
        f"clocks differ from this computer's: {each}; {WHY}",
        f"invoke lab.ssh {next(iter(wrong))} -- sudo timedatectl set-ntp true",
    )
