"""Kernel parameters of a hardened machine, and the values that they had before."""

from __future__ import annotations

import contextlib
import glob
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from provision.engine.agent.atomic import write_atomically
from provision.engine.agent.files import Journal
from provision.engine.agent.process import Log
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, action, collector

RECORD = "/var/lib/foobar-lab/sysctls-before.json"
"""The values before hardening, by name; removed when they are restored."""


@dataclass(frozen=True)
class SysctlFacts:
    """Values by name such as ``net.ipv4.conf.all.rp_filter``; those that exist and are writable."""

    values: Mapping[str, str]


def sysctl_probe(patterns: Iterable[str]) -> Probe[SysctlFacts]:
    """Kernel parameters; ``*`` in a pattern stands for every interface."""
    return Probe("sysctls", "sysctls", {"patterns": list(patterns)}, SysctlFacts)


@collector("sysctls")
def collect_sysctls(args: Args) -> SysctlFacts:
    """See `sysctl_probe`."""
    return SysctlFacts(read_sysctls(args["patterns"]))


def read_sysctls(patterns: Iterable[str]) -> dict[str, str]:
    """The values of the parameters that match; read-only ones belong to the machine's host."""
    values = {}
    for pattern in patterns:
        for path in glob.glob(f"/proc/sys/{pattern.replace('.', '/')}"):
            if not os.access(path, os.W_OK):
                continue
            with contextlib.suppress(OSError), open(path) as file:
                values[path.removeprefix("/proc/sys/").replace("/", ".")] = file.read().strip()
    return values


@action("sysctls")
def set_sysctls(args: Args, journal: Journal, log: Log) -> None:
    """Set parameters: ``values`` by pattern; the values before the first time are recorded."""
    before = read_sysctls(args["values"])
    if not os.path.exists(RECORD):
        write_atomically(RECORD, json.dumps(before).encode(), 0o600)
    for pattern, value in args["values"].items():
        _write(dict.fromkeys(read_sysctls([pattern]), value))


@action("restore-sysctls")
def restore_sysctls(args: Args, journal: Journal, log: Log) -> None:
    """Restore the recorded values, and forget them."""
    with contextlib.suppress(FileNotFoundError, ValueError), open(RECORD) as file:
        _write(json.load(file))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(RECORD)


def _write(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        # An interface may have gone meanwhile.
        with (
            contextlib.suppress(FileNotFoundError),
            open(f"/proc/sys/{name.replace('.', '/')}", "w") as file,
        ):
            file.write(value)
