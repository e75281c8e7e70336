"""Random faults, single and paired, and commands that are killed in the middle."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from provision.core.errors import LabError
from tests.live.conftest import RunningLab
from tests.live.faults.faults import Experiment, release
from tests.live.faults.workload import Workload

FAULT_SECONDS = 6.0
"""How long a fault lasts."""

BEFORE_SECONDS, AFTER_SECONDS = 1.5, 2.0
"""Of load without a fault, before and after it."""


@dataclass(frozen=True)
class Injection:
    """A fault that lasts until it is reverted.

    Args:
        target: what it breaks; two faults of a pair have different ones.
    """

    name: str
    target: str
    inject: Callable[[Experiment], object]
    revert: Callable[[Experiment], object] = lambda _experiment: None


def _signal(service: str, machine: Callable[[Experiment], str], name: str) -> Callable[..., object]:
    def send(experiment: Experiment) -> None:
        argv = ["systemctl", "kill", f"--signal={name}", service]
        experiment.fleet.host(machine(experiment)).run(*argv)

    return send


def _primary(experiment: Experiment) -> str:
    return experiment.primary


def _replica(experiment: Experiment) -> str:
    return experiment.replica


def _power(machine: Callable[[Experiment], str]) -> tuple[Callable[..., object], ...]:
    def on(experiment: Experiment) -> None:
        states = experiment.session.provider.state(experiment.session.lab)
        if states[machine(experiment)] != "running":
            experiment.start(machine(experiment))

    return (lambda experiment: experiment.kill(machine(experiment))), on


def _link(machine: Callable[[Experiment], str]) -> tuple[Callable[..., object], ...]:
    return (
        lambda experiment: experiment.set_link(machine(experiment), up=False),
        lambda experiment: experiment.set_link(machine(experiment), up=True),
    )


def _receiver(word: str) -> Callable[[Experiment], object]:
    def statement(experiment: Experiment) -> None:
        argv = ["mysql", "-e", f"{word} REPLICA IO_THREAD"]
        experiment.fleet.host(experiment.replica).run(*argv)

    return statement


def _blackhole(word: str) -> Callable[[Experiment], object]:
    """The replica's machine cannot reach the primary's, and the other way round."""

    def route(experiment: Experiment) -> None:
        address = str(experiment.session.lab.machine(experiment.primary).address)
        argv = ["ip", "route", word, "blackhole", f"{address}/32"]
        experiment.fleet.host(experiment.replica).run(*argv)

    return route


def _web(number: int) -> Callable[[Experiment], str]:
    return lambda experiment: experiment.machines("app")[number].name


INJECTIONS = (
    Injection("mysqld of the primary killed", "primary", _signal("mysql", _primary, "KILL")),
    Injection(
        "mysqld of the primary suspended",
        "primary",
        _signal("mysql", _primary, "STOP"),
        _signal("mysql", _primary, "CONT"),
    ),
    Injection("power of the primary cut", "primary", *_power(_primary)),
    Injection("the primary partitioned from all", "primary", *_link(_primary)),
    Injection("mysqld of the replica killed", "replica", _signal("mysql", _replica, "KILL")),
    Injection("power of the replica cut", "replica", *_power(_replica)),
    Injection("the replica partitioned from all", "replica", *_link(_replica)),
    Injection("the replica does not receive", "replica", _receiver("STOP"), _receiver("START")),
    Injection(
        "the databases partitioned from each other", "link", _blackhole("add"), _blackhole("del")
    ),
    Injection("gunicorn killed", "app", _signal("foobar", _web(0), "KILL")),
    Injection(
        "gunicorn suspended",
        "app",
        _signal("foobar", _web(1), "STOP"),
        _signal("foobar", _web(1), "CONT"),
    ),
    Injection("guard killed", "guard", _signal("lab-autopromote", _primary, "KILL")),
)


@contextlib.contextmanager
def _release(version: str) -> Iterator[list[str]]:
    with release(version) as folder:
        yield ["app.deploy", str(folder)]


def command(choose: random.Random, lab: RunningLab, number: int) -> list[str]:
    """A command that changes the lab; the release of a deployment is removed with the lab."""
    session = lab.session()
    names = [m.name for m in session.lab.with_role("mysql") if m.name != session.state.primary]
    kind = choose.choice(["promote", "deploy", "restart", "up"])
    if kind == "promote":
        return ["db.promote", choose.choice(names)]
    if kind == "restart":
        return ["lab.restart", choose.choice([m.name for m in session.lab.machines])]
    return ["lab.up"] if kind == "up" else ["app.deploy", f"9.{number}.{choose.randrange(10**6)}"]


def kill_command(lab: RunningLab, words: list[str], after: float) -> str:
    """Run a command and kill the controller's process; returns what happened."""
    with contextlib.ExitStack() as stack:
        argv = words
        if words[0] == "app.deploy":
            argv = stack.enter_context(_release(words[1]))
        elif words[0] == "lab.up":
            machine = lab.session().lab.with_role("nginx")[0].name
            lab.run(machine, "systemctl", "stop", "nginx.service")
        running = lab.start(*argv)
        time.sleep(after)
        ended = running.process.poll() is not None
        running.signal(signal.SIGKILL, group=True)
        running.process.wait(30)
    return f"{' '.join(words)} {'had ended' if ended else 'killed'} after {after:.1f} s"


def inject(lab: RunningLab, chosen: list[Injection]) -> None:
    """Inject faults at once, and revert them after `FAULT_SECONDS`."""
    session = lab.session()
    assert session.provider.network_problem(session.lab) == ""
    with session.fleet() as fleet:
        experiment = Experiment(lab, session, fleet, Workload(session.lab, FAULT_SECONDS))
        done: list[Injection] = []
        try:
            for injection in chosen:
                done.append(injection)
                with contextlib.suppress(LabError):  # the other fault of a pair was first
                    injection.inject(experiment)
            time.sleep(FAULT_SECONDS)
        finally:
            for injection in reversed(done):
                for host in fleet.hosts.values():
                    host.close()
                with contextlib.suppress(LabError):  # lab.up repairs the machine
                    injection.revert(experiment)


def disturb(lab: RunningLab, choose: random.Random, number: int) -> str:
    """One round's disturbance: a fault, two, or a command that is killed; says which."""
    kind = choose.choice(["single", "pair", "pair", "command"])
    if kind == "command":
        return kill_command(lab, command(choose, lab, number), choose.uniform(0.3, 6.0))
    first = choose.choice(INJECTIONS)
    chosen = [first]
    if kind == "pair":
        chosen.append(choose.choice([i for i in INJECTIONS if i.target != first.target]))
    inject(lab, chosen)
    return " + ".join(injection.name for injection in chosen)
