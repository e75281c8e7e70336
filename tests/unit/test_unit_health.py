"""Parsers and judges of units over time: restarts, timers, backups, flapping, failed units."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provision.checks.base import Verdict
from provision.checks.history import judge_backup, judge_flapping, judge_restarts, judge_timer
from provision.checks.units import (
    as_warning,
    blamed,
    judge_others,
    needed,
    repair_verb,
    service_state,
)
from provision.database.agent.backup_age import BackupAge
from provision.engine.agent.unit_health import (
    UnitHealth,
    UnitsHealth,
    parse_reply,
    parse_span,
    parse_unit_health,
)
from provision.services.haproxy.agent.flapping import changed, count_downs, first_counted
from tests.unit.samples import context

RUNNING = UnitHealth("loaded", "active", "enabled", "success", since=5000.0)
TIMER = replace(RUNNING, since=3 * 86400.0, last_run=3600.0, next_run=82800.0)
HOUR = 3600.0


def test_properties_of_a_service() -> None:
    values = {
        "LoadState": "loaded",
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "Result": "success",
        "NRestarts": "3",
        "ActiveEnterTimestampMonotonic": "4000000",
        "ConditionResult": "yes",
    }
    unit = parse_unit_health(values, 10.0, 1e9)
    assert (unit.since, unit.restarts, unit.next_run, unit.last_run) == (6.0, 3, None, None)


def test_properties_of_timers() -> None:
    calendar = {
        "LastTriggerUSec": "Thu 1970-01-01 00:00:40 UTC",
        "NextElapseUSecRealtime": "Thu 1970-01-01 00:02:00 UTC",
        "NextElapseUSecMonotonic": "0",
        "ConditionResult": "no",
        "ConditionTimestampMonotonic": "5",
    }
    unit = parse_unit_health(calendar, 10.0, 100.0)
    assert (unit.last_run, unit.next_run, unit.condition) == (60.0, 20.0, False)
    monotonic = {"NextElapseUSecRealtime": "", "NextElapseUSecMonotonic": "1min 6.5s"}
    assert parse_unit_health(monotonic, 60.0, 0.0).next_run == 6.5
    never = {"NextElapseUSecRealtime": "", "NextElapseUSecMonotonic": "infinity"}
    assert parse_unit_health(never, 60.0, 0.0).next_run is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h 30min 40.5s", 5440.5), ("250ms", 0.25), ("2d 1h", 176400.0), ("1w", 604800.0)],
)
def test_time_spans(text: str, seconds: float) -> None:
    assert parse_span(text) == pytest.approx(seconds)


def test_reply_of_journald() -> None:
    assert parse_reply(b'{"parameters":{}}\0') == ""
    assert parse_reply(b'{"error":"io.systemd.Journal.NotSupported"}\0').endswith("NotSupported")


@pytest.mark.parametrize(
    ("restarts", "recent", "since", "ok", "severity"),
    [
        (0, 0, 3.0, True, "error"),
        (1, 1, 3.0, False, "warning"),
        (9, 5, 3.0, False, "error"),
        (9, 5, 30.0, False, "warning"),
        (9, 0, 3000.0, True, "error"),
    ],
)
def test_restarts(restarts: int, recent: int, since: float, ok: bool, severity: str) -> None:
    state = replace(RUNNING, restarts=restarts, recent_restarts=recent, since=since)
    verdict = judge_restarts("nginx", state)
    assert (verdict.ok, verdict.severity) == (ok, severity)


@pytest.mark.parametrize(
    ("state", "severity"),
    [
        (TIMER, ""),
        (replace(TIMER, last_run=None, since=60.0), ""),
        (replace(TIMER, last_run=50 * HOUR), "error"),
        (replace(TIMER, last_run=50 * HOUR, next_run=300.0), "warning"),
        (replace(TIMER, last_run=50 * HOUR, next_run=3900.0), "warning"),
        (replace(TIMER, last_run=50 * HOUR, next_run=5000.0), "error"),
        (replace(TIMER, next_run=None), "error"),
        (replace(TIMER, next_run=9000 * HOUR), "error"),
        (replace(TIMER, last_run=None), "error"),
    ],
)
def test_daily_timers(state: UnitHealth, severity: str) -> None:
    verdict = judge_timer("lab-mysql-backup.timer", state)
    assert ("" if verdict.ok else verdict.severity) == severity


def test_timer_of_half_a_minute() -> None:
    assert judge_timer("lab-facts.timer", replace(TIMER, last_run=20.0, next_run=None)).ok
    assert not judge_timer("lab-facts.timer", replace(TIMER, last_run=900.0, next_run=None)).ok


@pytest.mark.parametrize(
    ("backups", "next_run", "severity"),
    [
        ([BackupAge(2, HOUR, 9)], 9000.0, ""),
        ([BackupAge(0, HOUR), BackupAge(0, 2 * HOUR)], 9000.0, ""),
        ([BackupAge(2, 90 * HOUR, 9), BackupAge(1, HOUR, 9)], 9000.0, ""),
        ([BackupAge(2, 90 * HOUR, 9), BackupAge(0, 90 * HOUR)], 9000.0, "error"),
        ([BackupAge(2, 90 * HOUR, 9)], 300.0, "warning"),
        ([BackupAge(0, 90 * HOUR)], 9000.0, "error"),
        ([BackupAge(2, HOUR, 0)], 9000.0, "error"),
        ([], None, "error"),
    ],
)
def test_backups(backups: list[BackupAge], next_run: float | None, severity: str) -> None:
    verdict = judge_backup(backups, next_run)
    assert ("" if verdict.ok else verdict.severity) == severity


def test_downs_before_and_just_after_the_start_of_the_balancer_do_not_count() -> None:
    assert first_counted("Uptime_sec: 900\nName: x\n", 1000.0, 300) == 700
    assert first_counted("Name: x\nUptime_sec: 100\n", 1000.0, 300) == 915
    assert first_counted("Uptime_sec: 2\n", 1000.0, 300) == 1013
    assert first_counted("", 1000.0, 300) == 700


def test_flapping() -> None:
    assert judge_flapping("web-01", 1).ok
    assert not judge_flapping("web-01", 5).ok
    log = "Server web/web-01 is DOWN, reason\nServer web/web-01 is UP\nServer web/web-02 is DOWN,"
    assert count_downs(log + "\nServer web/web-01 is DOWN") == {"web-01": 2, "web-02": 1}
    drain = (
        "Server web/web-01 enters drain state. 1 active\n"
        "Server web/web-01 is DOWN, reason: Layer7 timeout\n"
        "Server web/web-01 is DOWN (leaving forced drain).\n"
        "Server web/web-01 is UP, reason: Layer7 check passed\n"
    )
    assert count_downs(drain) == {}
    assert count_downs(drain + log) == {"web-01": 1, "web-02": 1}
    header = "# pxname,svname,chkdown,lastchg\n"
    assert changed(header + "web,web-01,2,3\nweb,web-02,5,40\nweb,BACKEND,0,3\n", 15) == {"web-01"}
    assert not changed(header + "web,web-01,2,300\nweb,BACKEND,1,3\n", 15)
    assert not changed(header + "web,web-01,0,3\n", 15)


def others(**changes: object) -> UnitHealth:
    return replace(UnitHealth("loaded", "inactive", "enabled"), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("unit", "text", "verb"),
    [
        (others(active="failed", result="exit-code"), "has failed (exit-code)", "restart"),
        (others(active="failed", enabled="transient"), "has failed", "reset-failed"),
        (others(), "is enabled and stopped", "start"),
        (others(load="masked", enabled="masked"), "is masked", "unmask --now"),
        (others(load="masked", enabled="masked-runtime"), "is masked", "unmask --runtime --now"),
    ],
)
def test_other_units(unit: UnitHealth, text: str, verb: str) -> None:
    observed = UnitsHealth({"x.timer": unit}, enabled=("x.timer",))
    verdict = judge_others("web-01", observed, set())
    assert not verdict.ok
    assert text in verdict.got
    assert verdict.hint == f"invoke lab.ssh web-01 -- sudo systemctl {verb} x.timer"
    assert repair_verb(unit) == verb
    assert judge_others("web-01", observed, {"x.timer"}).ok


def test_units_that_a_condition_or_an_image_keeps_from_running() -> None:
    skipped = {"fstrim.timer": others(condition=False), "apt-daily.timer": others(load="masked")}
    assert judge_others("web-01", UnitsHealth(skipped, enabled=tuple(skipped)), set()).ok


def test_states_of_needed_units() -> None:
    static = service_state(UnitHealth("loaded", "active", "static"))
    assert static is not None
    assert static.enabled == "enabled"
    masked = service_state(UnitHealth("masked", "inactive", ""))
    assert masked is not None
    assert masked.enabled == "masked"
    assert service_state(None) is None


def test_other_units_of_existing_machines_are_warnings() -> None:
    failed = Verdict(False, "expected", "got")
    assert as_warning(failed, context("simple", provider="ssh")).severity == "warning"
    assert as_warning(failed, context("simple", provider="lxc")) == failed


@pytest.mark.parametrize("topology", ["distributed", "scaled"])
def test_a_socket_belongs_to_the_service_that_is_configured_with_it(topology: str) -> None:
    at = context(topology)
    for machine in at.lab.with_role("app"):
        sockets = [unit for unit in needed(at, machine) if unit.startswith("foobar")]
        assert len(sockets) > 2
        assert {blamed(at, machine, unit) for unit in sockets} == {"foobar"}
        assert blamed(at, machine, "systemd-journald-dev-log.socket") == "systemd-journald"
        assert blamed(at, machine, "ssh.socket") == "ssh"
