"""Everything that the board knows about one lab: observed all the time, published on change.

A thread reads the state of the provider and the lab, starts a `MachineWatch` per running machine,
and composes the document for the page. Nothing is stored: after a restart of the board, the same
lab gives the same document.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from provision.board import drill_view, recording, scene
from provision.board.access import Seat
from provision.board.machine_watch import MachineWatch
from provision.board.proofs import ProofWatch
from provision.board.recording import CastMarker
from provision.checks import balancer, database, machines
from provision.checks.observation import Observation
from provision.core.endpoint import Endpoint
from provision.core.errors import LabError
from provision.core.interrupted_restore import refuse_interrupted
from provision.core.lab import Machine
from provision.drills import events
from provision.drills.events import DrillEvent
from provision.drills.run import DrillRun, runs
from provision.engine.agent.protocol import Probe
from provision.engine.context import Context
from provision.monitoring.agent.prometheus import ALERTS_PATH, Alert, parse_alerts
from provision.monitoring.prometheus import prometheus_probe
from provision.operations.session import Session, open_session

INTERVAL = 1.0
"""Seconds between two observations of the provider and the files."""

IDLE_SECONDS = 60.0
"""Without a client, after which nothing is observed any more."""

RECENT_SECONDS = 3600.0
"""For which the last run that has ended is shown."""

Opener = Callable[[str], Session]


class LabWatch:
    """Watches one lab.

    Args:
        published: called in the watch's thread when the document has changed.
        marked: called when something happened in a drill: a hint, a proof that holds.
    """

    def __init__(
        self,
        seat: Seat,
        directory: Path,
        published: Callable[[LabWatch], None],
        marked: Callable[[LabWatch, CastMarker], None],
        opener: Opener = open_session,
    ) -> None:
        self.seat, self.directory = seat, directory
        self.document: dict[str, Any] = {}
        self.session: Session | None = None
        self.run: DrillRun | None = None
        self.activity: dict[str, Any] | None = None
        self.proofs = ProofWatch(self)
        self.busy = threading.Lock()
        self._published, self._marked, self._open = published, marked, opener
        self._watches: dict[str, MachineWatch] = {}
        self._states: Mapping[str, str] = {}
        self._problem = "not observed yet"
        self._signature: tuple[Any, ...] = ()
        self._seen: int | None = None
        self._events: tuple[DrillEvent, ...] = ()
        self._log_signature: tuple[int, int] | None = None
        self._watched = time.monotonic()
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._compose_lock, self._log_lock = threading.Lock(), threading.Lock()
        name = f"lab {seat.lab}"
        threading.Thread(target=self._watch, name=name, daemon=True).start()

    # --- for other modules -----------------------------------------------------------------------

    def keep_observing(self) -> None:
        """A client shows the lab: observe it for another `IDLE_SECONDS`."""
        idle = self.idle
        self._watched = time.monotonic()
        if idle:
            self._wake.set()

    @property
    def idle(self) -> bool:
        """Whether no client has asked for a while."""
        return time.monotonic() - self._watched > IDLE_SECONDS

    def stop(self) -> None:
        """End all threads and connections."""
        self._stopped.set()
        self._wake.set()
        self.proofs.stop()
        self._forget_machines()

    def endpoint(self, machine: str) -> Endpoint:
        """How a machine is reached now.

        Raises:
            LabError: when the lab or the machine does not run.
        """
        session = self._open(self.seat.lab)
        session.lab.machine(machine)
        refuse_interrupted(session.lab.directory)
        problem = session.provider.network_problem(session.lab)
        endpoints = {} if problem else session.provider.endpoints(session.lab)
        if machine not in endpoints:
            raise LabError(f"{machine} is not running {problem}".strip(), "invoke lab.up")
        return endpoints[machine]

    def opened(self) -> Session:
        """The lab's current state.

        Raises:
            LabError: when there is no such lab.
        """
        return self._open(self.seat.lab)

    def set_activity(self, activity: dict[str, Any] | None) -> None:
        """What a command of the board does with the lab now."""
        self.activity = activity
        self._log_signature = None
        self._wake.set()
        self._publish()

    def mark(self, run: int, text: str) -> None:
        """Report an event of a run to the recordings; an empty text is ignored."""
        if text:
            self._marked(self, CastMarker(run, text))

    def catch_up(self) -> None:
        """Read the log of drills now, not at the next interval."""
        with contextlib.suppress(LabError):  # the thread reports it
            self._read_log()

    # --- the thread ------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopped.is_set():
            started = time.monotonic()
            try:
                self._read_log()
                if self.idle:
                    self._forget_machines()
                else:
                    self._observe()
            except LabError as error:
                self._set_problem(error.what)
            except Exception as error:
                self._set_problem(f"unexpected {type(error).__name__}: {error}")
            self._publish()
            self._wake.wait(max(0.1, INTERVAL - (time.monotonic() - started)))
            self._wake.clear()

    def _set_problem(self, problem: str) -> None:
        self.session, self._problem, self._states, self._signature = None, problem, {}, ()
        self._forget_machines()

    def _observe(self) -> None:
        signature = _signature(self.directory)
        if self.session is None or signature != self._signature:
            self.session = self._open(self.seat.lab)
            self._signature = signature
            self._forget_machines()
        refuse_interrupted(self.directory)
        session = self.session
        self._states = session.machine_states()
        self._problem = session.provider.network_problem(session.lab)
        endpoints = {} if self._problem else session.provider.endpoints(session.lab)
        for name, watch in list(self._watches.items()):
            if endpoints.get(name) != watch.endpoint:
                watch.stop()
                del self._watches[name]
        for name in endpoints.keys() - self._watches.keys():
            machine = session.lab.machine(name)
            probes = list(live_probes(session.context, machine))
            self._watches[name] = MachineWatch(name, endpoints[name], probes, self._publish)

    def _forget_machines(self) -> None:
        for watch in self._watches.values():
            watch.stop()
        self._watches = {}

    def _read_log(self) -> None:
        """Read the log of drills when it has changed, and report new events."""
        with self._log_lock:
            self._read_log_locked()

    def _read_log_locked(self) -> None:
        signature = _file_signature(events.path(self.directory))
        if signature != self._log_signature:
            self._log_signature = signature
            self._events = events.read(self.directory)
            last = runs(self._events)[-1:]
            self.run = last[0] if last else None
            self.proofs.follow(self.run)
        new = self._events[self._seen :] if self._seen is not None else ()
        self._seen = len(self._events)
        for event in new:
            self.mark(event.run, event_text(event))

    # --- the document ----------------------------------------------------------------------------

    def observation(self) -> Observation:
        """What is known about the machines."""
        results, errors = {}, {}
        for name, watch in tuple(self._watches.items()):
            newest, error = watch.newest()
            if newest is not None:
                results[name] = newest
            else:
                errors[name] = error
        return Observation(self._states, results, errors)

    def _publish(self) -> None:
        with self._compose_lock:
            document = self._compose()
            if document == self.document:
                return
            self.document = document
        self._published(self)

    def _compose(self) -> dict[str, Any]:
        session, run = self.session, self.run
        picture = scene.without_lab(self._problem)
        names: list[str] = []
        if session is not None:
            observation = self.observation()
            picture = scene.scene(session.context, observation, self._alerts(session, observation))
            names = [machine.name for machine in session.lab.machines]
        shown = run
        if run is not None and run.ended:
            age = time.time() - run.ended.timestamp()
            shown = run if age < RECENT_SECONDS else None
        drill = None
        if shown is not None:
            drill = drill_view.drill_values(shown, self.proofs.exercise, self.proofs.judged)
        return {
            "lab": self.seat.lab,
            "team": self.seat.team,
            "topology": session.lab.topology.name if session else "",
            "problem": self._problem,
            "machines": names,
            "scene": picture,
            "drill": drill,
            "testing": self.proofs.testing,
            "activity": self.activity,
            "recording": recording.is_on(self.directory),
        }

    def _alerts(self, session: Session, observation: Observation) -> tuple[Alert, ...] | None:
        for machine in session.lab.with_role("monitoring"):
            response = observation.result(machine.name, prometheus_probe(ALERTS_PATH))
            if response is not None and not response.error:
                with contextlib.suppress(ValueError):
                    return parse_alerts(response.body)
        return None


def live_probes(context: Context, machine: Machine) -> list[Probe[Any]]:
    """The probes of a machine that the page shows: cheap enough for every second."""
    probes = [
        *machines.probes(context, machine),
        *balancer.probes(context, machine),
        *database.probes(context, machine),
    ]
    if "monitoring" in machine.roles:
        probes.append(prometheus_probe(ALERTS_PATH))
    return probes


def event_text(event: DrillEvent) -> str:
    """The text of the marker for an event; empty for events that get no marker."""
    values = event.values
    if event.kind == "hint":
        return f"hint {int(values.get('number', 0)) + 1}"
    if event.kind in ("check", "final", "watched"):
        return f"check: {values.get('held', 0)} of {values.get('total', 0)} proofs hold"
    words = {"starting": f"starts {values.get('drill', '')}", "started": "the fault is in place"}
    words |= {"solved": "solved", "finished": "finished", "given-up": "given up"}
    words |= {"resetting": "reset", "solution": "the solution was shown"}
    return words.get(event.kind, "")


def _signature(directory: Path) -> tuple[Any, ...]:
    """Changes when the lab was changed by a command."""
    names = ("state.json", "restoring", "known_hosts")
    return tuple(_file_signature(directory / name) for name in names)


def _file_signature(path: Path) -> tuple[int, int]:
    try:
        info = path.stat()
    except OSError:
        return (0, 0)
    return (info.st_mtime_ns, info.st_size)
