"""Shortcuts that do not count as a fix, found by comparing the lab with its good state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from provision.core.errors import LabError
from provision.drills.drill import Exercise
from provision.drills.probes import Judge
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.services.haproxy import runtime

COMMANDS = ("lab.up", "lab.restart")
TEXTS = {
    "lab.up": "lab.up restored the lab's files",
    "lab.restart": "lab.restart was used",
    "reinstall": "packages were installed or removed on {where}",
    "firewall-off": "the firewall of {where} is off",
    "health-check-removed": "the balancer has no health check of {where}",
    "server-removed": "the balancer does not use {where}",
}

PACKAGES = r"grep -cE '^\S+ \S+ (install|upgrade|remove|purge) ' /var/log/dpkg.log || true"
FIREWALL = "nft list ruleset 2>/dev/null | grep -c 'policy drop' || true"
OUT_OF_USE = ("MAINT", "DRAIN")


@dataclass(frozen=True)
class Baseline:
    """What the good state is compared with.

    Args:
        packages: by machine, changes in dpkg's log.
        firewall: by machine, chains that drop by default.
        servers: of the balancers' backend, with a health check.
    """

    packages: Mapping[str, int] = field(default_factory=dict)
    firewall: Mapping[str, int] = field(default_factory=dict)
    servers: Sequence[str] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Baseline:
        """The baseline of recorded values."""
        return cls(
            dict(values.get("packages", {})),
            dict(values.get("firewall", {})),
            tuple(values.get("servers", ())),
        )


def read_baseline(context: Context, fleet: Fleet) -> Baseline:
    """The present state; what cannot be read is not compared."""
    counts = fleet.each(lambda host: (_count(host, PACKAGES), _count(host, FIREWALL)))
    try:
        servers = sorted({s.name for v in runtime.statistics(context, fleet).values() for s in v})
    except LabError:
        servers = []
    return Baseline(
        {name: packages for name, (packages, _) in counts.items()},
        {name: chains for name, (_, chains) in counts.items()},
        servers,
    )


def used(
    judge: Judge, exercise: Exercise, baseline: Baseline, commands: Sequence[str]
) -> tuple[str, ...]:
    """The forbidden shortcuts that were taken, in words.

    Args:
        commands: of the lab that were run since the fault is in place.
    """
    found = [TEXTS[name] for name in COMMANDS if name in exercise.shortcuts and name in commands]
    context, fleet = judge.context, judge.fleet
    for name, command, expected in (
        ("reinstall", PACKAGES, baseline.packages),
        ("firewall-off", FIREWALL, baseline.firewall),
    ):
        if name in exercise.shortcuts:
            where = _changed(fleet, command, expected, more=name == "reinstall")
            found += [TEXTS[name].format(where=machine) for machine in where]
    if {"health-check-removed", "server-removed"} & set(exercise.shortcuts):
        found += _servers(context, fleet, exercise.shortcuts, baseline.servers)
    results = judge.judge(exercise.guarded)
    found += [f"not so any more: {r.probe.name}" for r in results if not r.held]
    return tuple(dict.fromkeys(found))


def _changed(fleet: Fleet, command: str, before: Mapping[str, int], *, more: bool) -> list[str]:
    changed = []
    for name, count in before.items():
        if name not in fleet.hosts:
            continue
        try:
            current = _count(fleet.host(name), command)
        except LabError:
            continue  # the proofs say that it cannot be reached
        if current > count if more else current < count:
            changed.append(name)
    return changed


def _servers(
    context: Context, fleet: Fleet, shortcuts: Sequence[str], expected: Sequence[str]
) -> list[str]:
    try:
        views = runtime.statistics(context, fleet)
    except LabError:
        return []  # a balancer does not answer, as a proof says
    found = []
    for servers in views.values():
        status = {server.name: server.status for server in servers}
        for name in expected:
            present = status.get(name, "")
            if "health-check-removed" in shortcuts and present.startswith("no check"):
                found.append(TEXTS["health-check-removed"].format(where=name))
            if "server-removed" in shortcuts and (not present or present.startswith(OUT_OF_USE)):
                found.append(TEXTS["server-removed"].format(where=name))
    return found


def _count(host: Any, command: str) -> int:
    text = host.run("sh", "-c", command).stdout.strip()
    return int(text) if text.isdigit() else 0
