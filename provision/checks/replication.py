"""Checks of replication: configuration, missing and errant transactions, the rows themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from provision.checks import prerequisites as requires
from provision.checks.base import UNKNOWN, Check, Verdict, equals
from provision.checks.database import server_status
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.core.thresholds import REPLICATION_LAG_SECONDS
from provision.database.agent.comparison import Comparison
from provision.database.replication_health import (
    describe_differences,
    describe_replica,
    replica_problems,
)
from provision.database.role import compare_with_primary
from provision.engine.agent.protocol import Probe
from provision.engine.context import Context

SEMISYNC = "semi-synchronous: a commit waits for a replica"
SAME_DATA = "the same rows as the primary"


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """A replica compared with its primary."""
    if "mysql" in machine.roles and machine.name != context.state.primary:
        yield compare_with_primary(context)


def checks(context: Context) -> Iterator[Check]:
    """Checks of the primary, if it has replicas, and of every replica."""
    primary = context.state.primary
    databases = [machine.name for machine in context.lab.with_role("mysql")]
    for name in databases:
        if name != primary:
            yield _replica(context, name)
            yield _data(context, name)
        elif len(databases) > 1:
            replicas = [other for other in databases if other != name]
            yield _semisync(name, replicas)


def comparison(context: Context, observation: Observation, machine: str) -> Comparison | None:
    """A replica compared with its primary; None when unknown."""
    return observation.result(machine, compare_with_primary(context))


def _semisync(name: str, replicas: list[str]) -> Check:
    def judge(observation: Observation) -> Verdict:
        status = server_status(observation, name)
        if not status.up:
            return Verdict(False, SEMISYNC, UNKNOWN)
        return replace(
            equals(SEMISYNC, SEMISYNC if status.semisync_active else "asynchronous (fallback)"),
            cause="semi-sync has fallen back to asynchronous: a commit waits for no replica",
            severity="warning",  # writes continue; a crash of the primary can lose the last ones
            passing=True,  # it returns with the replica
        )

    replicating = [f"replication/{replica}" for replica in replicas]
    prerequisites = (*requires.database(name), *replicating)
    return Check(f"semisync/{name}", name, "mysql", "invoke db.status", judge, prerequisites)


def _replica(context: Context, name: str) -> Check:
    primary, limit = context.state.primary, REPLICATION_LAG_SECONDS
    address = str(context.primary.address)
    expected = f"every transaction of {primary} within {limit} s, no others, read-only"

    def judge(observation: Observation) -> Verdict:
        status = server_status(observation, name)
        compared = comparison(context, observation, name)
        problems = replica_problems(name, address, status, compared)
        if not problems and compared is None:
            return Verdict(False, expected, UNKNOWN)
        if not problems:
            return Verdict(True, expected, describe_replica(status, compared))
        got = "; ".join(problem.text for problem in problems)
        detail = "\n".join(problem.detail for problem in problems if problem.detail)
        cause = f"replication: {problems[0].text}"
        return Verdict(False, expected, got, detail, cause=cause, hint=problems[0].fix)

    prerequisites = (*requires.database(primary), *requires.database(name))
    return Check(f"replication/{name}", name, "mysql", "invoke lab.up", judge, prerequisites)


def _data(context: Context, name: str) -> Check:
    primary = context.state.primary

    def judge(observation: Observation) -> Verdict:
        compared = comparison(context, observation, name)
        if compared is None or compared.error:
            return Verdict(False, SAME_DATA, compared.error if compared else UNKNOWN)
        return judge_data(compared)

    hint = f"invoke db.rejoin {name} --rebuild"
    prerequisites = (f"replication/{name}", *requires.database(primary), *requires.database(name))
    return Check(f"data/{name}", name, "mysql", hint, judge, prerequisites)


def judge_data(compared: Comparison) -> Verdict:
    """Whether the rows are the same as far as they were compared."""
    if compared.differences:
        text = describe_differences(compared)
        return Verdict(False, SAME_DATA, text, cause=f"the data differs from the primary: {text}")
    if compared.errant:
        return Verdict(False, SAME_DATA, "not compared: errant transactions")
    if compared.missing:
        return Verdict(True, SAME_DATA, "not compared: transactions are missing")
    notes = [f"{compared.tables} tables at equal GTID"]
    if compared.not_compared:
        notes.append(f"not compared: {'; '.join(compared.not_compared)}")
    return Verdict(True, SAME_DATA, ", ".join(notes))
