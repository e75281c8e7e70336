"""The named checks against what was seen of a real lab, and against everything that can be wrong.

Each must blame the right machine and service, and say what to type next.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from provision import checks
from provision.checks import Result, judge
from provision.checks.observation import Page, Seen, alternates
from provision.core.errors import for_lab
from tests.unit.samples import RECORDED, context, seen

LAB = str(RECORDED / "lab.yml")
HERE = context(LAB)


def well() -> Seen:
    """All is well."""
    return seen()


def results(found: Seen, **state: Any) -> dict[str, Result]:
    """Every check's result by name."""
    return {r.check.name: r for r in judge(context(LAB, **state), found)}


def failed(found: Seen, **state: Any) -> list[str]:
    return [name for name, result in results(found, **state).items() if not result.ok]


def test_all_is_well() -> None:
    assert failed(well()) == []


def test_names_are_unique_and_everything_is_checked() -> None:
    names = [c.name for c in checks.checks(HERE)]
    assert len(set(names)) == len(names)
    for wanted in (
        *(f"machine/{m.name}" for m in HERE.lab.machines),
        "service/lb-01/haproxy",
        "service/web-02/mysql",
        "database/web-01",
        "replication/web-02",
        "semisync/web-01",
        "web/web-01",
        "marker/web-02",
        "balancer/lb-01/web-01",
        "site",
        "round-robin",
        "static",
        "not-found",
        "version",
        "marker",
    ):
        assert wanted in names
    for check in checks.checks(HERE):
        assert check.next.startswith("invoke "), check.name
        assert check.machine in [m.name for m in HERE.lab.machines]


Break = Callable[[dict[str, Any]], None]


def mysql(machine: str, path: str, value: Any) -> Break:
    """Something that MySQL said of itself."""

    def change(answers: dict[str, Any]) -> None:
        at = answers[machine]["mysql"][0]
        *folders, last = path.split(".")
        for folder in folders:
            at = at[folder]
        at[last] = value

    return change


def stopped(machine: str, place: int, **state: str) -> Break:
    def change(answers: dict[str, Any]) -> None:
        answers[machine]["service"][place] |= state

    return change


def told(machine: str, name: str, **answer: Any) -> Break:
    """What an agent was answered over HTTP."""

    def change(answers: dict[str, Any]) -> None:
        place = answers[machine]["names"][name]
        answers[machine]["http"][place] |= answer

    return change


def stats(old: str, new: str) -> Break:
    def change(answers: dict[str, Any]) -> None:
        text = answers["lb-01"]["socket"][0]["text"]
        row = next(line for line in text.splitlines() if line.startswith("web,web-02,"))
        assert old in row
        answers["lb-01"]["socket"][0]["text"] = text.replace(row, row.replace(old, new))

    return change


def silent_mysql(answers: dict[str, Any]) -> None:
    answers["web-02"]["mysql"][0] = {"up": False, "error": "no socket"}


def writable_replica(answers: dict[str, Any]) -> None:
    answers["web-02"]["mysql"][0]["variables"] |= {"read_only": "0", "super_read_only": "0"}


def full_disk(answers: dict[str, Any]) -> None:
    answers["lb-01"]["command"][0]["out"] = "Use%\n 97%\n"


def silent_haproxy(answers: dict[str, Any]) -> None:
    answers["lb-01"]["socket"][0]["text"] = "![Errno 111] Connection refused"


