"""Applying one unit as a transaction: change, validate, activate, probe, stamp.

When a step fails, the files are rolled back, and the service is activated again only if the new
files had been activated. All of it is one request, so a controller that dies meanwhile leaves
either the old or the new state.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace

from provision.engine.agent.codec import decode
from provision.engine.agent.crashes import cause, crash_watch, own_lines
from provision.engine.agent.files import Journal, RollbackError, record_loaded
from provision.engine.agent.http import wait_until_ready
from provision.engine.agent.process import AgentError, Log, run
from provision.engine.agent.protocol import UnitRequest, UnitResponse
from provision.engine.agent.registry import Args, find, operation
from provision.engine.agent.services import activate, is_active
from provision.engine.agent.waiting import AgentTimeoutError, wait_until

LOCK = "/run/foobar-lab/unit.lock"
"""Held while a unit is applied: the agent of a controller that was killed completes its unit."""

LOCK_TIMEOUT = 900.0
"""Seconds for a unit of an earlier run: a large package, a clone."""


@contextlib.contextmanager
def exclusive(log: Log, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Wait until no other agent applies a unit on this machine.

    Raises:
        AgentError: when one still does after ``timeout`` seconds.
    """
    import fcntl

    os.makedirs(os.path.dirname(LOCK), exist_ok=True)
    with open(LOCK, "w") as file:

        def locked() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        if not locked():
            log("waiting for a unit of an earlier run")
            try:
                wait_until(locked, timeout, "the lock")
            except AgentTimeoutError:
                what = f"an earlier run still changes this machine after {timeout:.0f} s"
                raise AgentError(what) from None
        yield


@operation("unit")
def apply(args: Args, log: Log) -> UnitResponse:
    """Apply a unit, while no other run does."""
    request = decode(UnitRequest, args)
    with exclusive(log):
        return Transaction(request, log).apply()


class Transaction:
    """One unit: its progress, and what a rollback has to restore."""

    def __init__(self, request: UnitRequest, log: Log) -> None:
        self._request = request
        self._log = log
        self._journal = Journal()
        self._was_active = bool(request.service) and is_active(request.service)
        self._activated = ""
        self._activated_at = 0.0

    def apply(self) -> UnitResponse:
        """Run all steps; roll back when one fails."""
        steps = {
            "change": self._change,
            "validate": self._validate,
            "activate": self._activate,
            "probe": self._probe,
            "stamp": self._stamp,
        }
        step = ""
        try:
            for step, perform in steps.items():  # noqa: B007 - the handler reads it
                perform()
        except Exception as error:
            # A full disk, or a directory where a file belongs, must not leave half a unit.
            return self._roll_back(step, error)
        return UnitResponse(True, self._activated, kept=tuple(self._journal.copies.paths))

    def _change(self) -> None:
        for action in self._request.actions:
            find(f"action {action.do}")(action.args, self._journal, self._log)

    def _validate(self) -> None:
        argv = self._request.validate
        if argv and not (result := run(argv)).ok:
            raise AgentError(f"{' '.join(argv)} rejects the new configuration", result.output)

    def _activate(self) -> None:
        service, verb = self._request.service, self._request.activate
        if service and not is_active(service):
            # A service that try-restart does not start loads the new files at its next start.
            verb = "" if verb == "try-restart" else "start"
        if service and (verb == "start" or (verb and self._request.needs_reload)):
            self._activated = verb
            self._activated_at = time.time()
            activate(service, verb, self._log)
        elif self._journal.unit_files:
            run(["systemctl", "daemon-reload"])

    def _probe(self) -> None:
        readiness, service = self._request.readiness, self._request.service
        if readiness is None:
            return
        if not self._activated:
            # Only a process that was activated can show that it loaded the new configuration.
            wait_until_ready(replace(readiness, contains=""), self._log)
            return
        try:
            wait_until_ready(readiness, self._log, crash_watch(service, self._activated_at))
        except AgentTimeoutError as error:
            _, lines = cause(own_lines(service, self._activated_at))
            raise AgentTimeoutError(str(error), "\n".join([*lines, error.output])) from None

    def _stamp(self) -> None:
        self._journal.commit()
        stamp = self._request.stamp
        if stamp is not None:
            record_loaded(stamp.unit, stamp.fingerprint)

    def _roll_back(self, step: str, error: Exception) -> UnitResponse:
        restored: tuple[str, ...] = ()
        after = ""
        try:
            restored = self._journal.roll_back()
        except RollbackError as problem:
            restored, after = problem.restored, f"not restored: {problem}"
        if self._activated and restored and self._was_active:
            after = self._activate_again()
        elif self._activated and not self._was_active:
            run(["systemctl", "stop", self._request.service])
            after = f"{self._request.service} is stopped, as it was before"
        output = error.output if isinstance(error, AgentError) else ""
        return UnitResponse(False, "", step, _describe(error), output, restored, after)

    def _activate_again(self) -> str:
        """Make the service load the restored files; returns the outcome."""
        service = self._request.service
        try:
            activate(service, self._request.activate or "restart", self._log)
            wait_until(lambda: is_active(service), 5, f"{service} to be active")
        except AgentTimeoutError:
            return f"{service} is not active with the old configuration"
        except AgentError as error:
            return f"the old configuration does not load either: {error}"
        return "the old configuration is loaded again"


def _describe(error: Exception) -> str:
    if isinstance(error, AgentError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"
