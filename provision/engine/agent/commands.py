"""Programs run as a probe, and as a step of a unit."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from provision.engine.agent.files import Journal
from provision.engine.agent.process import AgentError, Log, ProcessResult, run
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, action, collector


def command_probe(
    argv: Sequence[str], name: str = "", *, timeout: float = 10.0
) -> Probe[ProcessResult]:
    """The result of a read-only program.

    Args:
        argv: the program and its arguments.
        name: of the probe; the command line when empty.
        timeout: seconds.
    """
    args = {"argv": list(argv), "timeout": timeout}
    probe_name = name or f"command {shlex.join(argv)}"
    return Probe("command", probe_name, args, ProcessResult, timeout + 5)


@collector("command")
def collect_command(args: Args) -> ProcessResult:
    """See `command_probe`."""
    return run(args["argv"], timeout=args["timeout"])


@action("command")
def command(args: Args, journal: Journal, log: Log) -> None:
    """Run a program that must succeed: ``argv``, ``input``, ``timeout`` in seconds, ``log``."""
    if args.get("log"):
        log(args["log"])
    result = run(args["argv"], args.get("input", ""), args.get("timeout", 60.0))
    if not result.ok:
        command_line = shlex.join(args["argv"])
        raise AgentError(f"{command_line} exited with {result.status}", result.output)
