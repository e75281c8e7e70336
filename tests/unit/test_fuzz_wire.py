"""Noise, damage and nonsense in what a machine sends: one clear error, no traceback, no hang."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provision.core.endpoint import Endpoint
from provision.core.errors import HostError
from provision.engine import messages
from provision.engine.agent.codec import ProtocolError, decode
from provision.engine.agent.files import PathFacts, path_probe
from provision.engine.agent.originals import OriginalState
from provision.engine.agent.process import ProcessResult
from provision.engine.agent.protocol import (
    GatherRequest,
    ProbeResponse,
    UnitRequest,
    UnitResponse,
)
from provision.engine.host import Host
from provision.engine.messages import decode_message

READY = b'{"pid": 7}\n'
FUZZ = settings(max_examples=40, deadline=None, database=None)

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "value", "log", "error", "pid", "x"]), inner)
    ),
    max_leaves=8,
)
NOISE = st.binary(max_size=60).filter(lambda data: not data.startswith(b'{"'))


class FakeChannel:
    """A channel that sends these bytes after the payload, in pieces, and then closes."""

    def __init__(self, data: bytes, piece: int = 1 << 16, *, silent: bool = False) -> None:
        self.data, self.piece, self.silent = data, piece, silent

    def exec_command(self, command: str) -> None:
        pass

    def settimeout(self, seconds: float) -> None:
        pass

    def sendall(self, data: bytes) -> None:
        pass

    def recv(self, size: int) -> bytes:
        size = min(size, self.piece)
        received, self.data = self.data[:size], self.data[size:]
        if not received and self.silent:
            raise TimeoutError
        return received

    def recv_stderr(self, size: int) -> bytes:
        return b""


class FakeConnection:
    gateway = None

    def __init__(self, channel: FakeChannel) -> None:
        self.transport, self.channel = self, channel

    def open_session(self, timeout: float) -> FakeChannel:
        return self.channel

    def close(self) -> None:
        pass


def host_of(data: bytes, piece: int = 1 << 16, *, silent: bool = False) -> Host:
    """A machine that responds with these bytes."""
    endpoint = Endpoint("127.0.0.1", 22, "root", Path("/none"), "ssh-ed25519 none")
    host = Host("web-01", endpoint)
    host._connection = FakeConnection(FakeChannel(data, piece, silent=silent))
    return host


def line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def outcome(operation: Callable[[], object]) -> object:
    """The result, or the error that a user sees."""
    try:
        return operation()
    except HostError as error:
        failure = error
    assert str(failure).startswith("web-01: ")
    assert str(failure).encode()
    return failure


DONE = line({"id": 1, "value": {"status": 0, "stdout": "fine", "stderr": ""}})


@FUZZ
@given(st.lists(NOISE, max_size=4), st.lists(NOISE, max_size=4), st.integers(1, 70))
def test_noise_is_skipped(before: list[bytes], between: list[bytes], piece: int) -> None:
    data = b"".join([*(b"%b\n" % noise for noise in before), READY])
    data += b"".join(b"%b\n" % noise for noise in between) + DONE
    assert host_of(data, piece).run("true") == ProcessResult(0, "fine", "")


@FUZZ
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_give_one_error(data: bytes, ready: bool) -> None:
    host = host_of(READY + data if ready else data)
    assert isinstance(outcome(lambda: host.run("true")), HostError)


@FUZZ
@given(st.integers(0, len(DONE) - 2), st.booleans())
def test_a_truncated_message_is_one_error(length: int, line_feed: bool) -> None:
    data = READY + b"\n" + DONE[:length] + (b"\n" if line_feed else b"")
    assert isinstance(outcome(lambda: host_of(data).run("true")), HostError)


@FUZZ
@given(JSON, JSON)
def test_json_of_any_shape(first: Any, second: Any) -> None:
    data = READY + line(first) + line({"id": 1, "value": second})
    probe = path_probe("/x")
    for operation in (
        lambda host: host.run("true"),
        lambda host: host.gather([probe]).problem(probe),
        lambda host: host.apply(UnitRequest(())),
    ):
        outcome(lambda operation=operation: operation(host_of(data)))  # type: ignore[misc]


@FUZZ
@given(JSON)
def test_values_of_any_shape_are_decoded_or_refused(value: Any) -> None:
    for kind in (GatherRequest, ProbeResponse, UnitResponse, PathFacts, OriginalState):
        with contextlib.suppress(ProtocolError):
            assert isinstance(decode(kind, value), kind)
    with contextlib.suppress(ProtocolError):
        decode_message(value)


@dataclass(frozen=True)
class Case:
    data: bytes
    what: str


@pytest.mark.parametrize(
    "case",
    [
        Case(READY + line({"id": 9, "value": 1}), "request 9, which was never sent"),
        Case(READY + b'{"id": 1, "val\n' + DONE, "it sent a damaged message"),
        Case(READY + b'{"id": 1, "value": "\xff"}\n', "it sent a damaged message"),
        Case(READY + line({"id": "1", "value": 2}), "it sent an unknown message"),
        Case(READY + line({"id": 1, "value": 5}), "it sent an unexpected result"),
        Case(READY + b"[" * 100_000 + b"\n", "printed more than 64 KiB"),
        Case(READY + b"n\xf6ise\n" * 12_000, "n\\xf6ise"),
        Case(READY + b"\n\n\n", "the connection was closed"),
        Case(b"Welcome\x1b[2J\n", "Welcome\\x1b[2J"),
        Case(b"x" * 70_000, "a line of more than 64 KiB"),
    ],
)
def test_the_error_names_the_problem(case: Case) -> None:
    error = outcome(lambda: host_of(case.data).run("true"))
    assert isinstance(error, HostError)
    assert case.what in str(error)
    assert error.hint.startswith(("invoke ", "find what prints"))


def test_a_huge_line_is_an_error_and_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "LINE_LIMIT", 1 << 20)
    host = host_of(READY + b'{"id": 1, "value": "' + b"x" * (3 << 20))
    error = outcome(lambda: host.run("true"))
    assert "a line of more than 1 MiB" in str(error)


def test_a_duplicate_response_is_ignored() -> None:
    second = line({"id": 2, "value": {"status": 0, "stdout": "second", "stderr": ""}})
    host = host_of(READY + DONE + DONE + READY + second)
    assert host.run("true").stdout == "fine"
    assert host.run("true").stdout == "second"


def test_noise_does_not_extend_the_deadline() -> None:
    class Ticking(FakeChannel):
        def recv(self, size: int) -> bytes:
            received = super().recv(size)
            if not received:
                time.sleep(0.01)
            return received or b"tick\n"

    host = host_of(b"")
    host._connection = FakeConnection(Ticking(READY))
    started = time.monotonic()
    with pytest.raises(HostError, match="no response in"):
        host.call("run", {}, timeout=0.5)
    assert time.monotonic() - started < 5


def test_a_silent_machine_is_an_error() -> None:
    with pytest.raises(HostError, match="no response in"):
        host_of(READY, silent=True).run("true", timeout=1)
    with pytest.raises(HostError, match="the agent does not start"):
        host_of(b"hello\n", silent=True).run("true")
