"""Settings that an operator changed are warnings of lab.check, lab.up and lab.status."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from provision import checks
from provision.checks import settings
from provision.checks.observation import Observation
from provision.commands import show, show_checks
from provision.database.agent.probes import server_probe
from provision.engine.agent.protocol import ProbeResponse, Results
from provision.engine.context import Context
from tests.unit.samples import RECORDED, context, observation


def two(name: str = "distributed", **state: Any) -> Context:
    """A lab that is not the default one."""
    here = context(name, **state)
    return replace(here, lab=replace(here.lab, name="two"))


def warnings(here: Context) -> dict[str, tuple[str, str]]:
    judged = [
        result for result in checks.judge(here, Observation({})) if result.status == "warning"
    ]
    return {r.check.name: (r.verdict.got, r.check.hint) for r in judged}


def test_a_lab_with_the_settings_of_its_topology_has_no_warning() -> None:
    for name in ("simple", "distributed", "secured"):
        assert list(settings.checks(context(name))) == []
    assert list(settings.checks(context("scaled", autopromote=True))) == []


@pytest.mark.parametrize(
    ("here", "name", "got", "hint"),
    [
        (
            two(admin={"web-02": "drain"}),
            "setting/ready/web-02",
            "web-02 is drained: it gets no new requests",
            "invoke lb.ready --lab two web-02",
        ),
        (
            two(admin={"web-01": "maint"}),
            "setting/ready/web-01",
            "web-01 is in maintenance: it gets no new requests",
            "invoke lb.ready --lab two web-01",
        ),
        (
            two(weights={"web-01": 5}),
            "setting/weight/web-01",
            "web-01 has weight 5 instead of 1",
            "invoke lb.weight --lab two web-01 1",
        ),
        (
            two("scaled", autopromote=False),
            "setting/autopromote-off",
            "automatic failover is off, and on by default in this topology",
            "invoke db.autopromote --lab two on",
        ),
    ],
)
def test_a_changed_setting_is_a_warning_with_the_command_that_undoes_it(
    here: Context, name: str, got: str, hint: str
) -> None:
    assert warnings(here) == {name: (got, hint)}
    values = show.status_values(here, Observation({}))
    assert [(w["what"], w["next"]) for w in values["warnings"]] == [(got, hint)]


def test_a_warning_does_not_fail_lab_check_and_lab_up_shows_it() -> None:
    here = two(weights={"web-01": 5})
    judged = [r for r in checks.judge(here, Observation({})) if r.check.name.startswith("setting/")]
    assert all(result.ok for result in judged)
    screen = Console(width=120, color_system=None)
    with screen.capture() as captured:
        show_checks.print_checks(screen, judged, only_bad=True)
    assert "web-01 has weight 5 instead of 1" in captured.get()
    assert "invoke lb.weight --lab two web-01 1" in captured.get()
    assert "1 of 1 checks passed: 1 with a warning" in captured.get()


def test_lab_status_shows_warnings_with_their_command() -> None:
    here = two(admin={"web-02": "drain"})
    screen = Console(width=120, color_system=None)
    with screen.capture() as captured:
        seen = Observation({})
        show.status(screen, here, seen, show.status_values(here, seen))
    text = captured.get()
    assert "warning: lb-01: web-02 is drained: it gets no new requests\n" in text
    assert "next: invoke lb.ready --lab two web-02\n" in text


def test_semi_sync_that_has_fallen_back_is_shown_by_lab_status() -> None:
    here, seen = context(str(RECORDED / "lab.yml")), observation()
    assert show.status_values(here, seen)["warnings"] == []
    results = seen.results["web-01"]
    probe = server_probe()
    status = replace(results[probe], semisync_active=False)
    changed = Results("web-01", {**results.responses, probe.name: ProbeResponse(status)})
    fallen_back = replace(seen, results={**seen.results, "web-01": changed})
    (warning,) = show.status_values(here, fallen_back)["warnings"]
    assert warning["what"].startswith("semi-sync has fallen back to asynchronous")
    assert warning["next"] == "invoke db.status"
