"""`drill.replay`: play the recorded terminals of a run."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

from provision.board import casts, replay
from provision.commands import show_drill
from provision.commands.base import lab_name, number, open_session, publish, task
from provision.commands.results import drills as results
from provision.core.errors import UsageError
from provision.core.lab import LAB_NAME, ROOT
from provision.drills.run import of_lab


@task(
    result=results.DrillRecordings,
    name="replay",
    positional=["run"],
    help={
        "run": "number of the run, as drill.report shows it (default: the last one)",
        "terminal": "which of its recorded terminals, from 1 (default: 1)",
        "speed": "2 is twice as fast; pauses take at most 2 seconds (default: 1)",
    },
)
def replay_task(
    c: Any, run: str = "", terminal: str = "1", speed: str = "1", lab: str = ""
) -> None:
    """Play the recorded terminals of a drill."""
    directory = ROOT / ".lab" / lab_name(lab)
    if not (LAB_NAME.fullmatch(directory.name) and directory.is_dir()):
        open_session(lab)  # raises: there is no such lab
    numbers = [item.number for item in of_lab(directory)]
    if not numbers and not run:
        raise UsageError("no drill was started in this lab", "invoke drill.list shows all drills")
    chosen = int(number(run, "run", 1, 1e6)) if run else numbers[-1]
    recorded = casts.of_run(directory, chosen)
    values = results.DrillRecordings(
        run=chosen,
        recordings=[
            results.DrillRecording(
                machine=cast.machine,
                started=show_drill.time_text(datetime.fromtimestamp(cast.start, UTC)),
                seconds=round(cast.seconds, 1),
                file=str(cast.path),
            )
            for cast in recorded
        ],
    )
    if publish(values):
        return
    which = int(number(terminal, "--terminal", 1, len(recorded))) - 1
    factor = number(speed, "--speed", 0.1, 100)
    cast = recorded[which]
    print(f"run {chosen} on {cast.machine}, terminal {which + 1} of {len(recorded)}", flush=True)

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    replay.play(cast, chosen, factor, write)
