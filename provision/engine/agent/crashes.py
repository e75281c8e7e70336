"""Detect a service that crashes at every start, and quote why in its own words."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from provision.engine.agent.process import AgentError, run

CRASHES = 2
"""So many crashes in a row are a loop: a third start would fail in the same way."""

INTERVAL = 0.3
"""Seconds between two looks at a service that is being waited for."""

QUOTED = 8
"""Lines of a service's own output that an error quotes."""

JOURNAL_LINES = 200
"""Lines that are searched for the last exception."""

TRACEBACK = "Traceback (most recent call last):"
NOISE = re.compile(r"\[INFO\]|\[WARNING\]|Shutting down: |Reason: |Worker \(pid")
"""Lines of gunicorn that say that something ended, not why."""


HALT = "gunicorn.errors.HaltServer"
"""What gunicorn raises because a worker has ended; the worker's own exception is the cause."""


class CrashLoopError(AgentError):
    """A service does not start: it has failed, or crashes again and again."""


def own_lines(unit: str, since: float) -> list[str]:
    """What a unit's processes have printed since a time, without systemd's own lines.

    Args:
        since: seconds since 1970.
    """
    selected = [f"_SYSTEMD_UNIT={unit}", f"--since=@{since:.3f}", "-n", str(JOURNAL_LINES)]
    result = run(["journalctl", "--quiet", "--no-pager", "-o", "cat", *selected], timeout=5)
    return result.stdout.splitlines()


def cause(lines: list[str]) -> tuple[str, list[str]]:
    """Why a program ended: one line, and the lines around it; both empty without any output.

    The exception of the last traceback that is not `HALT`; without one, the last line that is not
    about the end.
    """
    lines = [line for line in lines if line.strip()]
    starts = [number for number, line in enumerate(lines) if line.endswith(TRACEBACK)]
    for start in reversed(starts):
        after = range(start + 1, len(lines))
        end = next((number for number in after if not lines[number].startswith(" ")), None)
        if end is not None and lines[end].startswith(HALT):
            lines = lines[:start] or lines
        elif end is not None:
            first = max(start, end + 1 - QUOTED)
            return lines[end], lines[first : end + 1]
    telling = [line for line in lines if not NOISE.search(line)] or lines
    return (telling[-1] if telling else ""), telling[-QUOTED:]


def crash_watch(unit: str, since: float) -> Callable[[], None]:
    """A function that raises once a unit, activated at ``since``, crashes at every start.

    ``systemctl restart`` has set its count of automatic restarts to 0 (systemctl(1), reset-failed).
    """
    looked = 0.0

    def look() -> None:
        nonlocal looked
        if time.monotonic() - looked < INTERVAL:
            return
        looked = time.monotonic()
        argv = ["systemctl", "show", "--property=ActiveState,NRestarts,Result", "--", unit]
        output = run(argv, timeout=5).stdout
        values = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
        restarts = int(values.get("NRestarts", "0") or 0)
        if values.get("ActiveState") != "failed" and restarts < CRASHES:
            return
        why, lines = cause(own_lines(unit, since))
        how = "crashes at every start" if restarts else f"has failed ({values.get('Result')})"
        what = f"{unit} {how}: {why}" if why else f"{unit} {how}, and prints nothing"
        raise CrashLoopError(what, "\n".join(lines))

    return look
