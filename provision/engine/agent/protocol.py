"""The protocol between the controller and its agent on a machine: typed requests and results.

One line of JSON per message, of frozen dataclasses (see ``codec.py``). The controller sends a
`Request`; the agent any number of `LogLine`s, then a `Response` or a `Failure` of that number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from provision.engine.agent.codec import ProtocolError, decode

R = TypeVar("R")

PROBE_SECONDS = 15.0  # after which a probe without a result has failed, unless it has its own limit
LINE_LIMIT = 32 * 1024 * 1024  # bytes of one message; a longer one is an error on either side


class ProbeError(Exception):
    """A probe without a result: it failed, or the machine does not know it."""


# --- messages ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ready:
    """The agent's first line: from now on it reads requests."""

    pid: int


@dataclass(frozen=True)
class Request:
    """Calls an operation of the agent (see ``registry.operation``)."""

    id: int
    operation: str
    args: Mapping[str, Any]


@dataclass(frozen=True)
class LogLine:
    """Progress of a request."""

    id: int
    log: str


@dataclass(frozen=True)
class Response:
    """The result of a request."""

    id: int
    value: Any


@dataclass(frozen=True)
class Failure:
    """A request that failed."""

    id: int
    error: str
    output: str = ""


Message = Ready | LogLine | Response | Failure


# --- operations ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProbeRequest:
    """One probe on the wire; after ``seconds`` without a result it has failed (0: the default)."""

    kind: str
    args: Mapping[str, Any]
    seconds: float = 0.0


@dataclass(frozen=True)
class ProbeResponse:
    """The result of one probe: a value, or why there is none; ``late`` if it timed out."""

    value: Any = None
    error: str = ""
    late: bool = False


@dataclass(frozen=True)
class GatherRequest:
    """Operation ``gather``: collect facts; the result is a `ProbeResponse` by name.

    Args:
        seconds: after which a probe without a result has failed; 0 for no limit.
    """

    probes: Mapping[str, ProbeRequest]
    seconds: float = 0.0


@dataclass(frozen=True)
class RunRequest:
    """Operation ``run``: run a program; the result is a ``ProcessResult``."""

    argv: tuple[str, ...]
    input: str = ""
    timeout: float = 60.0


@dataclass(frozen=True)
class Action:
    """One step of a unit.

    Args:
        do: the name that it is registered under (see ``registry.action``).
        args: as JSON.
    """

    do: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HttpRequest:
    """One GET, sent by the machine.

    Args:
        path: with its query.
        address: of the server; ignored with ``socket``.
        port: 0 for 80, or 443 with ``ca``.
        socket: path of a unix socket to connect to instead.
        host: the Host header.
        ca: a file of CA certificates on the machine; with it the request uses HTTPS.
        timeout: seconds for connecting and for each read.
    """

    path: str
    address: str = ""
    port: int = 0
    socket: str = ""
    host: str = "localhost"
    ca: str = ""
    timeout: float = 3.0


@dataclass(frozen=True)
class Readiness:
    """What must respond after a unit was activated: an HTTP server or HAProxy's runtime socket.

    Args:
        name: human-readable, such as ``http://10.0.0.11/healthz``.
        deadline: seconds.
        http: a request whose response has one of ``statuses``.
        statuses: HTTP statuses that count as ready.
        socket: path of a runtime socket that answers ``show info``.
        contains: text in that answer, from the process that has loaded the new configuration.
    """

    name: str
    deadline: float
    http: HttpRequest | None = None
    statuses: tuple[int, ...] = (200,)
    socket: str = ""
    contains: str = ""


@dataclass(frozen=True)
class Stamp:
    """Records which configuration the process of a unit has loaded."""

    unit: str
    fingerprint: str


@dataclass(frozen=True)
class UnitRequest:
    """Operation ``unit``: apply one unit as a transaction; the result is a `UnitResponse`.

    Args:
        actions: what to change, in order.
        validate: argv of a program that refuses a bad configuration; empty for none.
        service: the systemd unit to activate; empty for none.
        activate: ``reload``, ``restart``, ``try-restart`` or empty.
        needs_reload: whether the service must load its configuration again.
        readiness: what must respond afterwards.
        stamp: recorded last.
    """

    actions: tuple[Action, ...]
    validate: tuple[str, ...] = ()
    service: str = ""
    activate: str = ""
    needs_reload: bool = False
    readiness: Readiness | None = None
    stamp: Stamp | None = None


