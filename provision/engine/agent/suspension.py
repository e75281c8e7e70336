"""Processes of services that a signal or systemd's freezer has suspended.

systemd reports such a service as active: it has processes, and none has exited.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from provision.engine.agent.process import must, run

PROPERTY = "FreezerState"
"""Of ``systemctl show``; absent where systemd does not support the freezer."""


def parse_unit(text: str) -> str:
    """The system service in /proc/PID/cgroup (cgroups(7)), such as ``nginx.service``."""
    match = re.search(r"/system\.slice/(?:[^/\n]+\.slice/)*([^/\n]+\.service)", text)
    return match[1] if match else ""


def suspended_processes() -> dict[str, str]:
    """The processes of services that a signal has stopped, such as SIGSTOP, by service."""
    listed: dict[str, list[str]] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            name, state = parse_stat(_read(f"/proc/{pid}/stat"))
            unit = parse_unit(_read(f"/proc/{pid}/cgroup")) if state == "T" else ""
        except OSError:
            continue  # the process has ended
        if unit:
            listed.setdefault(unit, []).append(f"{pid} ({name})")
    return {unit: _clause(sorted(processes)) for unit, processes in listed.items()}


def _clause(processes: list[str]) -> str:
    if len(processes) == 1:
        return f"process {processes[0]} was stopped by a signal"
    return f"processes {', '.join(processes)} were stopped by a signal"


def parse_stat(text: str) -> tuple[str, str]:
    """Name and state of a process in /proc/PID/stat (proc_pid_stat(5)).

    The state of one that a signal has stopped is ``T``; of one that a debugger has stopped, ``t``.
    """
    head, _, rest = text.rpartition(")")
    return head.partition("(")[2], rest.split()[0]


def suspension(name: str, properties: Mapping[str, str], processes: Mapping[str, str]) -> str:
    """What suspends a unit, as a clause; empty for nothing.

    Args:
        properties: of ``systemctl show``, among them `PROPERTY`.
        processes: of `suspended_processes`.
    """
    if properties.get(PROPERTY) == "frozen":
        return "systemd's freezer holds it"
    return processes.get(name, "")


def resume(name: str) -> None:
    """Let a suspended service continue.

    Raises:
        AgentError: with systemctl's error.
    """
    state = run(["systemctl", "show", f"--property={PROPERTY}", "--value", "--", name])
    if state.stdout.strip() == "frozen":
        must(["systemctl", "thaw", name])
    must(["systemctl", "kill", "--signal=SIGCONT", name])


def _read(path: str) -> str:
    with open(path, "rb") as file:
        return file.read().decode(errors="replace")
