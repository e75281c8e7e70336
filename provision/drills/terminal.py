"""Type lines into shells: on machines over a terminal through SSH; `invoke` on the controller."""

from __future__ import annotations

import re
import secrets
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

from provision.core import child_commands, clock
from provision.core.errors import HostError, LabError
from provision.core.lab import ROOT, Lab
from provision.core.waiting import timeout_factor
from provision.drills.drill import CONTROLLER, TypedLines
from provision.engine.fleet import Fleet
from provision.engine.host import Host

LINE_SECONDS = 90.0
"""For one line to finish."""

CONTROLLER_SECONDS = 300.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\r")

Show = Callable[[str, str], None]
"""Receives a machine and what its terminal shows."""


def type_lines(fleet: Fleet, lab: Lab, steps: Sequence[TypedLines], show: Show) -> None:
    """Type all lines, one after the other.

    Raises:
        LabError: when a line does not finish in time. The exit status of a line is ignored:
            what counts is the state afterwards.
    """
    for step in steps:
        if step.machine == CONTROLLER:
            for line in filter(None, step.lines):
                _invoke(lab, line, show)
        else:
            with Terminal(fleet.host(step.machine), show) as terminal:
                for line in step.lines:
                    terminal.type(line)


class Terminal:
    """A login shell on a pseudo-terminal, as a learner has it over SSH."""

    def __init__(self, host: Host, show: Show) -> None:
        self._host, self._show = host, show
        self._prompt = f"<{secrets.token_hex(6)}"
        self._channel: Any = None

    def __enter__(self) -> Terminal:
        channel = self._host.connection.transport.open_session(timeout=10 * timeout_factor())
        channel.get_pty(term="xterm", width=200, height=50)
        channel.invoke_shell()
        self._channel = channel
        # Two halves, so that the echo of this line is not taken for the prompt.
        first, second = self._prompt[:4], self._prompt[4:]
        setup = f"PS1='{first}''{second}:$?> '; PS2='{first}''{second}:+> '; unset HISTFILE"
        self._send(setup, shown=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def type(self, line: str) -> None:
        """Type one line, and wait for the next prompt.

        Raises:
            HostError: when the shell does not prompt again in time.
        """
        self._send(line, shown=True)

    def _send(self, line: str, *, shown: bool) -> None:
        self._channel.sendall(line.encode() + b"\n")
        text = self._read()
        if shown:
            echo, _, output = text.partition("\n")
            self._show(self._host.name, f"$ {line}")
            del echo
            for row in output.rstrip("\n").split("\n"):
                if row:
                    self._show(self._host.name, row)

    def _read(self) -> str:
        """What the terminal shows up to the next prompt."""
        deadline = clock.now() + LINE_SECONDS * timeout_factor()
        text = ""
        pattern = re.compile(re.escape(self._prompt) + r":(\d+|\+)> $")
        while True:
            self._channel.settimeout(max(0.1, deadline - clock.now()))
            try:
                data = self._channel.recv(65536)
            except TimeoutError:
                data = b""
            if not data:
                raise HostError(
                    f"{self._host.name}: no prompt after a typed line; the terminal shows: "
                    f"{text[-200:]!r}"
                )
            text = _ESCAPES.sub("", text + data.decode(errors="replace"))
            if match := pattern.search(text):
                return text[: match.start()]


def _invoke(lab: Lab, line: str, show: Show) -> None:
    words = shlex.split(line)
    if words[:1] != ["invoke"]:
        raise LabError(f"on the controller, only invoke commands are typed, not {line!r}")
    rest = words[words.index("--") :] if "--" in words else []
    words = words[: len(words) - len(rest)]
    show(CONTROLLER, f"$ {line}")
    argv = [sys.executable, "-m", "invoke", *words[1:], "--lab", lab.name, *rest]
    printed = child_commands.output(argv, CONTROLLER_SECONDS * timeout_factor(), cwd=ROOT)
    for row in printed.splitlines():
        show(CONTROLLER, row)