@pytest.mark.parametrize(
    ("breaks", "name", "machine", "service", "got"),
    [
        (full_disk, "disk/lb-01", "lb-01", "disk", "97 % used"),
        (
            stopped("lb-01", 0, ActiveState="failed"),
            "service/lb-01/haproxy",
            "lb-01",
            "haproxy",
            "failed, enabled",
        ),
        (
            stopped("web-01", 0, UnitFileState=""),
            "service/web-01/mysql",
            "web-01",
            "mysql",
            "active, not installed",
        ),
        (
            mysql("web-01", "variables.super_read_only", "1"),
            "database/web-01",
            "web-01",
            "mysql",
            "read only",
        ),
        (
            lambda a: a["web-02"]["mysql"][0]["variables"].update(
                read_only="0", super_read_only="0"
            ),
            "database/web-02",
            "web-02",
            "mysql",
            "writable",
        ),
        (silent_mysql, "database/web-02", "web-02", "mysql", "not answering"),
        (
            mysql("web-01", "status.Rpl_semi_sync_source_status", "OFF"),
            "semisync/web-01",
            "web-01",
            "mysql",
            "fell back to asynchronous",
        ),
        (
            mysql("web-02", "replica.Replica_SQL_Running", "No"),
            "replication/web-02",
            "web-02",
            "mysql",
            "SQL thread No",
        ),
        (
            mysql("web-02", "replica.Last_IO_Error", "Access denied for user"),
            "",
            "",
            "",
            "",
        ),
        (
            mysql("web-02", "replica.Source_Host", "192.168.56.99"),
            "replication/web-02",
            "web-02",
            "mysql",
            "from 192.168.56.99",
        ),
        (
            mysql("web-02", "replica.Seconds_Behind_Source", "60"),
            "replication/web-02",
            "web-02",
            "mysql",
            "60 s behind",
        ),
        (
            mysql("web-02", "replica.Seconds_Behind_Source", None),
            "replication/web-02",
            "web-02",
            "mysql",
            "lag not known",
        ),
        (
            mysql("web-02", "replica", None),
            "replication/web-02",
            "web-02",
            "mysql",
            "IO thread absent, SQL thread absent, from nowhere",
        ),
        (told("lb-01", "healthz/web-02", status=503), "web/web-02", "web-02", "foobar", "503 from"),
        (
            told("lb-01", "healthz/web-01", status=0, headers={}, error="[Errno 113] No route"),
            "web/web-01",
            "web-01",
            "foobar",
            "No route",
        ),
        (
            told("lb-01", "healthz/web-01", headers={"x-served-by": "web-02"}),
            "web/web-01",
            "web-01",
            "foobar",
            "200 from web-02",
        ),
        (
            told("web-02", "marker", status=404, seconds=5.0),
            "marker/web-02",
            "web-02",
            "mysql",
            "not after 5.0 s: 404",
        ),
        (stats(",UP,", ",DOWN,"), "balancer/lb-01/web-02", "web-02", "nginx", "DOWN, check L7OK"),
        (stats(",UP,", ",MAINT,"), "balancer/lb-01/web-02", "web-02", "nginx", "MAINT"),
        (stats(",L7OK,", ",L4CON,"), "balancer/lb-01/web-02", "web-02", "nginx", "check L4CON"),
        (
            silent_haproxy,
            "balancer/lb-01/web-02",
            "web-02",
            "nginx",
            "lb-01 does not know it, or does not answer",
        ),
        (
            told("lb-01", "version/web-02", headers={"x-app-version": "2.0.0"}),
            "version",
            "lb-01",
            "foobar",
            "web-02 2.0.0",
        ),
    ],
)
def test_what_is_wrong_is_blamed_on_the_right_one(
    breaks: Break, name: str, machine: str, service: str, got: str
) -> None:
    good = well()
    answers = copy.deepcopy(dict(good.answers))
    breaks(answers)
    found = results(replace(good, answers=answers))
    if not name:  # an old error of a thread that runs again is no fault
        assert all(r.ok for r in found.values())
        return
    result = found[name]
    assert not result.ok
    assert (result.check.machine, result.check.service) == (machine, service)
    assert got in result.verdict.got
    assert result.verdict.expected != result.verdict.got
    assert set(result.values()) == {
        "name",
        "machine",
        "service",
        "next",
        "ok",
        "expected",
        "got",
    }


def test_a_dead_machine_is_blamed_itself() -> None:
    good = well()
    answers = {name: a for name, a in good.answers.items() if name != "web-02"}
    states = {**good.states, "web-02": "halted"}
    found = results(replace(good, answers=answers, states=states, errors={"web-02": ""}))
    assert not found["machine/web-02"].ok
    assert found["machine/web-02"].verdict.got == "halted"
    assert found["machine/web-02"].check.next == "invoke lab.up"
    for name in ("disk/web-02", "service/web-02/mysql", "database/web-02", "replication/web-02"):
        assert not found[name].ok
    assert found["machine/web-01"].ok


def test_a_machine_that_runs_and_does_not_answer_says_why() -> None:
    good = well()
    answers = {name: a for name, a in good.answers.items() if name != "lb-01"}
    errors = {"lb-01": "lb-01: no SSH connection to 192.168.56.10 port 22 (timed out)"}
    found = results(replace(good, answers=answers, errors=errors))
    assert "no SSH connection" in found["machine/lb-01"].verdict.got


def page(**more: Any) -> Page:
    headers = {"x-served-by": "web-01", "x-read-from": "web-01", **more.pop("headers", {})}
    return Page(**{"status": 200, "headers": headers, **more})


