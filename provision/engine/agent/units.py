"""On the machine: one unit, as one transaction.

Change, validate, activate, probe, stamp. When a step fails, the files that were there before are
put back, and the service is activated again only if the new files had been activated. All of it is
one request, so a controller that dies meanwhile leaves either the old or the new state.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from typing import Any

from provision.engine.agent.core import ACTIONS, Failed, Say, run
from provision.engine.agent.files import Journal, stamp
from provision.engine.agent.http import wait_for
from provision.engine.agent.services import activate

LOCK = "/run/foobar-lab/unit.lock"
"""Held while a unit is applied: a controller that was killed leaves an agent that ends its unit."""

PATIENCE = 900.0
"""Seconds for what an earlier run began: a large package, a clone."""


@contextlib.contextmanager
def alone(say: Say, patience: float = PATIENCE) -> Iterator[None]:
    """Wait until no other agent applies a unit on this machine.

    Raises:
        Failed: when one still does after ``patience`` seconds.
    """
    os.makedirs(os.path.dirname(LOCK), exist_ok=True)
    with open(LOCK, "w") as file:
        deadline = time.monotonic() + patience
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    what = f"an earlier run still changes this machine after {patience:.0f} s"
                    raise Failed(what) from None
            if not told:
                say("waiting for what an earlier run began")
                told = True
            time.sleep(0.1)
        yield


def apply(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """Apply a unit, once no other run does.

    Args:
        args: see `transaction`.
        say: reports progress.
    """
    with alone(say):
        return transaction(args, say)


def transaction(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """Apply a unit.

    Args:
        args: ``actions`` (what to do), ``validate`` (argv or None), ``service`` and ``activate``
            (``reload``, ``restart``, ``try-restart`` or empty), ``due`` (whether it is owed),
            ``wait`` (what must answer afterwards, or None), ``stamp`` (unit and fingerprint, or
            None).
        say: reports progress.

    Returns:
        ``{"ok": True, "activated": …}``, or ``{"ok": False}`` with ``step``, ``error``,
        ``output`` and ``restored``, the paths that were put back.
    """
    journal = Journal()
    step, activated = "change", ""
    service, how = args.get("service", ""), args.get("activate", "")
    running = bool(service) and _active(service)
    try:
        for action in args["actions"]:
            ACTIONS[action["do"]](action, journal, say)
        if args.get("validate"):
            step = "validate"
            _validate(args["validate"])
        if service:
            # With try-restart, what does not run is left to start with the new files later.
            word = how if _active(service) else "" if how == "try-restart" else "start"
            if word and (args["due"] or word == "start"):
                step, activated = "activate", word
                activate(service, word, say)
        if args.get("wait"):
            step = "probe"
            # Only a process that was told to load something must show that it did.
            expected = {k: v for k, v in args["wait"].items() if activated or k != "says"}
            wait_for(expected, say)
        if args.get("stamp"):
            stamp(args["stamp"]["unit"], args["stamp"]["fingerprint"])
    except Exception as caught:
        # A full disk or a directory where a file belongs is no reason to leave half a unit.
        error = caught if isinstance(caught, Failed) else Failed(_words(caught))
        restored, problem = _put_back(journal)
        after = problem
        if activated and restored and running:
            after = _activate_again(service, how, say)
        elif activated and not running:
            run(["systemctl", "stop", service], timeout=60)
            after = f"{service} is stopped, as it was before"
        return {
            "ok": False,
            "step": step,
            "error": str(error),
            "output": error.output,
            "restored": restored,
            "after": after,
        }
    return {"ok": True, "activated": activated}


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"


def _put_back(journal: Journal) -> tuple[list[str], str]:
    """Restore the files; says which, and what went wrong with that."""
    try:
        return journal.put_back(), ""
    except OSError as error:
        return [], f"the old files could not be put back: {_words(error)}"


def _active(service: str) -> bool:
    return run(["systemctl", "is-active", service]).out.strip() in ("active", "reloading")


def _validate(argv: list[str]) -> None:
    done = run(argv, timeout=60)
    if done.status != 0:
        raise Failed(f"{' '.join(argv)} refuses the new configuration", done.out + done.err)


def _activate_again(service: str, how: str, say: Say) -> str:
    """Let the service load the files that were put back; says how that went."""
    try:
        activate(service, how or "restart", say)
    except Failed as error:
        return f"the old configuration does not load either: {error}"
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if _active(service):
            return "the old configuration is loaded again"
        time.sleep(0.1)
    return f"{service} is not active with the old configuration"
