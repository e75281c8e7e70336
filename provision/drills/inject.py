"""Cause the fault of a drill on the machines, and leave nothing behind but the fault.

A script travels to `sh` through the agent's stdin. The times of files that it changes are set back
to the moment at which the story says that they were changed.
"""

from __future__ import annotations

from provision.core.errors import LabError
from provision.core.report import Report
from provision.drills.disruptions import reboot
from provision.drills.drill import BreakStep, Exercise
from provision.engine.fleet import Fleet

FOLDERS = "/etc /opt /srv /usr/local /usr/lib/systemd /home /root /var/www"
"""Where files with a changed content or entry get their time set back."""

STEP_SECONDS = 120.0

RUN = '(set -eu; eval "$(cat)")'
"""Runs the script on stdin; ``set -e`` holds in it."""

WRITE = '(set -e; mkdir -p "${2%/*}"; cat >"$2"; chmod "$3" "$2"; chown "$4" "$2")'
"""Writes stdin to a file; its arguments are path, mode and owner."""


def restoring_times(body: str, folders: str = FOLDERS) -> str:
    """A script that runs a command and sets back the times of what it changes.

    Its first argument is the time, in seconds since 1970. It exits as the command does. It waits
    a moment first: the kernel takes the times of files from a clock that is some milliseconds late.
    """
    return f"""
mark=$(date +%s.%N)
sleep 0.05
{body}
result=$?
find {folders} -xdev -newermt "@$mark" -exec touch -h -d "@$1" {{}} + 2>/dev/null
exit $result
"""


def cause_fault(fleet: Fleet, exercise: Exercise, changed: float, report: Report) -> None:
    """Run all steps in order.

    Args:
        changed: the time of changed files, in seconds since 1970.

    Raises:
        LabError: when a step fails; steps before it have changed machines.
    """
    for number, step in enumerate(exercise.steps, 1):
        report(step.machine, f"step {number} of {len(exercise.steps)}")
        if step.reboot:
            reboot(fleet, step.machine, report)
        else:
            _run(fleet, exercise, number, step, changed)


def _run(fleet: Fleet, exercise: Exercise, number: int, step: BreakStep, changed: float) -> None:
    host, moment = fleet.host(step.machine), f"{changed:.0f}"
    script, *arguments = (WRITE, step.file, step.mode, step.owner) if step.file else (RUN,)
    result = host.run(
        *("sh", "-c", restoring_times(script), "sh", moment, *arguments),
        input=step.content if step.file else step.run,
        timeout=STEP_SECONDS,
    )
    if not result.ok:
        raise LabError(
            f"drill {exercise.id}: step {number} of break failed on {step.machine} "
            f"(exit status {result.status})",
            f"invoke drill.try {exercise.id} shows it on a scratch lab",
            output=result.output,
        )
