"""The agent: reads requests of the controller and responds, one line of JSON per message."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from provision.engine.agent import registry
from provision.engine.agent.codec import decode, encode
from provision.engine.agent.process import AgentError, Log, ProcessResult, run
from provision.engine.agent.protocol import (
    Failure,
    GatherRequest,
    LogLine,
    ProbeResponse,
    Ready,
    Request,
    Response,
    RunRequest,
)
from provision.engine.agent.registry import operation


@operation("gather")
def gather(args: registry.Args, log: Log) -> dict[str, ProbeResponse]:
    """Collect facts: one thread per kind of probe, so that slow kinds do not add up.

    A probe that fails has its own error; the others still have their results.
    """
    kinds: dict[str, dict[str, registry.Args]] = {}
    for name, probe in decode(GatherRequest, args).probes.items():
        kinds.setdefault(probe.kind, {})[name] = probe.args
    responses: dict[str, ProbeResponse] = {}

    def collect(kind: str) -> None:
        responses.update(_collect(kind, kinds[kind]))

    threads = [threading.Thread(target=collect, args=(kind,)) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return responses


def _collect(kind: str, batch: Mapping[str, registry.Args]) -> dict[str, ProbeResponse]:
    results: Sequence[Any]
    try:
        results = registry.find(f"collector {kind}")(list(batch.values()))
        if len(results) != len(batch):
            raise AgentError(f"{len(results)} results for {len(batch)} probes of kind {kind!r}")
    except Exception as error:
        results = [error] * len(batch)
    return {
        name: ProbeResponse(error=_describe(result))
        if isinstance(result, Exception)
        else ProbeResponse(result)
        for name, result in zip(batch, results, strict=True)
    }


def _describe(error: Exception) -> str:
    if isinstance(error, AgentError):
        last = error.output.splitlines()[-1:]
        return ": ".join([str(error), *last])
    return f"{type(error).__name__}: {error}"


@operation("run")
def run_program(args: registry.Args, log: Log) -> ProcessResult:
    """Run one program."""
    request = decode(RunRequest, args)
    return run(request.argv, request.input, request.timeout)


def serve(requests: BinaryIO, responses: BinaryIO) -> None:
    """Respond to requests until the controller closes the channel."""

    def send(message: Ready | LogLine | Response | Failure) -> None:
        responses.write(json.dumps(encode(message)).encode() + b"\n")
        responses.flush()

    send(Ready(os.getpid()))
    for line in requests:
        request = decode(Request, json.loads(line))

        def log(text: str, number: int = request.id) -> None:
            # The controller may have died; a unit that was begun is still completed.
            with contextlib.suppress(BrokenPipeError):
                send(LogLine(number, text))

        try:
            function = registry.find(f"operation {request.operation}")
            send(Response(request.id, function(request.args, log)))
        except AgentError as error:
            send(Failure(request.id, str(error), error.output))
        except Exception as error:
            send(Failure(request.id, _describe(error)))


def main(modules: Mapping[str, str]) -> None:
    """Serve requests on stdin; programs that are run cannot write into the responses on stdout.

    Args:
        modules: see ``registry.MODULES``.
    """
    registry.MODULES.update(modules)
    os.environ.update(
        LC_ALL="C.UTF-8",
        DEBIAN_FRONTEND="noninteractive",
        PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    )
    responses = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        serve(sys.stdin.buffer, responses)
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(0)
