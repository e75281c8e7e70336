"""systemd units and system users of a machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from provision.engine.agent.crashes import cause, own_lines
from provision.engine.agent.files import Journal
from provision.engine.agent.process import AgentError, Log, must, run
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, action, batch_collector, collector
from provision.engine.agent.suspension import PROPERTY, resume, suspended_processes, suspension

NO_LOGIN = "/usr/sbin/nologin"

JOURNAL_LINES = 8
"""Lines of a failed unit's journal that a check quotes."""


@dataclass(frozen=True)
class ServiceState:
    """A unit's ActiveState and UnitFileState, as ``systemctl show`` prints them.

    Args:
        journal: the last lines of a unit that has failed or does not start; otherwise empty.
        suspended: what suspends an active unit (`suspension`); otherwise empty.
    """

    active: str
    enabled: str
    journal: str = ""
    suspended: str = ""


@dataclass(frozen=True)
class UserFacts:
    """Home and shell of a system user; empty when there is none."""

    home: str
    shell: str


def service_probe(name: str) -> Probe[ServiceState]:
    """The state of a systemd unit."""
    return Probe("service", f"service {name}", {"name": name}, ServiceState)


def user_probe(name: str) -> Probe[UserFacts]:
    """A system user."""
    return Probe("user", f"user {name}", {"name": name}, UserFacts)


@batch_collector("service")
def collect_services(batch: Sequence[Args]) -> list[ServiceState]:
    """See `service_probe`; one ``systemctl show`` for all units."""
    properties = f"--property=ActiveState,UnitFileState,{PROPERTY}"
    output = must(["systemctl", "show", properties, "--", *(args["name"] for args in batch)]).stdout
    states, processes = [], suspended_processes()
    for args, block in zip(batch, output.strip("\n").split("\n\n"), strict=True):
        values = dict(line.split("=", 1) for line in block.splitlines())
        suspended = suspension(args["name"], values, processes)
        state = ServiceState(values["ActiveState"], values["UnitFileState"], suspended=suspended)
        failing = state.active in ("failed", "activating", "reloading")
        states.append(replace(state, journal=last_lines(args["name"])) if failing else state)
    return states


def last_lines(unit: str) -> str:
    """The last lines of a unit's journal."""
    count = str(JOURNAL_LINES)
    argv = ["journalctl", "--quiet", "--no-pager", "-o", "cat", "-n", count, "-u", unit]
    return run(argv, timeout=5).stdout.strip()


@action("service")
def configure_service(args: Args, journal: Journal, log: Log) -> None:
    """Enable or disable a unit: ``name``, ``enabled``, ``run``.

    The last is ``start``, ``stop``, ``resume`` for a suspended unit, or empty.

    Every change of links makes systemd reload all its units: only what is needed is called.
    """
    name = args["name"]
    before = run(["systemctl", "is-enabled", name]).stdout.strip()
    if args["enabled"] and before.startswith("masked"):
        run(["systemctl", "unmask", name])
        run(["systemctl", "unmask", "--runtime", name])
    if before != "enabled" or not args["enabled"]:
        must(["systemctl", "enable" if args["enabled"] else "disable", name])
    if args["run"] == "stop":
        run(["systemctl", "stop", name], timeout=120)
        run(["systemctl", "reset-failed", name])
    elif args["run"] == "start":
        # Restart starts a unit that does not run; and systemd refuses to start a socket whose
        # service already runs, but restarts both.
        activate(name, "restart", log)
    elif args["run"] == "resume":
        resume(name)


def activate(name: str, verb: str, log: Log) -> None:
    """Start, reload or restart a unit; it must then be active.

    Raises:
        AgentError: with the last lines of its journal.
    """
    log(f"{verb} {name}")
    run(["systemctl", "reset-failed", name])
    since = time.time() - 1
    run(["systemctl", "daemon-reload"])
    result = run(["systemctl", verb, name], timeout=180)
    if result.ok and is_active(name):
        return
    state = run(["systemctl", "is-active", name]).stdout.strip()
    why, lines = cause(own_lines(name, since))
    if not lines:  # it was never started; systemd says why
        journal = ["journalctl", "-u", name, "-n", "15", "-o", "cat", "--no-pager"]
        lines = run([*journal, f"--since=@{since:.0f}"]).stdout.splitlines()
    what = f"systemctl {verb} {name} failed: it is {state}"
    raise AgentError(f"{what}: {why}" if why else what, "\n".join([result.stderr, *lines]))


def is_active(name: str) -> bool:
    """Whether a unit is active, or reloads its configuration."""
    return run(["systemctl", "is-active", name]).stdout.strip() in ("active", "reloading")


@collector("user")
def collect_user(args: Args) -> UserFacts:
    """See `user_probe`."""
    import pwd

    try:
        entry = pwd.getpwnam(args["name"])
    except KeyError:
        return UserFacts("", "")
    return UserFacts(entry.pw_dir, entry.pw_shell)


@action("user")
def configure_user(args: Args, journal: Journal, log: Log) -> None:
    """Create or change a system user without a login: ``name``, ``home``."""
    name, home = args["name"], args["home"]
    if collect_user(args).shell:
        must(["usermod", "--home", home, "--shell", NO_LOGIN, name])
    else:
        options = ["--system", "--user-group", "--no-create-home", "--shell", NO_LOGIN]
        must(["useradd", *options, "--home-dir", home, name])
