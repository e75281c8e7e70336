"""`lab.*`, one machine: log in, read its journal, stop, kill, start and restart it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from provision.commands import document
from provision.commands.base import number, open_session, publish, remainder, task
from provision.commands.progress import Progress
from provision.commands.results import lab as results
from provision.core.errors import LabError, UsageError
from provision.core.hints import for_lab
from provision.core.ssh_config import ssh_command
from provision.database.failover import control as failover
from provision.operations import power_cuts
from provision.operations import restart as rolling_restart
from provision.operations.journal import unit_of


@task(positional=["machine"], remainder="COMMAND")
def ssh(c: Any, machine: str, lab: str = "") -> None:
    """Log in to a machine, or run a command.

    A command follows --, as in: lab.ssh web-01 -- uptime
    """
    session = open_session(lab)
    session.lab.machine(machine)
    problem = session.provider.network_problem(session.lab)
    if problem or machine not in session.provider.endpoints(session.lab):
        raise LabError(f"{machine} is not running {problem}".strip(), "invoke lab.up")
    raise SystemExit(_run(ssh_command(session.lab, machine, *remainder())))


@task(
    result=results.JournalLines,
    positional=["machine"],
    help={
        "service": "a systemd unit, such as haproxy, nginx, foobar or mysql (default: all)",
        "lines": "number of lines",
        "follow": "keep printing new lines",
    },
)
def logs(
    c: Any, machine: str, service: str = "", lines: str = "50", follow: bool = False, lab: str = ""
) -> None:
    """Show the journal of a machine or of one service."""
    session = open_session(lab)
    if follow and document.requested():
        raise UsageError("--follow never ends, so it has no JSON document", "leave out one of them")
    count = int(number(lines, "--lines", 1, 100_000))
    argv = ["journalctl", "--no-pager", "-o", "short-iso", "-n", str(count)]
    with session.fleet() as fleet:
        host = fleet.host(machine)
        if service:
            argv += ["-u", unit_of(session.context, host, service)]
        if not follow:
            text = host.run(*argv).stdout
            values = results.JournalLines(machine=machine, service=service, lines=text.splitlines())
            if not publish(values):
                print(text, end="")
            return
    command = " ".join(["sudo", *argv, "-f"])
    raise SystemExit(_run(ssh_command(session.lab, machine, command)))


def _run(argv: list[str]) -> int:
    sys.stdout.flush()
    try:
        return subprocess.run(argv, check=False).returncode
    except FileNotFoundError:
        raise LabError("ssh was not found on this computer", "install an OpenSSH client") from None


@task(
    result=results.ActionValues,
    positional=["machine"],
    help={"machine": "one machine; all of them by default"},
)
def halt(c: Any, machine: str = "", lab: str = "") -> None:
    """Shut machines down; they keep their data."""
    session = open_session(lab)
    names = [session.lab.machine(machine).name] if machine else []
    with session.lock(), Progress() as report:
        states = session.machine_states()
        session.provider.halt(session.lab, report, names)
        halted = [n for n in names or states if states[n] not in ("halted", "killed", "absent")]
        power_cuts.forget(session.lab.directory, halted)
    publish(results.ActionValues(machines=halted, changed=bool(halted)))
    for name in names or states:
        if name not in halted:
            print(f"{name} was {states[name]} already")
    if halted:
        print(f"shut down: {', '.join(halted)}")


@task(result=results.ActionValues, positional=["machine"])
def kill(c: Any, machine: str, lab: str = "") -> None:
    """Cut the power of one machine, as a fault."""
    session = open_session(lab)
    name = session.lab.machine(machine).name
    state = session.machine_states()[name]
    if changed := state not in ("halted", "killed", "absent"):
        session.provider.kill(session.lab, name)
        power_cuts.record(session.lab.directory, name)
    publish(results.ActionValues(machines=[name], changed=changed))
    print(f"the power of {name} is cut" if changed else f"{name} was {state} already")
    print(for_lab(f"next: invoke lab.start {name}", session.lab.name))


@task(result=results.ActionValues, positional=["machine"])
def start(c: Any, machine: str, lab: str = "") -> None:
    """Start one machine without configuring it."""
    session = open_session(lab)
    name = session.lab.machine(machine).name
    with session.lock():
        before = session.machine_states()[name]
        session.provider.start(session.lab, name)
        power_cuts.forget(session.lab.directory, [name])
        after = session.machine_states()[name]
    publish(results.ActionValues(machines=[name], changed=before != after))
    started = f"{name} is {after}" if before != after else f"{name} was {after} already"
    print(f"{started}; its services were not checked")
    print(for_lab("next: invoke lab.check", session.lab.name))


@task(
    result=results.Restarted,
    positional=["what"],
    help={
        "what": "a machine, or a service such as foobar or mysql",
        "yes": "do not ask while a drill runs",
    },
)
def restart(c: Any, what: str, yes: bool = False, lab: str = "") -> None:
    """Restart a machine or service without an outage."""
    session = open_session(lab)
    with session.lock(), session.fleet() as fleet, Progress() as report:
        context = failover.adopt(session.context, fleet)
        rolling_restart.restart(context, fleet, what, report)
    publish(results.Restarted(target=what))
    print(f"{what} is restarted")
