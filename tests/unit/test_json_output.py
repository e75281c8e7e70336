"""``--json``: one document per command, its schemas, and golden documents of recorded labs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from invoke.context import Context as InvokeContext

import tasks
from provision import checks
from provision.checks.observation import Observation
from provision.commands import base, document, show, show_checks
from provision.commands.document import publish
from provision.commands.results import lab as results
from provision.commands.results.schema import of
from provision.commands.show_database import server_values
from provision.core.errors import LabError, UsageError
from provision.core.exit_status import ExitStatus
from provision.database.agent.gtid import GtidSet
from provision.database.agent.results import BackupFile, BackupSchedule
from provision.database.agent.server_status import ReplicaStatus, ServerStatus
from provision.database.servers import DatabaseServer
from provision.engine.plan import Change, Difference, Plan, Unit, UnitPlan
from provision.engine.resources import File
from scripts.schemas import command_schemas, schemas
from tests import json_schema
from tests.unit.samples import RECORDED, context, observation
from tests.unit.test_commands import run as invoke

GOLDEN = RECORDED.parent / "json"

TERMINAL = {
    "lab.completion": "prints a script for a shell",
    "board.serve": "runs until it is stopped; the page has JSON of its own",
    "lab.ssh": "hands the terminal to ssh",
    "db.shell": "hands the terminal to MySQL's client",
}
"""Tasks that show nothing themselves, and why."""

UPDATE = "LAB_UPDATE_GOLDEN"


def every_task() -> list[Any]:
    return [tasks.namespace[name] for name in tasks.namespace.task_names]


# --- every command -------------------------------------------------------------------------------


def test_every_command_that_shows_something_has_json() -> None:
    without = {task.kind for task in every_task() if task.result is None}
    assert without == set(TERMINAL)
    for task in every_task():
        parameters = task.argspec(task.body).parameters
        assert ("json" in parameters) == (task.kind not in TERMINAL), task.kind


def test_every_schema_file_is_current() -> None:
    """After a change of provision/commands/results: .venv/bin/python -m scripts.schemas."""
    files = {path.name: path.read_text(encoding="utf-8") for path in command_schemas()}
    assert files == schemas()


def test_every_command_has_a_schema_of_its_own() -> None:
    kinds = {task.kind for task in every_task() if task.result is not None}
    assert {path.stem for path in command_schemas()} == kinds | {"error"}


def properties() -> list[tuple[str, str, str]]:
    """File, name and JSON type of every property of all data."""
    found = []
    for path in command_schemas():
        for definition in json.loads(path.read_text())["$defs"].values():
            for name, schema in definition["properties"].items():
                kind = {k: v for k, v in schema.items() if k != "description"}
                kind = {"type": "string"} if "enum" in kind else kind
                found.append((path.name, name, json.dumps(kind, sort_keys=True)))
    return found


SYNONYMS = {
    "name": "machine, server, check, alert, snapshot, release …",
    "scur": "sessions",
    "stot": "total_sessions",
    "rate": "sessions_per_second",
    "total": "total_sessions",
    "lag": "lag_seconds",
    "io": "receiving",
    "sql": "applying",
    "semisync": "semi_sync",
    "size": "size_bytes",
    "date": "created",
    "made": "created",
    "hint": "next",
    "cure": "next",
    "fix": "next",
    "site_url": "url",
}


def test_the_same_thing_has_the_same_name() -> None:
    wrong = {(file, name) for file, name, _ in properties() if name in SYNONYMS}
    assert not wrong, {name: SYNONYMS[name] for _, name in wrong}


DIFFERENT = {
    "machines": "names, or one object per machine",
    "servers": "of lb.status, monitor.show and monitor.qps",
    "checks": "one document, or the list in it",
    "requests_per_second": "one number, or a line of them",
    "semi_sync": "null where Prometheus has no value",
    "receiving": "null where Prometheus has no value",
    "applying": "null where Prometheus has no value",
    "writable": "null where Prometheus has no value",
    "lag_seconds": "whole seconds of MySQL, or a mean of Prometheus",
    "missing": "absent instead of null in lab.status",
    "errant": "absent instead of null in lab.status",
    "names": "names of a certificate, or requests for names in lab.spof",
    "sessions": "null where Prometheus has no value",
    "hops": "texts of a path, or objects of a trace",
    "databases": "of db.status and monitor.show",
}


def test_a_name_has_one_type() -> None:
    kinds: dict[str, set[str]] = {}
    for _, name, kind in properties():
        kinds.setdefault(name, set()).add(kind)
    several = {name for name, found in kinds.items() if len(found) > 1}
    wrong = several ^ DIFFERENT.keys()
    assert not wrong, {name: kinds.get(name) for name in wrong}


def test_types_without_a_schema_are_refused() -> None:
    with pytest.raises(TypeError, match="no JSON Schema"):
        of(Path, {})


# --- the validator of these tests ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "schema", "error"),
    [
        (True, {"type": "integer"}, "is not of type integer"),
        ("0", {"type": ["integer", "null"]}, "is not of type integer or null"),
        ({"a": 1}, {"properties": {}, "additionalProperties": False}, "'a' is not expected"),
        ({}, {"required": ["a"]}, "'a' is missing"),
        ([1, "x"], {"items": {"type": "integer"}}, r"\[1\]: 'x'"),
        (3, {"anyOf": [{"type": "string"}, {"type": "null"}]}, "matches nothing of anyOf"),
        ("c", {"enum": ["a", "b"]}, "is not one of"),
        (1, {"const": True}, "is not True"),
        ({"e": None}, {"if": {"required": ["e"]}, "then": {"required": ["d"]}}, "'d' is missing"),
        ({"x": "y"}, {"additionalProperties": {"type": "integer"}}, "'y' is not of type"),
    ],
)
def test_the_validator_finds_violations(value: Any, schema: dict[str, Any], error: str) -> None:
    lines = list(json_schema.validate(value, schema))
    assert len(lines) == 1
    assert re.search(error, lines[0]), lines


def test_the_validator_knows_every_keyword_of_the_files() -> None:
    with pytest.raises(NotImplementedError):
        list(json_schema.validate(1, {"multipleOf": 2}))
    for path in command_schemas():
        list(json_schema.validate(None, json.loads(path.read_text())))


# --- one document --------------------------------------------------------------------------------


def labs(**values: Any) -> results.Labs:
    return {"labs": [], **values}  # type: ignore[typeddict-item]


def run(
    capsys: pytest.CaptureFixture[str], function: Callable[[], None], *, lab: str = "two"
) -> tuple[int, dict[str, Any], str]:
    """Exit code, document and stderr of a task with --json."""

    @base.task(result=results.Labs)
    def example(c: Any, lab: str = "") -> None:
        """Do it."""
        function()

    example.kind = "lab.list"
    code: Any = 0
    try:
        example(InvokeContext(), lab=lab, json=True)
    except SystemExit as end:
        code = end.code
    output = capsys.readouterr()
    return code, json_schema.document(output.out), output.err


def test_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        print("progress")
        assert publish(labs())

    code, shown, err = run(capsys, work)
    assert code == 0
    assert shown == {
        "schema_version": 1,
        "kind": "lab.list",
        "lab": "two",
        "exit_code": 0,
        "data": {"labs": []},
        "error": None,
    }
    assert err == "progress\n"


def test_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise UsageError("no machine web-09", "invoke lab.status")

    code, shown, err = run(capsys, work)
    assert (code, shown["exit_code"], shown["data"]) == (2, 2, None)
    assert shown["error"] == {
        "what": "no machine web-09",
        "next": "invoke lab.status --lab two",
        "output": [],
    }
    assert err == "error: no machine web-09\nnext: invoke lab.status --lab two\n"


def test_next_commands_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    hint = "invoke lab.status shows which machines run; invoke lab.up continues"

    def work() -> None:
        raise LabError("web-01 is not running", hint)

    _, shown, _ = run(capsys, work)
    lines = [
        "invoke lab.status --lab two    # shows which machines run",
        "invoke lab.up --lab two    # continues",
    ]
    assert shown["error"]["next"].splitlines() == lines


def test_an_error_after_values_keeps_both(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        publish(labs())
        raise LabError("it broke", output="line 1\nline 2\n")

    code, shown, _ = run(capsys, work)
    assert (code, shown["exit_code"], shown["data"]) == (1, 1, {"labs": []})
    assert shown["error"] == {"what": "it broke", "next": "", "output": ["line 1", "line 2"]}


def test_a_failed_check_is_not_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        publish(labs())
        raise SystemExit(1)

    code, shown, _ = run(capsys, work)
    assert (code, shown["exit_code"], shown["error"]) == (1, 1, None)


def test_a_bug_is_a_document_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAB_DEBUG", raising=False)
    code, shown, _ = run(capsys, lambda: [][0])
    assert code == shown["exit_code"] == 70
    assert shown["error"]["what"].startswith("unexpected IndexError at ")


def test_ctrl_c(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.active_count", lambda: 1)

    def work() -> None:
        raise KeyboardInterrupt

    code, shown, _ = run(capsys, work)
    assert code == shown["exit_code"] == 130
    assert shown["error"]["what"] == "interrupted"


def test_what_json_does_not_have_becomes_null(capsys: pytest.CaptureFixture[str]) -> None:
    with document.document("lab.list", ""):
        publish({"a": float("nan"), "b": [float("inf"), 1.5], "c": ("x",), 5: None})
    assert json.loads(capsys.readouterr().out)["data"] == {
        "a": None,
        "b": [None, 1.5],
        "c": ["x"],
        "5": None,
    }


def test_secrets_are_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    with document.document("lab.list", "", lambda text: text.replace("s3cret", "(secret)")):
        publish({"labs": ["s3cret"]})
    assert "s3cret" not in capsys.readouterr().out


def test_without_json_nothing_is_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    assert not publish({"labs": []})
    assert not document.requested()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("words", [["lab.status", "--nonsense"], ["lab.halt", "a", "b"]])
def test_a_command_line_that_cannot_be_parsed(words: list[str]) -> None:
    result = invoke(*words, "--json")
    shown = json_schema.document(result.stdout)
    assert shown["kind"] == "error"
    assert shown["error"]["what"].startswith(f"{words[0]}")
    assert shown["error"]["next"] == f"invoke {words[0]} --help"
    assert shown["exit_code"] == result.returncode == ExitStatus.USAGE
    assert invoke(*words, "--", "--json").stdout == ""


# --- golden documents ----------------------------------------------------------------------------


def recorded_status() -> Any:
    return show.status_values(context(str(RECORDED / "lab.yml")), observation())


def halted_status() -> Any:
    here = context(str(RECORDED / "lab.yml"))
    return show.status_values(here, Observation({m.name: "halted" for m in here.lab.machines}))


def recorded_checks() -> Any:
    here, observed = context(str(RECORDED / "lab.yml")), observation()
    broken = replace(observed, errors={"web-02": "web-02: no response"}, states=observed.states)
    return show_checks.check_values(checks.judge(here, broken), "machine")


def recorded_plan() -> Any:
    content = Difference("content", "a\n", "b\n")
    password = Difference("content", "old", "new", secret=True)
    resource = File("/etc/x", "b\n")
    unit = Unit("x", (resource,), "x.service")
    changed = UnitPlan(unit, (Change(resource, (content, password), None),), needs_reload=True)
    return results.PlanValues(
        count=1,
        machines=[
            show.plan_values("web-01", "running", Plan("web-01", (changed,))),
            show.plan_values("web-02", "halted", None),
        ],
        overrides=["web-01: drain"],
    )


def recorded_databases() -> Any:
    uuid = "11111111-1111-1111-1111-111111111111"
    primary = ServerStatus(
        up=True,
        writable=True,
        epoch=2,
        uuid=uuid,
        version="9.7.4",
        uptime=61,
        executed=GtidSet(f"{uuid}:1-9"),
        binlog="binlog.000003 157",
        semisync_enabled=True,
        semisync_active=True,
        semisync_replicas=1,
    )
    replica = replace(
        primary,
        writable=False,
        semisync_active=False,
        executed=GtidSet(f"{uuid}:1-7"),
        replica=ReplicaStatus("10.0.0.11", io_running="Connecting", sql_running="Yes", lag=3),
    )
    backup = BackupFile("/var/backups/b.tar", "2026-11-21T14:30:05Z", 4096, f"{uuid}:1-5")
    servers = [
        DatabaseServer("web-01", "primary", primary),
        DatabaseServer("web-02", "replica", replica, BackupSchedule((backup,), "soon"), missing=2),
        DatabaseServer("web-03", "replica", ServerStatus(error="it is not running")),
    ]
    return {"primary": "web-01", "databases": [server_values(server) for server in servers]}


DOCUMENTS: dict[str, tuple[str, Callable[[], Any]]] = {
    "lab.status": ("lab.status", recorded_status),
    "lab.status-halted": ("lab.status", halted_status),
    "lab.check": ("lab.check", recorded_checks),
    "lab.plan": ("lab.plan", recorded_plan),
    "db.status": ("db.status", recorded_databases),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_golden_documents(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """LAB_UPDATE_GOLDEN=1 writes the files."""
    kind, make = DOCUMENTS[name]
    with document.document(kind, "two"):
        publish(make())
    text = capsys.readouterr().out
    json_schema.document(text)
    file = GOLDEN / f"{name}.json"
    if os.environ.get(UPDATE):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")
