"""The protocol between controller and agent: values, messages, probes, and both ends over pipes."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from provision.core.endpoint import Endpoint
from provision.core.errors import HostError
from provision.core.lab import ROOT
from provision.engine.agent import main as agent
from provision.engine.agent import registry
from provision.engine.agent.codec import ProtocolError, decode, encode
from provision.engine.agent.commands import command_probe
from provision.engine.agent.files import PathFacts, path_probe
from provision.engine.agent.process import AgentError, ProcessResult
from provision.engine.agent.protocol import (
    Action,
    HttpRequest,
    Probe,
    ProbeError,
    ProbeResponse,
    Readiness,
    Results,
    Stamp,
    UnitRequest,
    gather_request,
)
from provision.engine.host import Host, ProbeFailedError, RemoteError
from provision.engine.messages import decode_message
from provision.engine.payload import BOOT, closure, payload, registrations


@dataclass(frozen=True)
class Inner:
    text: str
    number: float = 0.0


@dataclass(frozen=True)
class Outer:
    items: tuple[Inner, ...]
    by_name: Mapping[str, Inner]
    pairs: tuple[tuple[str, int], ...] = ()
    maybe: int | None = None
    free: Any = None
    path: Path | None = None


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        Outer(
            (Inner("a"), Inner("b", 1.5)),
            {"c": Inner("d")},
            (("x", 1),),
            3,
            {"any": [1]},
            Path("/x"),
        ),
        Outer((), {}),
        UnitRequest(
            (Action("write", {"path": "/x"}),),
            validate=("nginx", "-t"),
            service="nginx.service",
            activate="reload",
            needs_reload=True,
            readiness=Readiness("x", 5.0, HttpRequest("/healthz"), (200, 404)),
            stamp=Stamp("nginx", "digest"),
        ),
    ],
)
def test_values_survive_the_wire(value: Any) -> None:
    assert decode(type(value), json.loads(json.dumps(encode(value)))) == value


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"by_name": {}}, "Outer: field 'items' is missing"),
        ({"items": [], "by_name": {}, "other": 1}, "Outer: unknown field 'other'"),
        ({"items": [{"text": 1}], "by_name": {}}, "Outer.items[0].text is int, not str"),
        ({"items": [], "by_name": {"a": []}}, "Outer.by_name[a] is list, not an object"),
        ({"items": [], "by_name": {}, "pairs": [["x"]]}, "1 values instead of 2"),
        ({"items": {}, "by_name": {}}, "Outer.items is dict"),
        ({"items": [], "by_name": {}, "maybe": True}, "Outer.maybe is bool, not int"),
        ("text", "Outer is str, not an object"),
    ],
)
def test_a_value_of_another_shape_is_an_error_that_names_the_field(data: Any, error: str) -> None:
    with pytest.raises(ProtocolError, match=re.escape(error)):
        decode(Outer, data)


@pytest.mark.parametrize("data", [{}, [], "Welcome", 1, {"id": 1}, {"id": 1, "log": 2}])
def test_other_json_is_no_message(data: Any) -> None:
    with pytest.raises(ProtocolError):
        decode_message(data)


# --- probes --------------------------------------------------------------------------------------

HERE = path_probe("/here")


def test_a_result_is_found_by_its_probe() -> None:
    results = Results("web-01", {HERE.name: ProbeResponse(encode(PathFacts("absent")))})
    assert results[path_probe("/here")] == PathFacts("absent")
    assert HERE in results
    assert path_probe("/there") not in results


@pytest.mark.parametrize(
    ("responses", "error"),
    [
        ({}, "web-01: probe 'path /here' has no result"),
        (
            {HERE.name: ProbeResponse(error="no disk")},
            "web-01: probe 'path /here' failed: no disk",
        ),
        (
            {HERE.name: ProbeResponse({"kind": "x"})},
            "web-01: probe 'path /here' has an unexpected result: PathFacts: unknown field 'kind'",
        ),
        (
            {HERE.name: ProbeResponse()},
            "web-01: probe 'path /here' has an unexpected result: PathFacts is NoneType",
        ),
    ],
    ids=["missing", "failed", "unknown-field", "no-value"],
)
def test_a_probe_without_a_result_is_an_error_that_names_it(
    responses: dict[str, ProbeResponse], error: str
) -> None:
    results = Results("web-01", responses)
    with pytest.raises(ProbeError, match=re.escape(error)):
        results[HERE]
    assert results.get(HERE) is None


def test_two_probes_of_one_name_must_be_the_same() -> None:
    assert list(gather_request([HERE, path_probe("/here")]).probes) == ["path /here"]
    other = Probe("path", HERE.name, {"path": "/there", "secret": False}, PathFacts)
    with pytest.raises(ProtocolError, match="two different probes are called 'path /here'"):
        gather_request([HERE, other])


# --- the agent's end -----------------------------------------------------------------------------


def serve(*requests: Any) -> list[dict[str, Any]]:
    """The agent's messages after these requests."""
    lines = b"".join(json.dumps(request).encode() + b"\n" for request in requests)
    responses = io.BytesIO()
    agent.serve(io.BytesIO(lines), responses)
    return [json.loads(line) for line in responses.getvalue().splitlines() if line]


