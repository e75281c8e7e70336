"""Faults as data: how each is brought about while users go on, and how it is put right again."""

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
from tests.live.faults.stream import Stream, Users, count

SECONDS = 6.0
"""How long the users of a fault go on."""

BEGIN = 1.0
"""The second at which the fault strikes."""


class NotHereError(Exception):
    """A fault that this host cannot bring about; in the kernel's own words where it has some."""


@dataclass
class Scene:
    """A running lab, its users, and what a fault needs to strike it.

    Args:
        lab: through its commands.
        session: as the code knows it when the fault begins.
        fleet: its machines.
        users: who are on the site meanwhile.
    """

    lab: RunningLab
    session: Session
    fleet: Fleet
    users: Users

    @property
    def primary(self) -> str:
        """The machine whose database takes writes."""
        return self.session.state.primary

    @property
    def replica(self) -> str:
        """The other one."""
        return next(m.name for m in self.machines("mysql") if m.name != self.primary)

    @property
    def holder(self) -> str:
        """The balancer that visitors reach: the one that has the shared address, where there is."""
        balancers = self.machines("keepalived")
        where = (
            "dev",
            keepalived.network_interface(self.session.context),
            "to",
            str(self.users.lab.address),
        )
        argv = ("ip", "-4", "-oneline", "address", "show", *where)
        found = [m.name for m in balancers if self.on(m.name, *argv).strip()]
        return found[0] if found else self.session.lab.front.name

    def of(self, role: str, on: str) -> str:
        """The machine that has a role beside a database, or in its place.

        Args:
            role: such as ``nginx``.
            on: ``primary`` or ``replica``. Where the role has machines of its own, the first of
                them stands for the primary's and the second for the replica's.
        """
        database = self.primary if on == "primary" else self.replica
        names = [m.name for m in self.machines(role)]
        return database if database in names else names[on == "replica"]

    def machines(self, role: str) -> tuple[Machine, ...]:
        """The machines with a role."""
        return self.session.lab.with_role(role)

    def on(self, machine: str, *argv: str) -> str:
        """What a program on a machine prints; it must succeed."""
        result = self.fleet.host(machine).run(*argv)
        assert result.ok, f"{machine}: {' '.join(argv)}: {result.stdout}{result.stderr}"
        return result.stdout

    def kill(self, machine: str) -> None:
        """Take a machine's power away."""
        self.session.provider.kill(self.session.lab, machine)
        self.fleet.hosts[machine].close()

    def start(self, machine: str) -> None:
        """Give it its power back."""
        self.session.provider.start(self.session.lab, machine)

    def cable(self, machine: str, *, plugged: bool) -> None:
        """Pull the host's end of a machine's network cable, or plug it in."""
        if self.session.provider.name != "lxc":
            raise NotHereError(f"no way to cut a cable with provider {self.session.provider.name}")
        end = LabPaths.of(self.session.lab).veth(self.session.lab.machine(machine).address)
        run("the cable", ["ip", "link", "set", "dev", end, "up" if plugged else "down"])


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        name: for people, and for ``-k``.
        strike: brings it about, `BEGIN` seconds after the users began; may go on while they do.
        mend: takes it away; lab.up follows.
        before: what has to be made ready while no user is there.
        both: True when no web server is left, so that reads fail too.
        gap: seconds after the strike in which a read may fail: a balancer that dies takes what it
            was answering along, and the other one needs a moment.
        seconds: how long the users go on, at most.
        needs: a task that has to be there, such as ``db.promote``.
    """

    name: str
    strike: Callable[[Scene], object]
    mend: Callable[[Scene], object] = lambda _scene: None
    before: Callable[[Scene], object] = lambda _scene: None
    both: bool = False
    gap: float = 0.0
    seconds: float = SECONDS
    needs: str = ""


@dataclass(frozen=True)
class Row:
    """How a fault came out: a row of the table."""

    fault: Fault
    stream: Stream
    missing: int
    doubled: int
    notes: tuple[str, ...] = field(default=())


def measure(lab: RunningLab, fault: Fault) -> Row:
    """Strike a fault while users are on the site, put it right, and count.

    Raises:
        NotHereError: when this host cannot bring it about, or the task that it needs lacks.
    """
    if fault.needs and not has_task(fault.needs):
        raise NotHereError(f"there is no task {fault.needs}")
    now = lab.session()
    assert now.provider.network_problem(now.lab) == ""
    with now.fleet() as fleet:
        scene = Scene(lab, now, fleet, Users(now.lab, fault.seconds))
        try:
            fault.before(scene)
            scene.users.start()
            scene.users.wait(BEGIN)
            fault.strike(scene)
        except BaseException:
            scene.users.end()
            raise
        finally:
            try:
                if not fault.both:
                    scene.users.wait(fault.seconds)
            finally:
                fault.mend(scene)
        stream = scene.users.finish()
    lab.up()
    with lab.fleet() as fleet:
        found = count(fleet, stream)
    return Row(
        fault,
        stream,
        max(each.missing for each in found.values()),
        max(each.doubled for each in found.values()),
    )


def has_task(name: str) -> bool:
    """Whether the project has the module of a task such as ``db.promote``."""
    return importlib.util.find_spec(f"provision.commands.{name.partition('.')[0]}") is not None


# --- processes -----------------------------------------------------------------------------------


def _signal(scene: Scene, machine: str, service: str, word: str) -> None:
    scene.on(machine, "systemctl", "kill", f"--signal={word}", service)


ROLES = {APP_SERVICE: "app", "nginx.service": "nginx", "mysql.service": "mysql"}
"""Whose service it is."""


def _killed(service: str, on: str) -> Fault:
    def strike(scene: Scene) -> None:
        _signal(scene, scene.of(ROLES[service], on), service, "KILL")

    return Fault(f"kill -9 {service} on the {on}", strike, _settled)


def _stop(scene: Scene) -> None:
    _signal(scene, scene.of("app", "replica"), APP_SERVICE, "STOP")


def _continue(scene: Scene) -> None:
    _signal(scene, scene.of("app", "replica"), APP_SERVICE, "CONT")


# --- machines and their network ------------------------------------------------------------------


def _settled(scene: Scene) -> None:
    """Where the lab promotes by itself: somebody leads, and whoever was replaced follows."""
    if not scene.session.state.autopromote:
        return

    def stands() -> bool:
        output = scene.lab.invoke("db.autopromote", "status", "--json", check=False)
        found = json.loads(output.stdout) if output.returncode == 0 else {"promotable": ""}
        if not found["promotable"] and scene.lab.session().state.primary != scene.primary:
            scene.lab.invoke("db.rejoin", scene.primary, check=False)
        return bool(found["promotable"])

    wait_until(stands, "a replica is promotable", 60)


def _power(on: str, role: str = "mysql", seconds: float = 8.0) -> Fault:
    """The power of a machine is cut: that of a database, or of another role's in its place."""

    def back(scene: Scene) -> None:
        scene.start(scene.of(role, on))
        _settled(scene)

    whose = f"the {on}" if role == "mysql" else f"the {on}'s {role} server"
    return Fault(
        f"power of {whose} cut",
        lambda scene: scene.kill(scene.of(role, on)),
        back,
        seconds=seconds,
    )


