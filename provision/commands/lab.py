"""`lab.*`: boot it, look at it, stop it, remove it."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import astuple
from typing import Any

from provision import checks, providers
from provision import registry as roles
from provision.checks.observe import observe
from provision.commands import hostcheck, show, stages
from provision.commands.base import (
    Session,
    console,
    lab_name,
    number,
    remainder,
    session,
    show_json,
    task,
)
from provision.commands.progress import Progress
from provision.core import state
from provision.core.errors import LabError, ProviderError, UsageError
from provision.core.lab import Lab
from provision.core.patience import patience
from provision.core.report import Report
from provision.core.state import State
from provision.database import promote as db_promote
from provision.database.failover import control as autopromote
from provision.database.failover import role
from provision.engine.context import Context
from provision.engine.converge import converge, plans
from provision.engine.fleet import Fleet
from provision.operations import clean
from provision.operations import restart as restarting
from provision.providers.base import Provider
from provision.services.haproxy import traffic
from provision.services.tls import clocks
from provision.topology import labs

SETTLE = 20.0 * patience()
"""Seconds in which the checks must pass after lab.up: two health checks, a replica catching up."""


@task(
    help={
        "topology": "a name from configs/topologies, or a file",
        "network": "where a new lab lives, such as 192.168.57.0/24",
        "provider": "where machines come from: lxc, vagrant, ssh (they exist already)",
        "inventory": "provider ssh: a file that says how machines are reached",
        "pin": "provider ssh: accept host keys that are not known yet, once",
        "yes": "remove machines that the topology does not have any more without asking",
    }
)
def up(
    c: Any,
    lab: str = "",
    topology: str = "",
    network: str = "",
    provider: str = "",
    inventory: str = "",
    pin: bool = False,
    yes: bool = False,
) -> None:
    """Boot the machines, configure them over SSH, and check the result."""
    here, recorded = labs.open_lab(
        lab_name(lab),
        topology=topology or None,
        network=network or None,
        stay=providers.asked(provider) == "ssh",
    )
    source, why = providers.choose(provider, recorded)
    providers.tell(source, inventory, pin)
    with state.lock(here.directory):
        problems = source.preflight(here)
        for problem in problems:
            if not problem.fatal:
                print(f"note: {problem.what}; {problem.advice}", file=sys.stderr)
        fatal = [p for p in problems if p.fatal]
        if fatal:
            raise ProviderError(
                f"this host is not ready for lab {here.name} with provider {source.name}:\n"
                + "\n".join(f"  - {p.what}\n    mend: {p.advice}" for p in fatal)
            )
        if recorded is None:
            print(f"lab {here.name}: provider {source.name} ({why}), network {here.network}")
        recorded = recorded and _adopted(here, recorded, source)
        step = stages.agreed(here, recorded, source, yes)
        if step is None:
            return
        if recorded is not None:
            recorded = _stand_down(Session(step.old, recorded, source), here)
        if recorded is not None and step.between is not None:
            _move(Session(step.between, recorded, source), here)
        stages.removed(step, source)
        recorded = labs.record(here, source.name)
        now = Session(here, recorded, source)
        with Progress() as report:
            fleet = _boot(now, report)
        with fleet:
            if source.name == "ssh":
                clean.remember(now.context, fleet)
            _configure(now, fleet)


def _adopted(new: Lab, recorded: State, source: Provider) -> State:
    """The record, with a promotion that the lab made by itself before its design changes."""
    if not recorded.autopromote or recorded.topology == labs.source(new.topology, new.root):
        return recorded  # without a change, what is configured next looks for it
    try:
        old, _ = labs.open_lab(new.name, root=new.root)
        with Session(old, recorded, source).fleet() as fleet:
            return autopromote.adopt(Context(old, recorded), fleet).state
    except LabError:
        return recorded  # nothing of it runs, or its topology cannot be read any more


def _stand_down(old: Session, new: Lab) -> State:
    """Turn automatic promotion off before a machine of its three leaves, or becomes another one."""
    before, after = (tuple(m.name for m in role.parties(each)) for each in (old.lab, new))
    if not old.state.autopromote or before == after:
        return old.state
    if "running" not in old.provider.state(old.lab).values():
        return state.change(old.lab.directory, autopromote=False)
    with old.fleet() as fleet:
        return autopromote.stand_down(old.context, fleet).state


def _move(between: Session, new: Lab) -> None:
    """Bring the data to a database machine of another topology: copy, follow, promote."""
    old, target = between.state.primary, new.topology.primary
    print(f"the data moves from {old} to {target}: first both have it, then {target} is promoted")
    with Progress() as report:
        fleet = _boot(between, report)
    with fleet:
        _configure(between, fleet)
        moved = db_promote.promote(between.context, fleet, target)
    print(f"{moved.new} takes the writes now; {moved.seconds:.1f} s without any\n")


def _boot(now: Session, report: Report) -> Fleet:
    """Bring the machines up; returns them, not yet connected."""
    context = now.context
    preload = {m.name: roles.packages(context, m) for m in now.lab.machines}
    endpoints = now.provider.up(now.lab, report, preload)
    labs.write_access(now.lab, endpoints)
    problem = now.provider.link_problem(now.lab)
    if problem:
        raise ProviderError(f"nothing is sent to {now.lab.network}: {problem}", "invoke lab.up")
    return Fleet(now.lab, endpoints)


def _configure(now: Session, fleet: Fleet) -> None:
    """Converge, check, and say what came of it."""
    recorded = autopromote.adopt(now.context, fleet).state
    context = Context(now.lab, recorded, rolling=(now.lab.directory / "served").exists())
    with Progress() as report:
        fleet.report = report
        clocks.agree(context, fleet)
        outcomes = converge(context, fleet)
    failed = [o for o in outcomes.values() if o.error is not None]
    show.outcomes(console(), outcomes.values())
    for note in dict.fromkeys(context.authority.notes):
        print(f"note: {note}", file=sys.stderr)
    if failed:
        raise LabError("\n\n".join(str(o.error) for o in failed))
    with Progress() as report:
        results = _settled(context, fleet, now, report)
    show.checks(console(), results, only_failed=True)
    bad = [r for r in results if not r.ok]
    if bad:
        raise LabError(f"{len(bad)} of {len(results)} checks failed", "invoke lab.check")
    (now.lab.directory / "served").touch()
    through = " or ".join(m.name for m in now.lab.with_role("haproxy")) or now.lab.front.name
    print(f"\n{now.lab.url}/ is {now.lab.site}, through {through}")


def _settled(
    context: Context, fleet: Fleet, now: Session, report: Report
) -> tuple[checks.Result, ...]:
    """The checks, once they pass: a service that was just started needs a moment to be seen."""
    deadline = time.monotonic() + SETTLE
    while True:
        seen = observe(context, fleet, now.provider.state(now.lab))
        results = checks.judge(context, seen)
        bad = [r.check.name for r in results if not r.ok]
        if not bad or time.monotonic() > deadline:
            return results
        report(now.lab.front.name, f"waiting for {', '.join(bad[:3])}")
        time.sleep(0.5)


@task(help={"detailed-exitcode": "exit with 2 when something would change, 0 when nothing would"})
def plan(c: Any, lab: str = "", detailed_exitcode: bool = False) -> None:
    """Show what lab.up would change on the machines, as a diff; change nothing."""
    now = session(lab)
    states = now.provider.state(now.lab)
    with now.fleet() as fleet:
        planned = plans(autopromote.adopt(now.context, fleet), fleet)
    text, count = show.plans(planned)
    print(now.context.secrets.redact(text))
    decided = traffic.recorded(now.context)
    if decided:
        print("recorded, and kept by lab.up:")
        print("\n".join(f"    {line}" for line in decided))
    down = [name for name in states if name not in planned]
    for name in down:
        print(f"{name}: {states[name]}; lab.up brings it up")
    if detailed_exitcode and (count or down):
        raise SystemExit(2)


@task(help={"json": "for programs"})
def status(c: Any, lab: str = "", json: bool = False) -> None:
    """Show machines, services, the balancer's view and replication in one table."""
    now = session(lab)
    context = now.context
    states = now.provider.state(now.lab)
    if now.provider.link_problem(now.lab) or "running" not in states.values():
        seen = None
    else:
        with now.fleet() as fleet:
            context = autopromote.adopt(context, fleet)
            seen = observe(context, fleet, states, requests_too=False)
    if json:
        show_json(show.status_values(context, states, seen))
    else:
        show.status(console(), context, states, seen)