def test_the_agent_survives_failing_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    def operate(args: registry.Args, log: Any) -> str:
        log("half way")
        if args["fail"]:
            raise AgentError("no", "because")
        return "done"

    monkeypatch.setitem(registry.REGISTERED, "operation test", operate)
    ready, *rest = serve(
        {"id": 1, "operation": "test", "args": {"fail": False}},
        {"id": 2, "operation": "test", "args": {"fail": True}},
        {"id": 3, "operation": "nonsense", "args": {}},
        {"id": 4, "operation": "test", "args": {}},
        {"id": 5, "operation": "run", "args": {"argv": ["cat"], "input": "ä"}},
        {"id": 6, "operation": "run", "args": {}},
    )
    assert ready == {"pid": os.getpid()}
    assert rest == [
        {"id": 1, "log": "half way"},
        {"id": 1, "value": "done"},
        {"id": 2, "log": "half way"},
        {"id": 2, "error": "no", "output": "because"},
        {"id": 3, "error": "this machine knows no operation nonsense", "output": ""},
        {"id": 4, "log": "half way"},
        {"id": 4, "error": "KeyError: 'fail'", "output": ""},
        {"id": 5, "value": {"status": 0, "stdout": "ä", "stderr": ""}},
        {"id": 6, "error": "ProtocolError: RunRequest: field 'argv' is missing", "output": ""},
    ]


def test_a_probe_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def collect(args: registry.Args) -> Inner:
        if args["fail"]:
            raise AgentError("the program failed", "first line\nlast line")
        return Inner("fine")

    def collect_all(batch: Sequence[registry.Args]) -> list[Inner]:
        if any(args["fail"] for args in batch):
            return []
        return [Inner(str(number)) for number in range(len(batch))]

    monkeypatch.setattr(registry, "REGISTERED", dict(registry.REGISTERED))
    registry.collector("one")(collect)
    monkeypatch.setitem(registry.REGISTERED, "collector all", collect_all)
    monkeypatch.setitem(registry.REGISTERED, "collector short", collect_all)

    def probe(kind: str, number: int, *, fail: bool = False) -> Probe[Inner]:
        return Probe(kind, f"{kind} {number}", {"fail": fail}, Inner)

    good, failing = probe("one", 1), probe("one", 2, fail=True)
    first, second = probe("all", 1), probe("all", 2)
    short, unknown = probe("short", 1, fail=True), probe("nonsense", 1)
    probes = [good, failing, first, second, short, unknown]
    _, message = serve({"id": 1, "operation": "gather", "args": encode(gather_request(probes))})
    responses = {name: decode(ProbeResponse, value) for name, value in message["value"].items()}
    results = Results("web-01", responses)
    assert (results[good], results[first], results[second]) == (
        Inner("fine"),
        Inner("0"),
        Inner("1"),
    )
    assert responses[failing.name].error == "the program failed: last line"
    assert responses[short.name].error == "0 results for 1 probes of kind 'short'"
    assert responses[unknown.name].error == "this machine knows no collector nonsense"


def test_a_unit_is_completed_although_the_controller_died(monkeypatch: pytest.MonkeyPatch) -> None:
    completed: list[bool] = []

    def operate(_args: registry.Args, log: Any) -> None:
        log("not delivered")
        completed.append(True)

    class Broken(io.BytesIO):
        def write(self, data: Any) -> int:
            if b"pid" not in data:
                raise BrokenPipeError
            return super().write(data)

    monkeypatch.setitem(registry.REGISTERED, "operation test", operate)
    line = json.dumps({"id": 1, "operation": "test", "args": {}}).encode() + b"\n"
    with pytest.raises(BrokenPipeError):
        agent.serve(io.BytesIO(line), Broken())
    assert completed == [True]


# --- what travels to a machine -------------------------------------------------------------------


def test_every_name_that_the_controller_uses_is_registered() -> None:
    """Names in the source of actions and probes, against those in decorators."""
    used = set()
    for path in (ROOT / "provision").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        used |= {f"action {name}" for name in re.findall(r"\bAction\(\s*\"([^\"]+)\"", text)}
        used |= {f"collector {name}" for name in re.findall(r"\bProbe\(\s*\"([^\"]+)\"", text)}
    assert {"action write", "collector path"} <= used
    assert used <= set(registrations())


