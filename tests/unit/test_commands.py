"""The command line: every task is listed with its help, and every mistake is one message."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from invoke.collection import Collection
from invoke.exceptions import ParseError
from invoke.parser.parser import Parser
from invoke.tasks import Task

import tasks
from provision import checks
from provision.checks.observation import Observation
from provision.commands import base, show
from provision.commands.progress import Progress
from provision.core.errors import LabError, UsageError
from provision.core.lab import ROOT
from provision.engine.agent.protocol import Results
from provision.engine.plan import Change, Difference, Plan, Unit, UnitPlan
from provision.engine.resources import File, Packages
from tests.unit.samples import RECORDED, context, observation

INVOKE = str(Path(sys.executable).with_name("invoke"))


def every_task() -> list[tuple[str, Task[Any]]]:
    collection: Collection = tasks.namespace
    return [(name, collection[name]) for name in collection.task_names]


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [INVOKE, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
        env={**os.environ, "COLUMNS": "200", **environ},
    )


def test_the_list_shows_every_task_with_one_line_of_help() -> None:
    listed = run("--list", COLUMNS="80").stdout
    lines = {line.split()[0]: line for line in listed.splitlines() if line.startswith("  ")}
    for name, task in every_task():
        summary = (task.__doc__ or "").strip().splitlines()[0]
        assert summary.endswith("."), f"{name}: {summary!r}"
        assert len(summary) <= 50, f"{name}: {summary!r}"
        assert lines.pop(name).endswith(f"   {summary}")
    assert not lines
    assert max(map(len, listed.splitlines())) <= 80


# --- Invoke's parser, as provision/commands/parsing.py teaches it ---------------------------------


def parsed(*words: str) -> dict[str, Any]:
    """The arguments of one task."""
    result = Parser(contexts=tasks.namespace.to_contexts()).parse_argv(list(words))
    return {name: argument.value for name, argument in result[-1].args.items()}


def test_a_positional_argument_with_a_default_may_be_left_out() -> None:
    assert parsed("lab.halt")["machine"] == ""
    assert parsed("lab.halt", "web-01")["machine"] == "web-01"
    assert parsed("lab.halt", "--lab", "two", "web-01")["machine"] == "web-01"
    assert parsed("lab.halt", "web-01", "--lab", "two")["lab"] == "two"
    assert parsed("lab.halt", "--machine", "web-01")["machine"] == "web-01"
    assert parsed("lb.weight", "web-01", "7")["weight"] == "7"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lab.halt", "--nonsense"], "lab.halt has no option --nonsense"),
        (["lab.ssh", "--nonsense"], "lab.ssh has no option --nonsense"),
        (["lab.ssh"], "lab.ssh: MACHINE is missing"),
        (["lb.weight", "web-01"], "lb.weight: WEIGHT is missing"),
        (["lab.halt", "web-01", "web-02"], "lab.halt: unexpected argument 'web-02'"),
        (["lab.up", "--lab"], "--lab needs a value"),
    ],
)
def test_invalid_arguments(words: list[str], message: str) -> None:
    with pytest.raises(ParseError, match=message.replace("?", ".")):
        parsed(*words)


@pytest.mark.parametrize("task", ["lab.ssh", "lab.halt"])
def test_help_of_a_task(task: str) -> None:
    result = run(task, "--help")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"Usage: invoke {task} ")


# --- errors --------------------------------------------------------------------------------------


def ended(
    capsys: pytest.CaptureFixture[str], error: BaseException, lab: str = "x"
) -> tuple[Any, str]:
    """Exit status and output of the command line when a task raises this error."""
    with pytest.raises(SystemExit) as caught, base.errors("x"):
        raise error
    return caught.value.code, capsys.readouterr().err


def test_an_error_is_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    error = LabError("web-01 is on fire", "invoke lab.halt", output="hot\nhotter\n")
    assert ended(capsys, error) == (
        1,
        "error: web-01 is on fire\n  | hot\n  | hotter\nnext: invoke lab.halt --lab x\n",
    )
    assert ended(capsys, UsageError("no"))[0] == 2


def test_only_the_last_lines_of_a_programs_output_are_shown() -> None:
    text = str(LabError("what", output="\n".join(str(n) for n in range(100))))
    assert text.splitlines()[1] == "  | 80"
    assert text.splitlines()[-1] == "  | 99"


def test_an_unexpected_exception(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAB_DEBUG", raising=False)
    status, output = ended(capsys, KeyError("x"))
    assert status == 70
    assert output.startswith("error: unexpected KeyError at test_commands.py:")
    assert "Traceback" not in output
    monkeypatch.setenv("LAB_DEBUG", "1")
    with pytest.raises(KeyError), base.errors("x"):
        raise KeyError("x")


def test_ctrl_c(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.active_count", lambda: 1)
    status, output = ended(capsys, KeyboardInterrupt())
    assert status == 130
    assert output == "error: interrupted; run the same command again to continue\n"


def test_a_second_ctrl_c_exits_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once: list[int] = []
    monkeypatch.setattr("threading.active_count", lambda: 2)
    monkeypatch.setattr("os._exit", at_once.append)
    ended(capsys, KeyboardInterrupt())
    assert at_once == [130]


def test_a_closed_pipe_is_no_error() -> None:
    script = f"{INVOKE} --list | head -1"
    result = subprocess.run(["sh", "-c", script], cwd=ROOT, capture_output=True, check=True)
    assert result.stdout == b"Available tasks:\n"


def test_secrets_are_hidden_in_errors(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from provision.core.secrets import Secrets

    monkeypatch.setattr(base, "ROOT", tmp_path)
    password = Secrets(tmp_path / ".lab" / "x").password("mysql-app")
    _, output = ended(capsys, LabError(f"denied: {password}", output=f"-p{password}"))
    assert password not in output
    assert output.count("********") == 2


def test_numbers() -> None:
    assert base.number("2.5", "--x", 1, 3) == 2.5
    for wrong in ("4", "-1", "nan", "inf", "many", ""):
        with pytest.raises(UsageError, match="invalid --x"):
            base.number(wrong, "--x", 1, 3)


# --- what is shown -------------------------------------------------------------------------------


def test_a_plan_as_a_diff() -> None:
    unit = Unit("x", (), service="x.service", activate="reload")
    file = File("/etc/x.conf", "one\nnew\nthree\n")
    secret = File("/etc/key", "s", secret=True)
    hidden = (Difference("content", "1", "2", True), Difference("mode", "0644", "0600"))
    changes = (
        Change(file, (Difference("content", "one\nold\nthree\n", file.content),), {}),
        Change(secret, hidden, {}),
        Change(Packages(("y",)), (Difference("y", "", "installed"),), {}),
    )
    planned = {
        "lb-01": Plan("lb-01", (UnitPlan(unit, changes, True),)),
        "web-01": Plan("web-01", (UnitPlan(unit, (), True),)),
        "web-02": Plan("web-02", (UnitPlan(unit),)),
    }
    text, count = show.plans(planned)
    assert count == 4
    assert text.splitlines() == [
        "lb-01: 3 to change",
        "    file /etc/x.conf",
        "      @@ -1,3 +1,3 @@",
        "       one",
        "      -old",
        "      +new",
        "       three",
        "    file /etc/key",
        "      content: (secret) changes",
        "      mode: 0644 → 0600",
        "    packages",
        "      y: (none) → installed",
        "    reload x.service (configuration not loaded)",
        "web-01: 1 to change",
        "    reload x.service (configuration not loaded)",
        "web-02: no changes",
        "",
        "4 to change in all",
    ]
    assert show.plans({"web-02": planned["web-02"]}) == ("web-02: no changes\n\nno changes", 0)


def test_the_status_of_a_lab() -> None:
    here, observed = context(str(RECORDED / "lab.yml")), observation()
    values = show.status_values(here, observed)
    assert [m["machine"] for m in values["machines"]] == ["lb-01", "web-01", "web-02"]
    balancer, first, second = values["machines"]
    assert balancer["servers"][1]["status"] == "UP"
    assert balancer["servers"][1]["sessions"] == 0
    assert first["services"] == {"mysql": "active", "foobar": "active", "nginx": "active"}
    assert first["database"]["role"] == "primary"
    assert second["database"]["lag_seconds"] == 1
    off = show.status_values(here, Observation(dict.fromkeys(observed.states, "halted")))
    assert all(m["state"] == "halted" and "services" not in m for m in off["machines"])


def test_the_status_needs_only_the_probes_that_it_asks_for() -> None:
    here, full = context(str(RECORDED / "lab.yml")), observation()
    kept = {
        machine.name: {probe.name for probe in checks.status_probes(here, machine)}
        for machine in here.lab.machines
    }
    few = {
        name: Results(name, {n: r for n, r in results.responses.items() if n in kept[name]})
        for name, results in full.results.items()
    }
    assert sum(map(len, kept.values())) < 30
    shown = show.status_values(here, replace(full, results=few))
    assert shown == show.status_values(here, full)


def test_progress_without_a_terminal_is_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as report:
        report("web-01", "starting")
        report("web-01", "starting")
        report("lb-01", "starting")
        report("web-01", "up")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "web-01   starting",
        "lb-01    starting",
        "web-01   up",
    ]
    with Progress(quiet=True) as report:
        report("web-01", "starting")
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal_is_one_row_per_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Progress() as report:
        report("web-01", "starting")
        report("web-01", "up")
    shown = screen.getvalue()
    assert "web-01" in shown
    assert shown.splitlines()[-1].count("up") <= 1
    assert "starting" not in shown.splitlines()[-1]
