"""Faults as data: how each is injected under a workload, and how it is reverted."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

from provision.core.errors import LabError
from provision.core.lab import Machine
from provision.engine.fleet import Fleet
from provision.operations.session import Session
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.privileged import run
from provision.services.app import role as app
from provision.services.app.interface import SERVICE as APP_SERVICE
from provision.services.keepalived import interface as keepalived
from tests.live.conftest import RunningLab, wait_until
from tests.live.faults.workload import Workload, WorkloadResult, count_writes

SECONDS = 6.0
"""Default duration of the workload."""

INJECT_AT = 1.0
"""Time of the injection, in seconds after the start of the workload."""


class UnsupportedFaultError(Exception):
    """The host cannot inject this fault. The text is the kernel's message if there is one."""


@dataclass
class Experiment:
    """A running lab under a workload.

    Args:
        lab: the lab's command line.
        session: the lab's state before the injection.
        fleet: the lab's machines.
        workload: the requests during the experiment.
    """

    lab: RunningLab
    session: Session
    fleet: Fleet
    workload: Workload

    @property
    def primary(self) -> str:
        """The machine of the writable database."""
        return self.session.state.primary

    @property
    def replica(self) -> str:
        """The machine of the first replica."""
        return next(m.name for m in self.machines("mysql") if m.name != self.primary)

    @property
    def holder(self) -> str:
        """The balancer that serves clients, which holds the virtual IP address if there is one."""
        balancers = self.machines("keepalived")
        where = (
            "dev",
            keepalived.network_interface(self.session.context),
            "to",
            str(self.workload.lab.address),
        )
        argv = ("ip", "-4", "-oneline", "address", "show", *where)
        holders = [m.name for m in balancers if self.on(m.name, *argv).strip()]
        return holders[0] if holders else self.session.lab.front.name

    def of(self, role: str, on: str) -> str:
        """The machine with this role that belongs to the primary or the replica.

        Args:
            role: such as ``nginx``.
            on: ``primary`` or ``replica``. If the role has separate machines, the first one
                counts as the primary's and the second as the replica's.
        """
        database = self.primary if on == "primary" else self.replica
        names = [m.name for m in self.machines(role)]
        return database if database in names else names[on == "replica"]

    def machines(self, role: str) -> tuple[Machine, ...]:
        """The machines with a role."""
        return self.session.lab.with_role(role)

    def on(self, machine: str, *argv: str) -> str:
        """Standard output of a program on a machine, which must succeed."""
        result = self.fleet.host(machine).run(*argv)
        assert result.ok, f"{machine}: {' '.join(argv)}: {result.stdout}{result.stderr}"
        return result.stdout

    def kill(self, machine: str) -> None:
        """Power a machine off without a shutdown."""
        self.session.provider.kill(self.session.lab, machine)
        self.fleet.hosts[machine].close()

    def start(self, machine: str) -> None:
        """Power a machine on."""
        self.session.provider.start(self.session.lab, machine)

    def set_link(self, machine: str, *, up: bool) -> None:
        """Set the link of a machine's network interface down or up, at the host's end."""
        if self.session.provider.name != "lxc":
            raise UnsupportedFaultError(
                f"provider cannot set a link down: {self.session.provider.name}"
            )
        end = LabPaths.of(self.session.lab).veth(self.session.lab.machine(machine).address)
        run("set the link", ["ip", "link", "set", "dev", end, "up" if up else "down"])


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        name: shown in tables, and the id of its tests.
        inject: runs `INJECT_AT` seconds after the start of the workload, and may run until its end.
        revert: removes the fault; ``lab.up`` follows.
        before: preparation without a workload.
        outage: no web server is left, so reads may fail.
        gap: seconds after the injection during which reads may fail: a balancer that dies loses
            the requests that it serves, until VRRP moves the address.
        seconds: maximum duration of the workload.
        needs: a task that must exist, such as ``db.promote``.
    """

    name: str
    inject: Callable[[Experiment], object]
    revert: Callable[[Experiment], object] = lambda _experiment: None
    before: Callable[[Experiment], object] = lambda _experiment: None
    outage: bool = False
    gap: float = 0.0
    seconds: float = SECONDS
    needs: str = ""


@dataclass(frozen=True)
class Outcome:
    """The result of an experiment with one fault."""

    fault: Fault
    result: WorkloadResult
    missing: int
    duplicated: int
    notes: tuple[str, ...] = field(default=())


def measure(lab: RunningLab, fault: Fault) -> Outcome:
    """Inject a fault under a workload, revert it, and count lost and duplicated writes.

    Raises:
        UnsupportedFaultError: the host cannot inject the fault, or the needed task does not exist.
    """
    if fault.needs and not has_task(fault.needs):
        raise UnsupportedFaultError(f"there is no task {fault.needs}")
    session = lab.session()
    assert session.provider.network_problem(session.lab) == ""
    with session.fleet() as fleet:
        workload = Workload(session.lab, fault.seconds)
        experiment = Experiment(lab, session, fleet, workload)
        try:
            fault.before(experiment)
            experiment.workload.start()
            experiment.workload.wait(INJECT_AT)
            fault.inject(experiment)
        except BaseException:
            experiment.workload.stop()
            raise
        finally:
            try:
                if not fault.outage:
                    experiment.workload.wait(fault.seconds)
            finally:
                fault.revert(experiment)
        result = experiment.workload.finish()
    lab.up()
    with lab.fleet() as fleet:
        counts = count_writes(fleet, result).values()
    return Outcome(
        fault,
        result,
        max(count.missing for count in counts),
        max(count.duplicated for count in counts),
    )


def has_task(name: str) -> bool:
    """Whether the project has the module of a task such as ``db.promote``."""
    return importlib.util.find_spec(f"provision.commands.{name.partition('.')[0]}") is not None


# --- processes -----------------------------------------------------------------------------------


def _signal(experiment: Experiment, machine: str, service: str, signal: str) -> None:
    experiment.on(machine, "systemctl", "kill", f"--signal={signal}", service)


ROLES = {APP_SERVICE: "app", "nginx.service": "nginx", "mysql.service": "mysql"}
"""The role of each service."""


def _kill_service(service: str, on: str) -> Fault:
    def inject(experiment: Experiment) -> None:
        _signal(experiment, experiment.of(ROLES[service], on), service, "KILL")

    return Fault(f"kill -9 {service} on the {on}", inject, _wait_until_redundant)


def _suspend_app(experiment: Experiment) -> None:
    _signal(experiment, experiment.of("app", "replica"), APP_SERVICE, "STOP")


def _resume_app(experiment: Experiment) -> None:
    _signal(experiment, experiment.of("app", "replica"), APP_SERVICE, "CONT")


# --- machines and their network ------------------------------------------------------------------


def _wait_until_redundant(experiment: Experiment) -> None:
    """With automatic failover: the old primary rejoins by itself, and a replica is promotable."""
    if not experiment.session.state.autopromote:
        return

    def promotable() -> bool:
        output = experiment.lab.invoke("db.autopromote", "status", "--json", check=False)
        return bool((json.loads(output.stdout)["data"] or {"promotable": ""})["promotable"])

    wait_until(promotable, "a replica is promotable", 60)


def _power_cut(on: str, role: str = "mysql", seconds: float = 8.0) -> Fault:
    """Power off the machine of a database, or the one with another role that belongs to it."""

    def power_on(experiment: Experiment) -> None:
        experiment.start(experiment.of(role, on))
        _wait_until_redundant(experiment)

    target = f"the {on}" if role == "mysql" else f"the {on}'s {role} server"
    return Fault(
        f"power of {target} cut",
        lambda experiment: experiment.kill(experiment.of(role, on)),
        power_on,
        seconds=seconds,
    )


def _unplug_briefly(experiment: Experiment) -> None:
    experiment.set_link(experiment.replica, up=False)
    experiment.workload.wait(INJECT_AT + 4)
    experiment.set_link(experiment.replica, up=True)


def _plug_in(experiment: Experiment) -> None:
    experiment.set_link(experiment.replica, up=True)


def _add_delay(experiment: Experiment) -> None:
    parameters = ("netem", "delay", "200ms", "loss", "5%")
    result = experiment.fleet.host(experiment.replica).run(
        "tc", "qdisc", "add", "dev", "eth0", "root", *parameters
    )
    if not result.ok:
        raise UnsupportedFaultError(f"tc: {(result.stdout + result.stderr).strip()}")


def _remove_delay(experiment: Experiment) -> None:
    experiment.fleet.host(experiment.replica).run("tc", "qdisc", "del", "dev", "eth0", "root")


def _reboot_all(experiment: Experiment) -> None:
    for machine in experiment.session.lab.machines:
        experiment.kill(machine.name)
    for machine in experiment.session.lab.machines:
        experiment.start(machine.name)

    def serves() -> bool:
        try:
            return experiment.lab.get("/healthz").status_code == 200
        except requests.RequestException:
            return False

    wait_until(serves, "the site serves", 60)
    _wait_until_redundant(experiment)


# --- the disk ------------------------------------------------------------------------------------

DATA, SMALL = "/var/lib/mysql", "/run/small-disk"
"""Containers share the host's disk, which must not become full: the data moves to a small one."""