def served(*names: str) -> tuple[Page, ...]:
    return tuple(page(headers={"x-served-by": name}) for name in names)


@pytest.mark.parametrize(
    ("changes", "bad", "got"),
    [
        ({"rounds": ()}, "site", "not asked"),
        ({"rounds": ((page(status=503),),)}, "site", "1 of 1 failed: status 503"),
        ({"rounds": ((Page(error="refused"),),)}, "site", "refused"),
        ({"rounds": ((page(headers={"x-read-from": ""}),),)}, "site", "status 200"),
        ({"rounds": (served("web-01", "web-01"),)}, "round-robin", "web-01 web-01"),
    ],
)
def test_the_site_as_users_see_it(changes: dict[str, Any], bad: str, got: str) -> None:
    found = results(replace(well(), **changes))
    assert not found[bad].ok
    assert got in found[bad].verdict.got
    assert found[bad].check.machine == "lb-01"


@pytest.mark.parametrize(
    ("name", "answer", "bad", "got"),
    [
        ("static", Page(404), "static", "404 from Nginx itself"),
        ("static", Page(200, {"x-app-host": "web-01"}), "static", "200 from the application"),
        ("missing", Page(200), "not-found", "200"),
        ("missing", Page(error="reset"), "not-found", "reset"),
        ("marker", Page(503), "marker", "status 503, written to nothing"),
        ("marker", Page(201, {"x-written-to": "web-02"}), "marker", "written to web-02"),
    ],
)
def test_single_requests(name: str, answer: Page, bad: str, got: str) -> None:
    good = well()
    found = results(replace(good, pages={**good.pages, name: answer}))
    assert not found[bad].ok
    assert got in found[bad].verdict.got


# --- how requests are spread ---------------------------------------------------------------------


def test_alternation() -> None:
    assert alternates(served("a", "b", "a", "b"), 2)
    assert not alternates(served("a", "b", "b", "a"), 2)
    assert not alternates(served("a", "a", "a", "a"), 2)
    assert not alternates(served("", "b", "", "b"), 2)
    assert alternates(served("a", "b", "c", "a", "b", "c"), 3)


@pytest.mark.parametrize(
    ("names", "state", "ok"),
    [
        (("web-01", "web-02", "web-01", "web-02"), {}, True),
        (("web-01", "web-01", "web-02", "web-02"), {}, False),
        (("web-01", "web-01", "web-02", "web-02"), {"weights": {"web-01": 200}}, True),
        (("web-01", "web-01", "web-01", "web-01"), {"mode": "active-passive"}, True),
        (("web-01", "web-02", "web-01", "web-02"), {"mode": "active-passive"}, False),
        (("web-02", "web-02", "web-02", "web-02"), {"admin": {"web-01": "drain"}}, True),
        (("web-01", "web-02", "web-01", "web-02"), {"admin": {"web-01": "drain"}}, False),
        (("web-02", "web-02", "web-02", "web-02"), {"algorithm": "source"}, True),
        (("web-01", "web-02", "web-01", "web-02"), {"algorithm": "source"}, False),
        (("web-01", "web-01", "web-02", "web-01"), {"algorithm": "leastconn"}, True),
    ],
)
def test_the_spreading_that_was_chosen(
    names: tuple[str, ...], state: dict[str, Any], ok: bool
) -> None:
    found = replace(well(), rounds=(served(*names),))
    assert results(found, **state)["round-robin"].ok is ok


def test_a_server_that_was_drained_on_purpose_is_no_fault() -> None:
    good = well()
    answers = copy.deepcopy(dict(good.answers))
    stats(",UP,", ",DRAIN,")(answers)
    found = replace(good, answers=answers)
    name = "balancer/lb-01/web-02"
    assert results(found, admin={"web-02": "drain"})[name].ok
    assert not results(found)[name].ok
    assert not results(good, admin={"web-02": "drain"})[name].ok


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("next: invoke lab.up", "next: invoke lab.up --lab two"),
        ("invoke lab.up --lab two", "invoke lab.up --lab two"),
        (
            "invoke db.status shows all, db.promote helps; invoke lab.up again",
            "invoke db.status --lab two shows all, db.promote helps; invoke lab.up --lab two again",
        ),
        ("nothing to type", "nothing to type"),
    ],
)
def test_commands_to_type_name_the_lab(text: str, expected: str) -> None:
    assert for_lab(text, "two") == expected
    assert for_lab(text, "default") == text
