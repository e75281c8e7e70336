"""The agent: reads requests of the controller and responds, one line of JSON per message."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import BinaryIO

from provision.engine.agent import gathering, registry
from provision.engine.agent.codec import decode, encode
from provision.engine.agent.process import AgentError, Log, ProcessResult, kill_children, run
from provision.engine.agent.protocol import (
    LINE_LIMIT,
    Failure,
    LogLine,
    ProbeResponse,
    Ready,
    Request,
    Response,
    RunRequest,
)
from provision.engine.agent.registry import operation

controller_gone: Callable[[], bool] = bool
"""Whether the controller has closed the connection; `main` sets it."""


@operation("gather")
def gather(args: registry.Args, log: Log) -> dict[str, ProbeResponse]:
    """See `gathering`; ends at once when the controller has gone."""
    return gathering.gather(args, controller_gone)


@operation("run")
def run_program(args: registry.Args, log: Log) -> ProcessResult:
    """Run one program."""
    request = decode(RunRequest, args)
    return run(request.argv, request.input, request.timeout)


def serve(requests: BinaryIO, responses: BinaryIO) -> None:
    """Respond to requests until the controller closes the channel.

    A message starts and ends with a line feed: what other programs write into the channel is on
    lines of its own.
    """

    def send(message: Ready | LogLine | Response | Failure) -> None:
        line = json.dumps(encode(message)).encode()
        if len(line) > LINE_LIMIT and isinstance(message, Response):
            error = f"the result is larger than {LINE_LIMIT >> 20} MiB"
            line = json.dumps(encode(Failure(message.id, error))).encode()
        responses.write(b"\n" + line + b"\n")
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
        except gathering.Abandoned:
            return
        except AgentError as error:
            send(Failure(request.id, str(error), error.output))
        except Exception as error:
            send(Failure(request.id, gathering.describe(error)))


def hang_up_of(stream: BinaryIO) -> Callable[[], bool]:
    """Whether the other end of a pipe or socket is closed, without reading from it."""
    import select

    poller = select.poll()
    poller.register(stream.fileno(), 0)  # POLLHUP and POLLERR are always reported
    return lambda: bool(poller.poll(0))


def main(modules: Mapping[str, str]) -> None:
    """Serve requests on stdin; programs that are run cannot write into the responses on stdout.

    Does not return: threads that are blocked in a probe would keep the process.

    Args:
        modules: see ``registry.MODULES``.
    """
    global controller_gone
    registry.MODULES.update(modules)
    os.environ.update(
        LC_ALL="C.UTF-8",
        DEBIAN_FRONTEND="noninteractive",
        PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    )
    controller_gone = hang_up_of(sys.stdin.buffer)
    responses = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    status = 0
    try:
        serve(sys.stdin.buffer, responses)
    except (BrokenPipeError, KeyboardInterrupt):
        pass
    except Exception:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        status = 1
    kill_children()
    os._exit(status)