def _use_small_disk(experiment: Experiment) -> None:
    used = int(experiment.on(experiment.replica, "du", "-sm", DATA).split()[0])
    script = f"""
        set -e
        systemctl stop mysql.service
        mkdir -p {SMALL}
        mount -t tmpfs -o size={used + 24}m,mode=700,uid=mysql,gid=mysql tmpfs {SMALL}
        cp -a {DATA}/. {SMALL}/
        mount --bind {SMALL} {DATA}
        systemctl start mysql.service
        """
    experiment.on(experiment.replica, "bash", "-c", script)


def _fill_disk(experiment: Experiment) -> None:
    script = f"dd if=/dev/zero of={DATA}/filler bs=64k 2>&1; df --output=avail {DATA} | tail -1"
    output = experiment.on(experiment.replica, "bash", "-c", script)
    assert output.split()[-1] == "0", output


def _use_host_disk(experiment: Experiment) -> None:
    script = f"""
        rm -f {DATA}/filler
        mountpoint -q {DATA} || exit 0
        systemctl stop mysql.service
        umount {DATA}
        find {DATA} -mindepth 1 -delete
        cp -a {SMALL}/. {DATA}/
        umount {SMALL}
        rmdir {SMALL}
        systemctl start mysql.service
        """
    experiment.on(experiment.replica, "bash", "-c", script)


