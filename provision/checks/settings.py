"""Warnings about settings that an operator changed, and that lab.up keeps.

They are easily forgotten: a server that is drained or has another weight, automatic failover that
is off where the topology has it.
"""

from __future__ import annotations

from collections.abc import Iterator

from provision.checks import replication
from provision.checks.base import UNKNOWN, Check, CheckResult, Verdict
from provision.checks.observation import Observation
from provision.database.failover import feature
from provision.engine.context import Context
from provision.services.haproxy.interface import WEIGHT

ADMIN = {"drain": "drained", "maint": "in maintenance"}


def checks(context: Context) -> Iterator[Check]:
    """One warning per changed setting; none with the settings of the topology."""
    state, lab = context.state, context.lab
    balancers = [machine.name for machine in lab.with_role("haproxy")]
    for web in lab.with_role("nginx") if balancers else ():
        name = web.name
        admin, weight = state.admin.get(name, "ready"), state.weights.get(name, WEIGHT)
        if admin != "ready":
            got = f"{name} is {ADMIN.get(admin, admin)}: it gets no new requests"
            hint = f"invoke lb.ready {name}"
            yield _warning(f"ready/{name}", balancers[0], "haproxy", f"{name} ready", got, hint)
        if weight != WEIGHT:
            got = f"{name} has weight {weight} instead of {WEIGHT}"
            hint = f"invoke lb.weight {name} {WEIGHT}"
            expected = f"weight {WEIGHT}"
            yield _warning(f"weight/{name}", balancers[0], "haproxy", expected, got, hint)
    witness = feature.witness(lab)
    if lab.topology.autopromote and not state.autopromote and witness is not None:
        got = "automatic failover is off, and on by default in this topology"
        hint = "invoke db.autopromote on"
        yield _warning("autopromote-off", witness.name, "mysql", "automatic failover", got, hint)


def warnings(context: Context, observation: Observation) -> Iterator[CheckResult]:
    """What lab.status shows besides: changed settings, and semi-sync that has fallen back."""
    fallback = (c for c in replication.checks(context) if c.name.startswith("semisync/"))
    for check in (*checks(context), *fallback):
        verdict = check.judge(observation)
        if not verdict.ok and verdict.got != UNKNOWN:
            yield CheckResult(check, verdict)


def _warning(name: str, machine: str, service: str, expected: str, got: str, hint: str) -> Check:
    verdict = Verdict(False, expected, got, severity="warning", cause=got)

    def judge(observation: Observation) -> Verdict:
        return verdict

    return Check(f"setting/{name}", machine, service, hint, judge)
