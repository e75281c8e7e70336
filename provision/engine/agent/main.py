"""On the machine: the loop that answers the controller's requests, a JSON line each."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from provision.database.agent import probes as mysql
from provision.engine.agent import files, http, originals, packages, services, units
from provision.engine.agent import removal as undo
from provision.engine.agent.core import PROBES, Failed, Job, Say, run
from provision.services.app.agent import migrations
from provision.services.firewall.agent import trial as firewall
from provision.services.tls.agent import probes as tls

REGISTERED = (
    files,
    firewall,
    http,
    migrations,
    mysql,
    originals,
    packages,
    services,
    tls,
    undo,
)
"""Modules that put their probes and actions into the registries when they are imported."""


def gather(args: dict[str, Any], say: Say) -> Any:
    """Answer every probe: ``{kind: [arguments, …]}`` becomes ``{kind: [answer, …]}``.

    Every kind is asked once with all its arguments, and the programs that probes start run beside
    each other, so that reading a machine costs about as much as its slowest question.
    """
    jobs: dict[str, Job] = {kind: PROBES[kind](each) for kind, each in args["probes"].items()}
    for job in jobs.values():
        next(job)
    answers: dict[str, Any] = {}
    for kind, job in jobs.items():
        try:
            next(job)
        except StopIteration as end:
            answers[kind] = end.value
    return answers


def command(args: dict[str, Any], say: Say) -> Any:
    """Run one program: ``argv``, ``input`` (text for its stdin), ``timeout`` in seconds."""
    done = run(args["argv"], input=args.get("input", ""), timeout=args.get("timeout", 60.0))
    return {"status": done.status, "out": done.out, "err": done.err}


OPERATIONS: dict[str, Callable[[dict[str, Any], Say], Any]] = {
    "firewall-confirm": firewall.confirm,
    "gather": gather,
    "mysql": mysql.operate,
    "run": command,
    "unit": units.apply,
}


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until the controller closes the channel."""

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message).encode() + b"\n")
        answers.flush()

    send({"ready": os.getpid()})
    for line in requests:
        request = json.loads(line)

        def say(text: str, number: int = request["id"]) -> None:
            # Whoever listened may be gone; a unit that was begun is brought to its end.
            with contextlib.suppress(BrokenPipeError):
                send({"id": number, "say": text})

        try:
            value = OPERATIONS[request["op"]](request["args"], say)
            send({"id": request["id"], "value": value})
        except Failed as error:
            send({"id": request["id"], "error": str(error), "output": error.output})
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            send({"id": request["id"], "error": text, "output": ""})


def main() -> None:
    """Keep stdout for answers alone, whatever a program prints."""
    os.environ.update(
        LC_ALL="C.UTF-8",
        DEBIAN_FRONTEND="noninteractive",
        PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    )
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        serve(sys.stdin.buffer, answers)
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(0)