def _cut(scene: Scene) -> None:
    scene.cable(scene.replica, plugged=False)
    scene.users.wait(BEGIN + 4)
    scene.cable(scene.replica, plugged=True)


def _heal(scene: Scene) -> None:
    scene.cable(scene.replica, plugged=True)


def _slow(scene: Scene) -> None:
    words = ("netem", "delay", "200ms", "loss", "5%")
    result = scene.fleet.host(scene.replica).run(
        "tc", "qdisc", "add", "dev", "eth0", "root", *words
    )
    if not result.ok:
        raise NotHereError(f"tc: {(result.stdout + result.stderr).strip()}")


def _fast(scene: Scene) -> None:
    scene.fleet.host(scene.replica).run("tc", "qdisc", "del", "dev", "eth0", "root")


def _reboot_all(scene: Scene) -> None:
    for machine in scene.session.lab.machines:
        scene.kill(machine.name)
    for machine in scene.session.lab.machines:
        scene.start(machine.name)

    def serves() -> bool:
        try:
            return scene.lab.get("/healthz").status_code == 200
        except requests.RequestException:
            return False

    wait_until(serves, "the site serves", 60)
    _settled(scene)


# --- the disk ------------------------------------------------------------------------------------

DATA, SMALL = "/var/lib/mysql", "/run/small-disk"
"""The containers share the host's disk, which must never be full: the data moves to a small one."""


def _small_disk(scene: Scene) -> None:
    used = int(scene.on(scene.replica, "du", "-sm", DATA).split()[0])
    script = f"""
        set -e
        systemctl stop mysql.service
        mkdir -p {SMALL}
        mount -t tmpfs -o size={used + 24}m,mode=700,uid=mysql,gid=mysql tmpfs {SMALL}
        cp -a {DATA}/. {SMALL}/
        mount --bind {SMALL} {DATA}
        systemctl start mysql.service
        """
    scene.on(scene.replica, "bash", "-c", script)


def _fill(scene: Scene) -> None:
    script = f"dd if=/dev/zero of={DATA}/filler bs=64k 2>&1; df --output=avail {DATA} | tail -1"
    output = scene.on(scene.replica, "bash", "-c", script)
    assert output.split()[-1] == "0", output