@task(help={"json": "for programs", "only": "a part of the names of the checks to run"})
def check(c: Any, lab: str = "", json: bool = False, only: str = "") -> None:
    """Run the named checks end to end; exit with 1 when one fails."""
    now = session(lab)
    with now.fleet() as fleet:
        context = autopromote.adopt(now.context, fleet)
        seen = observe(context, fleet, now.provider.state(now.lab))
    results = [r for r in checks.judge(context, seen) if only in r.check.name]
    if not results:
        raise UsageError(f"no check has {only!r} in its name", "invoke lab.check lists them all")
    if json:
        show_json([r.values() for r in results])
    else:
        show.checks(console(), results)
    if not all(r.ok for r in results):
        raise SystemExit(1)


@task(positional=["machine"])
def ssh(c: Any, machine: str, lab: str = "") -> None:
    """Log in to a machine, or run a command there: lab.ssh web-01 -- uptime."""
    now = session(lab)
    now.lab.machine(machine)
    problem = now.provider.link_problem(now.lab)
    if problem or machine not in now.provider.endpoints(now.lab):
        raise LabError(f"{machine} is not running {problem}".strip(), "invoke lab.up")
    argv = ["ssh", "-F", str(now.lab.directory / "ssh_config"), machine, *remainder()]
    sys.stdout.flush()
    try:
        ended = subprocess.run(argv, check=False)
    except FileNotFoundError:
        raise LabError("there is no ssh on this computer", "install an OpenSSH client") from None
    raise SystemExit(ended.returncode)


