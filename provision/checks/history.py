"""Checks over time: automatic restarts, flapping backends, missed timers, old backups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from provision.checks import prerequisites as requires
from provision.checks import units
from provision.checks.base import UNKNOWN, Check, Verdict
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.core.thresholds import (
    BACKUP_AGE_SECONDS,
    CATCH_UP_SECONDS,
    DAILY_TIMER_SECONDS,
    FLAPS,
    LOOP_QUIET_SECONDS,
    LOOP_SECONDS,
    RECENT_RESTART_SECONDS,
    RESTART_LOOP,
    TIMER_SECONDS,
)
from provision.database.agent.backup_age import BackupAge, backup_age_probe
from provision.engine.agent.protocol import Probe
from provision.engine.agent.unit_health import UnitHealth
from provision.engine.context import Context
from provision.services.haproxy.agent.flapping import Transitions, transitions_probe
from provision.services.haproxy.interface import SOCKET

TRANSITIONS = transitions_probe(SOCKET, LOOP_SECONDS, LOOP_QUIET_SECONDS)
BACKUP_TIMER = "lab-mysql-backup.timer"
BACKUP_SERVICE = "lab-mysql-backup"


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """Backups of databases, and transitions that balancers have logged."""
    if "mysql" in machine.roles:
        yield backup_age_probe()
    if "haproxy" in machine.roles:
        yield TRANSITIONS


def checks(context: Context) -> Iterator[Check]:
    """Restarts of every service and runs of every timer, backups, backend servers."""
    for machine in context.lab.machines:
        for unit in units.needed(context, machine):
            if unit.endswith(".service"):
                yield _restarts(context, machine, unit)
        for timer in units.timers(context, machine):
            yield _timer(context, machine, timer)
    databases = context.lab.with_role("mysql")
    for machine in databases:
        if machine.name != context.state.primary:
            yield _backup(context, machine)
            break
    if context.lab.with_role("haproxy"):
        for web in context.lab.with_role("nginx"):
            yield _flapping(context, web)


# --- restarts ------------------------------------------------------------------------------------


def _restarts(context: Context, machine: Machine, unit: str) -> Check:
    name, short = machine.name, unit.removesuffix(".service")

    def judge(observation: Observation) -> Verdict:
        state = units.health(context, observation, machine).units.get(unit)
        if state is None:
            return Verdict(False, "no automatic restart", UNKNOWN)
        return judge_restarts(short, state)

    hint = f"invoke lab.logs {name} --service {short}"
    prerequisites = (*requires.configured(name, short), f"service/{name}/{short}")
    return Check(f"restarts/{name}/{short}", name, short, hint, judge, prerequisites)


def judge_restarts(short: str, state: UnitHealth) -> Verdict:
    """A failure while a service restarts again and again, a warning after one that was recent."""
    expected = "no automatic restart"
    recent = state.restarts and 0 < state.since < RECENT_RESTART_SECONDS
    if not recent:
        return Verdict(True, expected, expected)
    if state.recent_restarts >= RESTART_LOOP and state.since < LOOP_QUIET_SECONDS:
        got = f"restarted by itself {state.recent_restarts} times in {LOOP_SECONDS} s"
        return Verdict(False, expected, got, state.journal, cause=f"{short} {got}")
    got = f"restarted by itself {state.since:.0f} s ago"
    return Verdict(False, expected, got, state.journal, severity="warning", cause=f"{short} {got}")


# --- timers, backups -----------------------------------------------------------------------------


def _timer(context: Context, machine: Machine, timer: str) -> Check:
    name = machine.name

    def judge(observation: Observation) -> Verdict:
        state = units.health(context, observation, machine).units.get(timer)
        if state is None:
            return Verdict(False, "it elapses on schedule", UNKNOWN)
        return judge_timer(timer, state)

    hint = f"invoke lab.ssh {name} -- sudo systemctl restart {timer}"
    prerequisites = (*requires.configured(name, timer), f"service/{name}/{timer}")
    short = timer.removesuffix(".timer")
    return Check(f"timer/{name}/{short}", name, timer, hint, judge, prerequisites)


def judge_timer(timer: str, state: UnitHealth) -> Verdict:
    """A warning while a missed run is about to be made up for; a failure when it is not."""
    limit = TIMER_SECONDS.get(timer, DAILY_TIMER_SECONDS)
    expected = f"it elapses every {_duration(limit)}"
    elapsed = state.since if state.last_run is None else state.last_run
    if state.next_run is None and timer not in TIMER_SECONDS:
        got = "it will not elapse again"
    elif state.next_run is not None and not -limit < state.next_run < limit:
        got = f"the next run is in {_duration(state.next_run)}"
    elif elapsed > limit:
        got = f"the last run was {_duration(elapsed)} ago"
        if state.next_run is not None and state.next_run < min(limit, CATCH_UP_SECONDS):
            got += f", the next one is in {_duration(max(0.0, state.next_run))}"
            return Verdict(False, expected, got, severity="warning", cause=f"{timer}: {got}")
    else:
        return Verdict(True, expected, expected)
    return Verdict(False, expected, got, cause=f"{timer} missed its run: {got}")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"


def _backup(context: Context, machine: Machine) -> Check:
    """The newest of all backups; the first replica is the machine that should have made it."""
    name = machine.name
    databases = context.lab.with_role("mysql")

    def judge(observation: Observation) -> Verdict:
        results = [observation.result(m.name, backup_age_probe()) for m in databases]
        known = [result for result in results if result is not None]
        timer = units.health(context, observation, machine).units.get(BACKUP_TIMER)
        return judge_backup(known, timer.next_run if timer else None)

    hint = f"invoke lab.ssh {name} -- sudo systemctl start {BACKUP_SERVICE}"
    prerequisites = (
        *requires.database(name),
        f"service/{name}/{BACKUP_TIMER}",
        f"service/{name}/{BACKUP_SERVICE}",
        f"timer/{name}/{BACKUP_SERVICE}",
    )
    return Check(f"backup/{name}", name, BACKUP_SERVICE, hint, judge, prerequisites)


def judge_backup(backups: list[BackupAge], next_run: float | None) -> Verdict:
    """The newest backup of all databases.

    Args:
        backups: of each database machine that responded.
        next_run: seconds until the next backup is made; None when unknown.
    """
    expected = f"a backup of the last {_duration(BACKUP_AGE_SECONDS)}"
    made = [backup for backup in backups if backup.count]
    newest = min(made or backups, key=lambda backup: backup.age, default=None)
    if newest is None:
        return Verdict(False, expected, UNKNOWN)
    if newest.count and not newest.size:
        return Verdict(False, expected, "the newest backup is empty")
    if newest.age <= BACKUP_AGE_SECONDS:
        got = f"{_duration(newest.age)} old" if newest.count else "none yet; the lab is new"
        return Verdict(True, expected, got)
    got = f"the newest is {_duration(newest.age)} old" if newest.count else "no backup"
    soon = next_run is not None and next_run < CATCH_UP_SECONDS
    return Verdict(
        False,
        expected,
        got,
        severity="warning" if soon else "error",
        cause=f"database backup: {got}",
    )


# --- flapping ------------------------------------------------------------------------------------


def _flapping(context: Context, web: Machine) -> Check:
    balancers = context.lab.with_role("haproxy")

    def judge(observation: Observation) -> Verdict:
        seen = [observation.result(m.name, TRANSITIONS) or Transitions() for m in balancers]
        return judge_flapping(web.name, max(t.downs.get(web.name, 0) for t in seen))

    service = "foobar" if "app" in web.roles else "nginx"
    hint = f"invoke lab.logs {web.name} --service {service}"
    prerequisites = (*requires.web_server(context, web), f"web/{web.name}")
    return Check(f"flapping/{web.name}", web.name, service, hint, judge, prerequisites)


def judge_flapping(name: str, downs: int) -> Verdict:
    """A server that its balancer has marked DOWN again and again."""
    expected = "a stable backend server"
    if downs < FLAPS:
        return Verdict(True, expected, expected)
    got = f"DOWN {downs} times in {LOOP_SECONDS} s"
    return Verdict(False, expected, got, cause=f"{name} is flapping: {got}")
