"""The operation ``gather``: probes run concurrently, and one that blocks is abandoned alone.

Each kind has a lane, a thread that takes one probe after the other. While all lanes of a kind are
busy with slow probes it gets another lane, so that what blocks does not delay the rest. A batch
that does not end in time is repeated probe by probe, to find out which of them blocks.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from provision.engine.agent import registry
from provision.engine.agent.codec import decode
from provision.engine.agent.process import AgentError
from provision.engine.agent.protocol import (
    PROBE_SECONDS,
    GatherRequest,
    ProbeRequest,
    ProbeResponse,
)

SEPARATE_KINDS = ("command", "http", "socket")
"""Kinds whose probes wait for other programs: each has its own lane from the start."""

PATIENCE = 0.5
"""Seconds after which a probe is slow, so that its kind gets another lane."""

LANES = 32
"""Most lanes of one kind that are not abandoned."""

POLL = 0.1
"""Seconds between two looks at the lanes."""


class Abandoned(Exception):  # noqa: N818 (an outcome, not a fault)
    """The controller does not wait for the result any more."""


@dataclass(eq=False)
class Task:
    """One call of a collector: a probe, or all probes of a kind.

    Args:
        seconds: after which it is abandoned.
        started: monotonic time; 0 while it waits.
    """

    kind: str
    batch: Mapping[str, registry.Args]
    seconds: float
    started: float = 0.0

    def running(self, now: float) -> float:
        """Seconds since it started."""
        return now - self.started if self.started else 0.0


@dataclass
class Kind:
    """The tasks of one kind: those that wait, and those that run, one per lane."""

    waiting: deque[Task] = field(default_factory=deque)
    running: list[Task] = field(default_factory=list)


class Gathering:
    """One request: its probes, and the results so far."""

    def __init__(self, request: GatherRequest) -> None:
        self._request = request
        self._responses: dict[str, ProbeResponse] = {}
        self._kinds: dict[str, Kind] = {}
        self._changed = threading.Condition()
        for task in _tasks(request.probes):
            self._kinds.setdefault(task.kind, Kind()).waiting.append(task)

    def run(self, hung_up: Callable[[], bool]) -> dict[str, ProbeResponse]:
        """Collect until every probe has a result, or is abandoned.

        Raises:
            Abandoned: when the controller has gone.
        """
        end = time.monotonic() + self._request.seconds
        with self._changed:
            for kind in self._kinds.values():
                first = kind.waiting[0].kind
                for _ in range(len(kind.waiting) if first in SEPARATE_KINDS else 1):
                    self._add_lane(kind)
            while len(self._responses) < len(self._request.probes):
                self._changed.wait(POLL)
                if hung_up():
                    raise Abandoned
                now = time.monotonic()
                if self._request.seconds and now >= end:
                    break
                for kind in self._kinds.values():
                    self._look_at(kind, now)
            late = ProbeResponse(error=f"no result in {self._request.seconds:g} s", late=True)
            return {name: self._responses.get(name, late) for name in self._request.probes}

    def _add_lane(self, kind: Kind) -> None:
        if len(kind.running) < LANES and kind.waiting:
            task = self._next(kind)
            # A daemon: one that never ends does not keep the agent from exiting.
            threading.Thread(target=self._lane, args=(kind, task), daemon=True).start()

    def _next(self, kind: Kind) -> Task:
        task = kind.waiting.popleft()
        task.started = time.monotonic()
        kind.running.append(task)
        return task

    def _lane(self, kind: Kind, task: Task) -> None:
        while True:
            responses = collect(task.kind, task.batch)
            with self._changed:
                if task not in kind.running:
                    return  # abandoned
                kind.running.remove(task)
                self._responses.update(responses)
                if not kind.waiting:
                    self._changed.notify()
                    return
                task = self._next(kind)

    def _look_at(self, kind: Kind, now: float) -> None:
        """Abandon what is late, and add a lane when all are slow."""
        for task in [task for task in kind.running if task.running(now) >= task.seconds]:
            kind.running.remove(task)
            if len(task.batch) > 1:
                single = ({name: args} for name, args in task.batch.items())
                kind.waiting.extend(Task(task.kind, one, task.seconds / 2) for one in single)
                for _ in task.batch:
                    self._add_lane(kind)
            else:
                for name in task.batch:
                    error = f"no result in {task.seconds:g} s"
                    self._responses[name] = ProbeResponse(error=error, late=True)
        if kind.waiting and all(task.running(now) >= PATIENCE for task in kind.running):
            self._add_lane(kind)


def _tasks(probes: Mapping[str, ProbeRequest]) -> Iterator[Task]:
    batches: dict[str, Task] = {}
    for name, probe in probes.items():
        seconds = probe.seconds or PROBE_SECONDS
        if registry.is_batch(probe.kind) and probe.kind not in SEPARATE_KINDS:
            task = batches.get(probe.kind, Task(probe.kind, {}, seconds))
            longest = max(seconds, task.seconds)
            batches[probe.kind] = Task(probe.kind, {**task.batch, name: probe.args}, longest)
        else:
            yield Task(probe.kind, {name: probe.args}, seconds)
    yield from batches.values()


def collect(kind: str, batch: Mapping[str, registry.Args]) -> dict[str, ProbeResponse]:
    """The results of some probes of one kind; an error is a result too."""
    results: Sequence[Any]
    try:
        results = registry.find(f"collector {kind}")(list(batch.values()))
        if len(results) != len(batch):
            raise AgentError(f"{len(results)} results for {len(batch)} probes of kind {kind!r}")
    except Exception as error:
        results = [error] * len(batch)
    return {
        name: ProbeResponse(error=describe(result))
        if isinstance(result, Exception)
        else ProbeResponse(result)
        for name, result in zip(batch, results, strict=True)
    }


def describe(error: Exception) -> str:
    """An error in one line, with the last line of a program's output."""
    if isinstance(error, AgentError):
        last = error.output.splitlines()[-1:]
        return ": ".join([str(error), *last])
    return f"{type(error).__name__}: {error}"


def gather(args: registry.Args, hung_up: Callable[[], bool]) -> dict[str, ProbeResponse]:
    """Collect facts; a probe that fails or blocks has its own error, the others their results."""
    return Gathering(decode(GatherRequest, args)).run(hung_up)
