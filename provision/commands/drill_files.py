"""`drill.lint`, `drill.new`, `drill.try`: for authors of drills."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Iterator
from typing import Any

from provision.commands import document
from provision.commands.base import open_session, publish, task
from provision.commands.progress import Progress
from provision.commands.results import drills as results
from provision.core import child_commands
from provision.core.errors import LabError, UsageError, not_among
from provision.core.exit_status import ExitStatus
from provision.core.lab import ROOT
from provision.core.state import lab_names
from provision.drills import catalogue, flow, lint, skeleton, trial
from provision.drills.drill import Drill
from provision.drills.run import current
from provision.drills.source import relative

SCRATCH = "try"
"""The name of the lab on which `drill.try` works by default."""


@task(
    result=results.DrillLint,
    name="lint",
    positional=["drill"],
    help={"drill": "id of a drill, or the path of its file (default: all drills)"},
)
def lint_(c: Any, drill: str = "") -> None:
    """Verify drill files; every error has file and line."""
    paths = (catalogue.find(drill),) if drill else catalogue.paths()
    files = [results.LintedFile(file=relative(path), wrong=lint.lint(path)) for path in paths]
    errors = [error for file in files for error in file["wrong"]]
    if not publish(results.DrillLint(drill_files=files)):
        counts = ((len(files), "file"), (len(errors), "error"))
        summary = ", ".join(f"{n} {what}{'s' * (n != 1)}" for n, what in counts)
        print("\n".join([*errors, summary]))
    if errors:
        raise SystemExit(ExitStatus.FAILED)


@task(
    result=results.DrillSkeleton,
    positional=["id"],
    help={"id": "of the new drill, such as wrong-socket", "layer": "what it is about"},
)
def new(c: Any, id: str, layer: str = "web") -> None:
    """Write the skeleton of a new drill."""
    path = skeleton.write(id, layer)
    publish(results.DrillSkeleton(file=relative(path)))
    print(f"{relative(path)} is written: change it with an editor")
    print(f"next: invoke drill.lint {relative(path)}")


@task(
    result=results.DrillTrial,
    name="try",
    positional=["drill"],
    help={
        "drill": "id of a drill, or the path of its file",
        "seed": "selects machines, ports and values (default: random)",
        "topology": "one of the drill's topologies (default: its first)",
        "keep": "keep the scratch lab for the next time",
        "lab": f"an existing lab (default: a new one called {SCRATCH}, removed afterwards)",
    },
)
def try_(
    c: Any, drill: str, seed: str = "", topology: str = "", keep: bool = False, lab: str = ""
) -> None:
    """Try a drill: broken, wrong fix, solved, restored."""
    path = catalogue.find(drill)
    errors = lint.lint(path)
    if errors:
        raise LabError("\n".join(errors), "fix them, then run it again")
    loaded = flow.drill_of(drill)
    chosen = seed or secrets.token_hex(3)
    if topology and topology not in loaded.topologies:
        what = f"drill {loaded.id} does not work in {topology}"
        raise not_among(what, topology, loaded.topologies)
    scratch = not lab and SCRATCH not in lab_names()
    name = lab or SCRATCH
    with _lab(name, topology or loaded.topologies[0], create=scratch, remove=scratch and not keep):
        session = open_session(name)
        running = current(session.lab.directory)
        if running is not None:
            raise UsageError(
                f"drill {running.drill} is running in lab {name}", "invoke drill.finish ends it"
            )
        tried = _attempt(session, loaded, chosen)
    seconds = {phase: round(value, 1) for phase, value in tried.seconds.items()}
    publish(results.DrillTrial(drill=loaded.id, seed=chosen, phase_seconds=seconds))
    print(f"drill {loaded.id} works with seed {chosen}")


def _attempt(session: Any, drill: Drill, seed: str) -> trial.Trial:
    with session.lock(), Progress() as report:
        flow.require_topology(session, drill)
        flow.require_healthy(session, report)
        flow.save_good_state(session, f"before trying drill {drill.id}", report)
        return trial.attempt(session, drill, seed, report, lambda text: print(text, flush=True))


@contextlib.contextmanager
def _lab(name: str, topology: str, *, create: bool, remove: bool) -> Iterator[None]:
    """A lab for the body; a new one is removed afterwards, also after a failure."""
    if create:
        print(f"creating the scratch lab {name} with topology {topology}", flush=True)
        _invoke("lab.up", "--lab", name, "--topology", topology)
    try:
        yield
    finally:
        if remove:
            _invoke("lab.destroy", "--yes", "--lab", name)


def _invoke(*words: str) -> None:
    argv = [sys.executable, "-m", "invoke", *words]
    stdout = sys.stderr if document.requested() else None
    if child_commands.run(argv, cwd=ROOT, stdout=stdout):
        raise LabError(f"invoke {' '.join(words)} failed", "see its messages above")
