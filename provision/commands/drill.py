"""`drill.*`: start a drill, look at it, get hints, have it graded, end it."""

from __future__ import annotations

import random
import secrets
from typing import Any

from provision.commands import show_drill, tables
from provision.commands.base import (
    console,
    lab_name,
    number,
    open_session,
    print_markdown,
    publish,
    task,
)
from provision.commands.progress import Progress
from provision.commands.results import drills as results
from provision.core import next_steps
from provision.core.errors import LabError, UsageError
from provision.core.exit_status import ExitStatus
from provision.core.hints import for_lab
from provision.core.lab import ROOT
from provision.drills import catalogue, flow
from provision.drills.disruptions import SETTLE_SECONDS, plain
from provision.drills.hints import give_hint
from provision.drills.probes import ProbeResult
from provision.drills.run import DrillRun, of_lab, require_current
from provision.operations.session import Session, refuse_misspelled

LIST = tables.layout(
    "drill.list",
    tables.Column("DRILL"),
    tables.Column("LEVEL", right=True),
    tables.Column("MINUTES", 3, right=True),
    tables.Column("LAYER", 1),
    tables.Column("TOPOLOGIES", 5),
    tables.Column("DONE"),
    tables.Column("BEST", 2, right=True),
    tables.Column("TITLE", 4, prose=True),
)

DRILL_HELP = "id of a drill, or the path of its file"


@task(
    result=results.DrillList,
    name="list",
    help={
        "level": "only drills of this level, 1 to 4 (default: all)",
        "layer": "only drills about this layer (default: all)",
        "topology": "only drills of this topology (default: all)",
    },
)
def list_(c: Any, level: str = "", layer: str = "", topology: str = "", lab: str = "") -> None:
    """List the drills, and which are done."""
    refuse_misspelled(lab_name(lab))
    drills = catalogue.load_all(catalogue.paths())
    drills = catalogue.matching(drills, level=_level(level), layer=layer, topology=topology)
    solved: dict[str, list[DrillRun]] = {}
    for run in of_lab(ROOT / ".lab" / lab_name(lab)):
        if run.solved:
            solved.setdefault(run.drill, []).append(run)
    values = [
        results.DrillSummary(
            drill=drill.id,
            title=drill.title,
            level=drill.level,
            minutes=drill.minutes,
            layer=drill.layer,
            topologies=list(drill.topologies),
            done=any(not run.assisted for run in solved.get(drill.id, [])),
            best_seconds=min(
                (r.seconds for r in solved.get(drill.id, []) if not r.assisted), default=None
            ),
        )
        for drill in drills
    ]
    if publish(results.DrillList(drills=values)):
        return
    rows = [
        [
            v["drill"],
            str(v["level"]),
            str(v["minutes"]),
            v["layer"],
            " ".join(v["topologies"]),
            "yes" if v["done"] else ("assisted" if v["drill"] in solved else ""),
            show_drill.duration(v["best_seconds"]) if v["best_seconds"] is not None else "",
            v["title"],
        ]
        for v in values
    ]
    tables.show(console(), LIST, rows)
    print(for_lab(f"\n{len(rows)} drills; start one with: invoke drill.start ID", lab_name(lab)))


@task(
    result=results.DrillStatusValues,
    positional=["drill"],
    help={
        "drill": f"{DRILL_HELP} (default: with --random, any that fits)",
        "random": "choose one that fits the lab and was not solved yet",
        "level": "with --random: of this level, 1 to 4 (default: any)",
        "layer": "with --random: about this layer (default: any)",
        "seed": "selects machines, ports and values (default: random)",
        "minutes": "time limit (default: the drill's own)",
        "exam": "refuse lab.check, lab.plan, lab.up, lab.restart and the solution",
        "team": "a name for drill.report (default: none)",
        "spare": "boot a copy of the good state while the drill starts: drill.finish and "
        "drill.reset then return to it in about a second (provider lxc)",
    },
)
def start(
    c: Any,
    drill: str = "",
    random: bool = False,
    level: str = "",
    layer: str = "",
    seed: str = "",
    minutes: str = "",
    exam: bool = False,
    team: str = "",
    spare: bool = False,
    lab: str = "",
) -> None:
    """Start a drill: something breaks."""
    session = open_session(lab)
    chosen_seed = seed or secrets.token_hex(3)
    if bool(drill) == random:
        raise UsageError("name a drill, or use --random", "invoke drill.list shows all drills")
    if drill:
        selected = flow.drill_of(drill)
    else:
        selected = _random_drill(session, _level(level), layer, chosen_seed)
    limit = round(number(minutes, "--minutes", 1, 240)) if minutes else 0
    with session.lock(), Progress() as report:
        run = flow.start(
            session,
            selected,
            chosen_seed,
            report,
            exam=exam,
            minutes=limit,
            team=team,
            spare=spare,
        )
    _show_status(session, run, ())