def test_the_payload_holds_only_what_the_agent_imports() -> None:
    loader, sources = payload().split(b"\n", 1)[1].rsplit(b"\nmain(registered)\n", 1)
    modules, registered = json.loads(sources)
    assert b"provision.engine.agent.main" in loader
    assert set(registered.values()) <= set(modules)
    assert not [name for name in modules if name.startswith("provision.monitoring")]
    assert "provision.database.failover.agent.guard" not in modules
    assert "provision/engine/agent/process.py" in closure(["provision.engine.agent.files"])


# --- the controller's end, over pipes instead of SSH ---------------------------------------------


class Channel:
    """A local process with the interface of Paramiko's channel."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )

    def exec_command(self, _command: str) -> None:
        pass

    def settimeout(self, _seconds: float) -> None:
        pass

    def sendall(self, data: bytes) -> None:
        assert self.process.stdin is not None
        while data:
            data = data[self.process.stdin.write(data) :]

    def recv(self, size: int) -> bytes:
        assert self.process.stdout is not None
        return os.read(self.process.stdout.fileno(), size)

    def recv_stderr(self, size: int) -> bytes:
        assert self.process.stderr is not None
        return os.read(self.process.stderr.fileno(), size)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


class Connection:
    """Has the interface of Fabric's connection."""

    def __init__(self, channel: Channel) -> None:
        self.transport = self
        self.gateway = None
        self._channel = channel

    def open_session(self, timeout: float) -> Channel:
        return self._channel

    def close(self) -> None:
        self._channel.close()


def local(*command: str) -> Host:
    """A Host whose machine is a process of this computer."""
    endpoint = Endpoint("127.0.0.1", 22, "root", Path("/none"), "ssh-ed25519 none")
    host = Host("web-01", endpoint)
    argv = list(command) or [sys.executable, "-I", "-c", BOOT]
    host._connection = Connection(Channel(argv))
    return host


@pytest.fixture
def machine_here() -> Iterator[Host]:
    with local() as host:
        yield host


def test_modules_are_sent_and_imported_when_they_are_needed(machine_here: Host) -> None:
    assert machine_here.round_trips == 0
    result = machine_here.run("sh", "-c", 'printf "%s" "$1"; cat', "sh", "a 'b'", input="c")
    assert result == ProcessResult(0, "a 'b'c", "")
    nowhere, echo = path_probe("/none"), command_probe(["echo", "text"])
    results = machine_here.gather([nowhere, echo, nowhere])
    assert results[nowhere] == PathFacts("absent")
    assert results[echo].stdout == "text\n"
    assert machine_here.round_trips == 2
    assert machine_here.run("false").status == 1


def test_a_failed_probe_is_an_error_of_its_machine(machine_here: Host) -> None:
    unknown = Probe("nonsense", "nonsense", {}, PathFacts)
    nowhere = path_probe("/none")
    results = machine_here.gather([unknown, nowhere])
    assert results[nowhere] == PathFacts("absent")
    with pytest.raises(ProbeFailedError, match="probe 'nonsense' failed: this machine knows no"):
        results[unknown]


def test_the_response_to_an_interrupted_request_is_ignored(
    machine_here: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: float) -> dict[str, Any]:
        raise KeyboardInterrupt

    assert machine_here.run("true").ok
    with monkeypatch.context() as patched:
        patched.setattr(machine_here, "_read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            machine_here.run("echo", "the first")
    assert machine_here.run("echo", "the second").stdout == "the second\n"


def test_the_output_of_programs_does_not_disturb_the_protocol(machine_here: Host) -> None:
    result = machine_here.run("sh", "-c", "echo '{\"id\": 2}'; echo noise >&2")
    assert result.stdout == '{"id": 2}\n'
    assert machine_here.run("echo", "still here").stdout == "still here\n"


def test_the_error_of_a_request_names_the_machine(machine_here: Host) -> None:
    with pytest.raises(RemoteError, match=r"^web-01: this machine knows no operation nonsense"):
        machine_here.call("nonsense", {})
    assert machine_here.run("true").ok


@pytest.mark.parametrize(
    ("script", "what", "hint"),
    [
        ("exit", "web-01: the machine stopped responding", "invoke lab.status"),
        ("echo sudo: a password is required >&2", "sudo asks for a password", "invoke lab.rescue"),
        (
            "echo bash: line 1: python3: command not found >&2",
            "python3 is not installed",
            "invoke lab.rebuild web-01",
        ),
        ("echo Welcome", "the connection was closed", "invoke lab.rescue web-01"),
        ("echo '{}'; echo '{\"id\": 1}'", "the connection was closed", "start-up file"),
        ("head -c 100000 /dev/zero & exec cat >/dev/null", "more than 64 KiB", "lab.rescue web-01"),
        ("yes noise & exec cat >/dev/null", "printed more than 64 KiB", "such as ~/.bashrc"),
    ],
)
def test_a_machine_without_an_agent(script: str, what: str, hint: str) -> None:
    host = local("sh", "-c", script)
    with pytest.raises(HostError) as caught:
        host.run("true")
    assert what in str(caught.value)
    assert hint in caught.value.hint
