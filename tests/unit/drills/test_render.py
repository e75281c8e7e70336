"""Variables, templates, hints and completion: the pure parts of a drill."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from provision.drills import lint, probes
from provision.drills.catalogue import FOLDER
from provision.drills.completion import AGAIN_SECONDS, HOLD_SECONDS, Completion
from provision.drills.drill import Disruption, Drill, DrillProbe, Expectation, Hint
from provision.drills.hints import next_hint
from provision.drills.probes import ProbeResult, response_problem, servers_problem
from provision.drills.render import LabValues, RenderError, age_minutes, render, select
from provision.drills.source import load
from provision.services.tls.https import SiteResponse

DRILL = load(FOLDER / "web" / "site-link-removed.md")
SEEDS = [str(number) for number in range(20)]


def lab_values(topology: str = "distributed", primary: str = "web-01") -> LabValues:
    return LabValues(lint.sample_lab(topology), primary, "09:41")


def with_vars(**variables: object) -> Drill:
    return Drill(Path("x.md"), {**DRILL.front, "vars": variables}, "")


def test_the_same_seed_gives_the_same_exercise() -> None:
    assert render(DRILL, lab_values(), "7") == render(DRILL, lab_values(), "7")


def test_seeds_give_different_machines_ports_and_tokens() -> None:
    drill = with_vars(machine={"machine": "nginx"}, port={"port": [8000, 8999]}, token={"token": 8})
    values = [select(drill, lab_values(), seed) for seed in SEEDS]
    assert {value["machine"] for value in values} == {"web-01", "web-02"}
    assert len({value["port"] for value in values}) > 10
    assert len({value["token"] for value in values}) == len(SEEDS)
    assert all(8000 <= value["port"] <= 8999 for value in values)


def test_a_variable_can_leave_out_the_machine_of_another_one() -> None:
    for seed in SEEDS:
        values = select(DRILL, lab_values(), seed)
        assert {values["machine"], values["other"]} == {"web-01", "web-02"}


def test_primary_and_replica_are_those_of_the_lab() -> None:
    drill = with_vars(source={"machine": "primary"}, copy={"machine": "replica"})
    values = select(drill, lab_values(primary="web-02"), "1")
    assert (values["source"], values["copy"]) == ("web-02", "web-01")


def test_a_variable_may_use_an_earlier_one() -> None:
    drill = with_vars(machine={"machine": "haproxy"}, url="http://{{ address[machine] }}/")
    address = lab_values().lab.machine("lb-01").address
    assert select(drill, lab_values(), "1")["url"] == f"http://{address}/"


def test_every_text_is_rendered() -> None:
    exercise = render(DRILL, lab_values(), "1")
    assert "{{" not in repr(exercise)
    assert "09:41" in exercise.story
    assert exercise.proofs[-1].after == Disruption("reboot", str(exercise.variables["machine"]))


@pytest.mark.parametrize(
    ("variable", "error"),
    [
        ({"machine": "keepalived"}, "no machine with role keepalived"),
        ({"machine": "nginx", "except": "nobody"}, "no variable 'nobody'"),
        ({"port": [20, 10]}, "the range 20 to 10 is empty"),
        ("{{ nothing }}", "'nothing' is undefined"),
    ],
)
def test_a_variable_without_a_value(variable: object, error: str) -> None:
    with pytest.raises(RenderError, match=error) as caught:
        select(with_vars(x=variable), lab_values(), "1")
    assert caught.value.where == "vars.x"


def test_the_length_of_a_shell_variable_is_no_comment() -> None:
    drill = Drill(Path("x.md"), DRILL.front, "echo ${#name} {## gone ##}")
    assert render(drill, lab_values(), "1").story == "echo ${#name} "


def test_the_fault_is_some_time_ago() -> None:
    ages = {age_minutes(seed) for seed in SEEDS}
    assert len(ages) > 5
    assert min(ages) >= 20


# --- hints ----------------------------------------------------------------------------------------

DONE, OPEN = DrillProbe(run="done", machine="x"), DrillProbe(run="open", machine="x")


@pytest.mark.parametrize(
    ("given", "held", "expected"),
    [
        ((), [], 0),
        ((0,), [], 1),
        ((0,), [DONE], 2),
        ((0, 1), [], 3),
        ((0, 1), [DONE], 2),
        ((0, 1, 2, 3), [DONE], None),
    ],
)
def test_hints_come_in_order_and_fit_the_state(
    given: Sequence[int], held: Sequence[DrillProbe], expected: int | None
) -> None:
    hints = [Hint("a"), Hint("b", unless=DONE), Hint("c", only_if=DONE), Hint("d")]
    assert next_hint(hints, given, lambda probe: probe in held) == expected


# --- probes ---------------------------------------------------------------------------------------


def response(status: int = 200, by: str = "web-01", body: str = "") -> SiteResponse:
    return SiteResponse(status, {"x-served-by": by}, body)


@pytest.mark.parametrize(
    ("expect", "got", "problem"),
    [
        (Expectation(), response(), ""),
        (Expectation(), response(503), "status 503, expected 200"),
        (Expectation(status=404), response(404), ""),
        (Expectation(), SiteResponse(error="refused"), "refused"),
        (Expectation(output="^b$"), response(body="a\nb\nc"), ""),
        (Expectation(output="d"), response(body="abc"), "without 'd': abc"),
        (Expectation(absent="b+"), response(body="abbc"), "has 'bb'"),
        (Expectation(headers={"X-Served-By": "^web-01$"}), response(), ""),
        (Expectation(headers={"X-Served-By": "^web-02$"}), response(), "X-Served-By: web-01"),
        (Expectation(headers={"X-Other": "."}), response(), "X-Other: missing"),
    ],
)
def test_one_response(expect: Expectation, got: SiteResponse, problem: str) -> None:
    assert response_problem(expect, got) == problem


@pytest.mark.parametrize(
    ("answers", "balanced", "problem"),
    [
        ("12", True, ""),
        ("1212121212", True, ""),
        ("1212121211", True, "unequal shares: web-01 6, web-02 4"),
        ("1212121211", False, ""),
        ("1111", False, "answered by web-01 4"),
        ("123", False, "answered by web-01 1, web-02 1, web-03 1"),
    ],
)
def test_who_answers(answers: str, balanced: bool, problem: str) -> None:
    expect = Expectation(servers=("web-01", "web-02"), balanced=balanced)
    got = [response(by=f"web-0{number}") for number in answers]
    assert servers_problem(expect, got) == problem


def test_a_learner_sees_of_a_probe_only_what_the_site_shows() -> None:
    assert ProbeResult(DrillProbe(get="/"), False, "status 503").public == "status 503"
    assert ProbeResult(DrillProbe(run="x", machine="m"), False, "no such link").public == ""
    assert ProbeResult(DrillProbe(check="web"), False, "web-01 is wrong").public == ""


# --- completion -----------------------------------------------------------------------------------


def test_a_watched_drill_is_ready_when_all_proofs_have_held_for_some_seconds() -> None:
    probe = DrillProbe(get="/")
    good, bad = [ProbeResult(probe, True)], [ProbeResult(probe, False)]
    completion = Completion([probe])
    assert not completion.is_ready(good, 0.0)
    assert not completion.is_ready(bad, 2.0)
    assert not completion.is_ready(good, 3.0)
    assert completion.is_ready(good, 3.0 + HOLD_SECONDS)


def test_a_fix_that_did_not_survive_is_judged_again_after_a_change_or_some_time() -> None:
    probe = DrillProbe(get="/")
    good, bad = [ProbeResult(probe, True)], [ProbeResult(probe, False)]
    completion = Completion([probe])
    completion.judged()
    assert not completion.is_ready(good, 0.0)
    assert not completion.is_ready(good, HOLD_SECONDS + 1)
    assert completion.is_ready(good, AGAIN_SECONDS)
    completion.judged()
    assert not completion.is_ready(bad, 100.0)
    assert not completion.is_ready(good, 101.0)
    assert completion.is_ready(good, 101.0 + HOLD_SECONDS)


@pytest.mark.parametrize(
    ("turns", "held"),
    [
        ("1212121211" + "12" * 15, True),
        ("2221" * 20 + "12" * 15, True),
        ("211", False),
        ("1112", False),
    ],
    ids=["another-visitor", "slow-start", "weights-2-1", "weights-3-1"],
)
def test_shares_are_judged_in_spite_of_other_visitors(
    monkeypatch: pytest.MonkeyPatch, turns: str, held: bool
) -> None:
    answers = itertools.cycle(turns)
    seconds = [0.0]

    def sleep(duration: float) -> None:
        seconds[0] += duration

    def request(*_: Any, **__: Any) -> Any:
        sleep(0.02)
        return response(by=f"web-0{next(answers)}")

    clock = SimpleNamespace(monotonic=lambda: seconds[0], sleep=sleep)
    monkeypatch.setattr(probes, "time", clock)
    monkeypatch.setattr(probes, "request", request)
    session: Any = SimpleNamespace(
        lab=None, provider=SimpleNamespace(network_problem=lambda _: ""), context=None
    )
    expect = Expectation(servers=("web-01", "web-02"), balanced=True)
    probe = DrillProbe("shares", get="/", times=10, expect=expect)
    (result,) = probes.Judge(session, cast(Any, None)).judge([probe])
    assert result.held == held, result.got