def _random_drill(session: Session, level: int, layer: str, seed: str) -> Any:
    topology = session.lab.topology.name
    drills = catalogue.load_all(catalogue.paths())
    fitting = catalogue.matching(drills, level=level, layer=layer, topology=topology)
    if not fitting:
        raise UsageError(
            f"no drill of topology {topology} fits", "invoke drill.list shows all drills"
        )
    done = {run.drill for run in of_lab(session.lab.directory) if run.solved}
    fresh = [drill for drill in fitting if drill.id not in done]
    return random.Random(f"drill {seed}").choice(fresh or list(fitting))


def _level(text: str) -> int:
    return round(number(text, "--level", 1, 4)) if text else 0


@task(result=results.DrillStatusValues)
def status(c: Any, lab: str = "") -> None:
    """Show the running drill: story, proofs, time."""
    session = open_session(lab)
    run = require_current(session.lab.directory)
    probed: tuple[ProbeResult, ...] = ()
    try:
        proofs = flow.exercise_of(session, run).proofs
        with flow.judging(session, lambda *_: None) as judge:
            # After a solution, a server that returns gets few requests for some seconds.
            probed = judge.settle(plain(proofs), SETTLE_SECONDS if run.solved else 0.0)
    except LabError as error:
        print(f"the proofs cannot be judged: {error.what}")
    _show_status(session, run, probed)


def _show_status(session: Session, run: DrillRun, probed: tuple[ProbeResult, ...]) -> None:
    exercise = flow.exercise_of(session, run)
    values = results.DrillStatusValues(
        drill_run=show_drill.run_values(run),
        title=exercise.title,
        story=exercise.story,
        seconds_left=round(run.seconds_left),
        proofs=show_drill.proof_values(probed),
    )
    if publish(values):
        return
    print(f"{show_drill.headline(run, exercise)}\n")
    print_markdown(exercise.story)
    print()
    show_drill.print_proofs(probed)
    later = [proof for proof in exercise.proofs if proof.after]
    if probed and later:
        print("drill.check also tests: " + "; ".join(proof.name for proof in later))
    left = run.seconds_left
    over = f"{show_drill.duration(left)} left" if left >= 0 else "the time is over"
    print(f"{over}; {show_drill.summary(run)}")
    commands = "invoke lab.ssh MACHINE; invoke drill.watch; invoke drill.check; invoke drill.hint"
    print(next_steps.labelled(for_lab(commands, session.lab.name)))


@task(result=results.DrillHint)
def hint(c: Any, lab: str = "") -> None:
    """Show the next hint; hints are counted."""
    session = open_session(lab)
    given = give_hint(session)
    values = results.DrillHint(
        drill=given.drill, text=given.text, given=given.given, left=given.left
    )
    if publish(values):
        return
    if not given.text:
        print("there is no further hint for the present state")
        print(for_lab("next: invoke drill.solution", session.lab.name))
        return
    print_markdown(given.text)


def _check(lab: str) -> None:
    session = open_session(lab)
    run = require_current(session.lab.directory)
    with session.lock(), Progress() as report:
        graded = flow.grade(session, run, report)
        flow.record_grade(session, run, graded)
    if not publish(show_drill.grade_values(run, graded)):
        show_drill.print_proofs(graded.results)
        for text in graded.shortcuts:
            print(f"does not count: {text}")
        after = require_current(session.lab.directory)
        if graded.passed:
            print(show_drill.summary(after))
            print(for_lab("next: invoke drill.finish", session.lab.name))
        else:
            print(f"{graded.held} of {len(graded.results)} proofs hold")
            if graded.shortcuts:
                print(for_lab("next: invoke drill.reset", session.lab.name))
    if not graded.passed:
        raise SystemExit(ExitStatus.FAILED)


@task(result=results.DrillGrade)
def check(c: Any, lab: str = "") -> None:
    """Grade the drill; exit with 1 if not solved."""
    _check(lab)


@task(result=results.DrillGrade)
def grade(c: Any, lab: str = "") -> None:
    """Grade the drill, as drill.check does."""
    _check(lab)


@task(result=results.DrillStatusValues)
def reset(c: Any, lab: str = "") -> None:
    """Cause the fault again, from the beginning."""
    session = open_session(lab)
    require_current(session.lab.directory, begun=False)
    with session.lock(), Progress() as report:
        run = flow.reset(session, report)
    _show_status(session, run, ())