@task(
    positional=["machine"],
    help={"service": "haproxy, nginx, foobar, mysql …", "lines": "how many", "follow": "keep on"},
)
def logs(
    c: Any, machine: str, service: str = "", lines: str = "50", follow: bool = False, lab: str = ""
) -> None:
    """Show a machine's journal, or that of one of its services."""
    now = session(lab)
    count = int(number(lines, "--lines", 1, 100_000))
    with now.fleet() as fleet:
        host = fleet.host(machine)
        argv = ["journalctl", "--no-pager", "-o", "short-iso", "-n", str(count)]
        if service:
            argv += ["-u", service]
        if not follow:
            print(host.run(*argv).out, end="")
            return
    words = " ".join(["sudo", *argv, "-f"])
    config = str(now.lab.directory / "ssh_config")
    raise SystemExit(subprocess.run(["ssh", "-F", config, machine, words], check=False).returncode)


@task(positional=["machine"], help={"machine": "one machine; without it all of them"})
def halt(c: Any, machine: str = "", lab: str = "") -> None:
    """Stop the machines cleanly; lab.up brings them back with their data."""
    now = session(lab)
    names = [now.lab.machine(machine).name] if machine else []
    with now.lock(), Progress() as report:
        now.provider.halt(now.lab, report, names)


@task(positional=["machine"])
def kill(c: Any, machine: str, lab: str = "") -> None:
    """Take one machine's power away, as a fault does."""
    now = session(lab)
    now.provider.kill(now.lab, now.lab.machine(machine).name)


@task(positional=["machine"])
def start(c: Any, machine: str, lab: str = "") -> None:
    """Start one halted or killed machine as it is, without configuring it."""
    now = session(lab)
    with now.lock():
        now.provider.start(now.lab, now.lab.machine(machine).name)


@task(positional=["what"], help={"what": "a machine, or a service such as foobar or mysql"})
def restart(c: Any, what: str, lab: str = "") -> None:
    """Restart a machine, or a service wherever it runs, while the site goes on serving."""
    now = session(lab)
    with now.lock(), now.fleet() as fleet, Progress() as report:
        restarting.restart(autopromote.adopt(now.context, fleet), fleet, what, report)


@task(help={"yes": "do not ask"})
def destroy(c: Any, lab: str = "", yes: bool = False) -> None:
    """Remove the machines, their data, the network and the secrets of a lab."""
    name = lab_name(lab)
    here, recorded = labs.open_lab(name)
    if recorded is None and not here.directory.exists():
        print(f"there is no lab {name}: nothing to do")
        return
    source, _ = providers.choose("", recorded)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"this removes lab {name} and its data", "say so with --yes")
        if input(f"remove lab {name}, its machines and all their data? [y/N] ").lower() != "y":
            print("nothing was removed")
            return
    with state.lock(here.directory), Progress() as report:
        source.destroy(here, report)
    labs.erase(here)
    print(f"lab {name} is gone")


@task(name="list", help={"json": "for programs"})
def list_(c: Any, json: bool = False) -> None:
    """List the labs of this checkout."""
    found = []
    for name in labs.labs():
        now = session(name)
        states = now.provider.state(now.lab)
        up_now = sum(value == "running" for value in states.values())
        found.append(
            {
                "lab": name,
                "topology": now.state.topology,
                "network": str(now.lab.network),
                "provider": now.state.provider,
                "running": f"{up_now} of {len(states)}",
            }
        )
    if json:
        show_json(found)
    elif not found:
        print("no lab yet: invoke lab.up")
    else:
        show.table(console(), found)


@task(help={"provider": "lxc, vagrant, ssh", "host": "all providers, as a table"})
def doctor(c: Any, lab: str = "", provider: str = "", host: bool = False) -> None:
    """Say what this host needs before lab.up works; change nothing."""
    here, recorded = labs.open_lab(lab_name(lab))
    if host:
        found, (name, reason) = hostcheck.host(here)
        show.grid(console(), hostcheck.HEADER, [astuple(row) for row in found])
        print(f"\na new lab would get provider {name}: {reason}")
        return
    source, why = providers.choose(provider, recorded)
    print(f"provider {source.name}: {why}")
    problems = source.preflight(here)
    for problem in problems:
        print(f"{'missing' if problem.fatal else 'note'}: {problem.what}\n  mend: {problem.advice}")
    if any(p.fatal for p in problems):
        raise SystemExit(1)
    print(f"ready for lab {here.name} on {here.network}")