# --- what operators do ---------------------------------------------------------------------------


def _reload_in_a_loop(experiment: Experiment) -> None:
    front = experiment.holder
    while experiment.workload.elapsed() < SECONDS - 1:
        experiment.on(front, "systemctl", "reload", "haproxy.service")


@contextmanager
def release(version: str, files: Mapping[str, str] | None = None) -> Iterator[Path]:
    """A changed copy of the release in the checkout.

    Args:
        version: content of its VERSION file.
        files: contents of added or replaced files by path.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "app"
        shutil.copytree(app.SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for name, content in {"VERSION": f"{version}\n", **(files or {})}.items():
            (copy / name).write_text(content)
        yield copy


def _deploy(experiment: Experiment) -> None:
    with release(f"9.0.{experiment.workload.name}") as folder:
        experiment.lab.invoke("app.deploy", str(folder))
    experiment.workload.stop()


def _roll_back_deploy(experiment: Experiment) -> None:
    experiment.lab.invoke("app.rollback")


def _promote(experiment: Experiment) -> None:
    experiment.lab.invoke("db.promote", experiment.replica)


def _promote_after_death(experiment: Experiment) -> None:
    experiment.kill(experiment.primary)
    experiment.lab.invoke("db.promote", experiment.replica, "--old-primary-is-dead")


def _rejoin(experiment: Experiment) -> None:
    try:
        experiment.start(experiment.primary)
    except LabError:
        experiment.lab.up()
    experiment.lab.invoke("db.rejoin", experiment.primary)


FAULTS: tuple[Fault, ...] = (
    Fault("no fault", lambda _experiment: None, seconds=3),
    *(
        _kill_service(service, on)
        for service in (APP_SERVICE, "nginx.service", "mysql.service")
        for on in ("primary", "replica")
    ),
    _power_cut("primary"),
    _power_cut("replica"),
    Fault("gunicorn stopped (SIGSTOP)", _suspend_app, _resume_app),
    Fault("network of the replica cut and healed", _unplug_briefly, _plug_in, seconds=8),
    Fault("200 ms delay and 5 % loss", _add_delay, _remove_delay),
    Fault("disk of the replica full", _fill_disk, _use_host_disk, _use_small_disk, seconds=8),
    Fault("HAProxy reloaded in a loop", _reload_in_a_loop),
    Fault("rolling deploy", _deploy, _roll_back_deploy, seconds=40),
    Fault("planned promote", _promote, needs="db.promote"),
    Fault(
        "promote after the primary died",
        _promote_after_death,
        _rejoin,
        seconds=8,
        needs="db.promote",
    ),
    Fault("reboot of the whole lab", _reboot_all, outage=True, seconds=30),
)
"""Faults for every topology."""


# --- only where every component is redundant -----------------------------------------------------


def _stop_keepalived(experiment: Experiment) -> None:
    experiment.on(experiment.holder, "systemctl", "stop", "keepalived.service")


def _start_keepalived(experiment: Experiment) -> None:
    for machine in experiment.machines("keepalived"):
        experiment.on(machine.name, "systemctl", "start", "keepalived.service", "haproxy.service")


def _cut_power_of_holder(experiment: Experiment) -> None:
    experiment.kill(experiment.holder)


def _start_balancers(experiment: Experiment) -> None:
    states = experiment.session.provider.state(experiment.session.lab)
    for machine in experiment.machines("keepalived"):
        if states[machine.name] != "running":
            experiment.start(machine.name)
    _wait_until_redundant(experiment)


TAKEOVER = 2.0
"""Maximum seconds until VRRP has moved the address of a dead balancer."""

FAULTS_BY_NAME = {fault.name: fault for fault in FAULTS}
"""`FAULTS` by name."""

SCALED: tuple[Fault, ...] = (
    FAULTS_BY_NAME["kill -9 foobar.service on the replica"],
    FAULTS_BY_NAME["kill -9 nginx.service on the replica"],
    FAULTS_BY_NAME["kill -9 mysql.service on the primary"],
    FAULTS_BY_NAME["gunicorn stopped (SIGSTOP)"],
    _power_cut("replica", "app"),
    _power_cut("replica", "nginx"),
    # Automatic failover promotes the replica, and writes that waited are acknowledged.
    _power_cut("primary", seconds=14.0),
    Fault(
        "keepalived stopped on the holder of the virtual address",
        _stop_keepalived,
        _start_keepalived,
    ),
    Fault(
        "kill -9 haproxy.service on the holder of the virtual address",
        lambda experiment: _signal(experiment, experiment.holder, "haproxy.service", "KILL"),
        gap=TAKEOVER,
    ),
    Fault(
        "power cut on the holder of the virtual address",
        _cut_power_of_holder,
        _start_balancers,
        gap=TAKEOVER,
        seconds=8,
    ),
    FAULTS_BY_NAME["rolling deploy"],
    FAULTS_BY_NAME["reboot of the whole lab"],
)
"""Faults whose effect differs in `scaled`, or that exist only there."""