def _large_disk(scene: Scene) -> None:
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
    scene.on(scene.replica, "bash", "-c", script)


# --- what operators do ---------------------------------------------------------------------------


def _reload_loop(scene: Scene) -> None:
    front = scene.holder
    while scene.users.now() < SECONDS - 1:
        scene.on(front, "systemctl", "reload", "haproxy.service")


@contextmanager
def release(version: str, files: Mapping[str, str] | None = None) -> Iterator[Path]:
    """A copy of the release that comes with the lab, under another version and with changes.

    Args:
        version: what its VERSION says.
        files: contents of further files, or of changed ones, by path.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "app"
        shutil.copytree(app.SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for name, content in {"VERSION": f"{version}\n", **(files or {})}.items():
            (copy / name).write_text(content)
        yield copy


def _deploy(scene: Scene) -> None:
    with release(f"9.0.{scene.users.name}") as folder:
        scene.lab.invoke("app.deploy", str(folder))
    scene.users.end()


def _undeploy(scene: Scene) -> None:
    scene.lab.invoke("app.rollback")


def _promote(scene: Scene) -> None:
    scene.lab.invoke("db.promote", scene.replica)


def _promote_after_death(scene: Scene) -> None:
    scene.kill(scene.primary)
    scene.lab.invoke("db.promote", scene.replica, "--old-primary-is-dead")


def _rejoin(scene: Scene) -> None:
    try:
        scene.start(scene.primary)
    except LabError:
        scene.lab.up()
    scene.lab.invoke("db.rejoin", scene.primary)


FAULTS: tuple[Fault, ...] = (
    Fault("no fault", lambda _scene: None, seconds=3),
    *(
        _killed(service, on)
        for service in (APP_SERVICE, "nginx.service", "mysql.service")
        for on in ("primary", "replica")
    ),
    _power("primary"),
    _power("replica"),
    Fault("gunicorn stopped (SIGSTOP)", _stop, _continue),
    Fault("network of the replica cut and healed", _cut, _heal, seconds=8),
    Fault("200 ms delay and 5 % loss", _slow, _fast),
    Fault("disk of the replica full", _fill, _large_disk, _small_disk, seconds=8),
    Fault("HAProxy reloaded in a loop", _reload_loop),
    Fault("rolling deploy", _deploy, _undeploy, seconds=40),
    Fault("planned promote", _promote, needs="db.promote"),
    Fault(
        "promote after the primary died",
        _promote_after_death,
        _rejoin,
        seconds=8,
        needs="db.promote",
    ),
    Fault("reboot of the whole lab", _reboot_all, both=True, seconds=30),
)
"""In the usual design, and in every other one."""


# --- only where every part is there twice --------------------------------------------------------


def _stop_holder(scene: Scene) -> None:
    scene.on(scene.holder, "systemctl", "stop", "keepalived.service")


def _start_holders(scene: Scene) -> None:
    for machine in scene.machines("keepalived"):
        scene.on(machine.name, "systemctl", "start", "keepalived.service", "haproxy.service")


def _cut_holder(scene: Scene) -> None:
    scene.kill(scene.holder)


def _start_balancers(scene: Scene) -> None:
    states = scene.session.provider.state(scene.session.lab)
    for machine in scene.machines("keepalived"):
        if states[machine.name] != "running":
            scene.start(machine.name)
    _settled(scene)


TAKEOVER = 2.0
"""Seconds until everyone has noticed that a balancer died, and asks the other one."""

DIFFERENT = {fault.name: fault for fault in FAULTS}
"""The usual faults by name."""

SCALED: tuple[Fault, ...] = (
    DIFFERENT["kill -9 foobar.service on the replica"],
    DIFFERENT["kill -9 nginx.service on the replica"],
    DIFFERENT["kill -9 mysql.service on the primary"],
    DIFFERENT["gunicorn stopped (SIGSTOP)"],
    _power("replica", "app"),
    _power("replica", "nginx"),
    # Nobody promotes: the lab does, and writes that waited are acknowledged.
    _power("primary", seconds=14.0),
    Fault("keepalived stopped where the address is", _stop_holder, _start_holders),
    Fault(
        "kill -9 haproxy.service where the address is",
        lambda scene: _signal(scene, scene.holder, "haproxy.service", "KILL"),
        gap=TAKEOVER,
    ),
    Fault("power cut where the address is", _cut_holder, _start_balancers, gap=TAKEOVER, seconds=8),
    DIFFERENT["rolling deploy"],
    DIFFERENT["reboot of the whole lab"],
)
"""What is another thing in the design that has every part twice, or is there only."""