@dataclass(frozen=True)
class UnitResponse:
    """What became of a unit.

    Args:
        ok: whether all steps succeeded.
        activated: the verb that systemctl ran: ``start``, ``reload``, ``restart`` or empty.
        step: the step that failed: ``change``, ``validate``, ``activate`` or ``probe``.
        error: why, in one line.
        output: the last lines of the program that failed.
        restored: paths that were rolled back.
        after: the state of the service after the rollback; empty when it was not touched.
        kept: copies of files that were changed by hand and have been overwritten or removed.
    """

    ok: bool
    activated: str = ""
    step: str = ""
    error: str = ""
    output: str = ""
    restored: tuple[str, ...] = ()
    after: str = ""
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Confirmation:
    """The result of an operation that confirms a unit: False when it was reverted meanwhile."""

    kept: bool


# --- probes --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe(Generic[R]):
    """One fact to collect on a machine.

    Args:
        kind: the collector (see ``registry.collector``).
        name: unique within one gather; two probes of one name must be the same probe.
        args: the collector's arguments, as JSON.
        result: the frozen dataclass that the collector returns.
        seconds: after which it has failed without a result.
    """

    kind: str
    name: str
    args: Mapping[str, Any]
    result: type[R]
    seconds: float = PROBE_SECONDS


def gather_request(
    probes: Iterable[Probe[Any]], seconds: float = 0.0, factor: float = 1.0
) -> GatherRequest:
    """The request for some probes; one that occurs several times is sent once.

    Args:
        seconds: see `GatherRequest`.
        factor: by which every probe's own time is multiplied, for a slow host.

    Raises:
        ProtocolError: when two different probes have the same name.
    """
    requests: dict[str, ProbeRequest] = {}
    for probe in probes:
        request = ProbeRequest(probe.kind, probe.args, probe.seconds * factor)
        if requests.setdefault(probe.name, request) != request:
            raise ProtocolError(f"two different probes are called {probe.name!r}")
    return GatherRequest(requests, seconds)


class Results:
    """The results of one gather: ``results[probe]`` is a value of the probe's result type.

    Args:
        machine: its name, for errors.
        responses: by probe name; values as JSON or as dataclasses.
        error: the exception that is raised for a probe without a result.
    """

    def __init__(
        self,
        machine: str,
        responses: Mapping[str, ProbeResponse],
        error: Callable[[str], Exception] = ProbeError,
    ) -> None:
        self.machine = machine
        self.responses = responses
        self._error = error
        self._decoded: dict[str, Any] = {}

    @classmethod
    def of(cls, machine: str, values: Mapping[str, Any]) -> Results:
        """Results from values by probe name, without a machine."""
        return cls(machine, {name: ProbeResponse(value) for name, value in values.items()})

    def __contains__(self, probe: Probe[Any]) -> bool:
        return probe.name in self.responses

    def __getitem__(self, probe: Probe[R]) -> R:
        """The result of a probe.

        Raises:
            ProbeError: when it is missing, failed, or is not of the probe's type.
        """
        response = self.responses.get(probe.name)
        if response is None:
            raise self._error(f"{self.machine}: probe {probe.name!r} has no result")
        if response.error:
            raise self._error(f"{self.machine}: probe {probe.name!r} failed: {response.error}")
        value = self._decoded.get(probe.name, response.value)  # many checks read the same result
        if isinstance(value, probe.result):
            return value
        try:
            result = self._decoded[probe.name] = decode(probe.result, response.value)
        except ProtocolError as error:
            text = f"{self.machine}: probe {probe.name!r} has an unexpected result: {error}"
            raise self._error(text) from None
        return result

    def problem(self, probe: Probe[Any]) -> str:
        """Why a probe has no result; empty when it has one."""
        try:
            self[probe]
        except Exception as error:
            response = self.responses.get(probe.name)
            return (response.error if response else "") or str(error)
        return ""

    def get(self, probe: Probe[R]) -> R | None:
        """The result of a probe, or None where `__getitem__` raises."""
        try:
            return self[probe]
        except ProbeError:
            return None
