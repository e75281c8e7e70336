"""The recorded state of a lab: its primary, its drained servers, its release.

The file is ``.lab/<lab>/state.json``. It is never reset automatically: a wrong primary costs data.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from provision.core.atomic import write_atomically
from provision.core.errors import LabError
from provision.core.files import cannot_read
from provision.core.lab import LAB_NAME, ROOT
from provision.core.locks import file_lock

VERSION = 1
"""Increases when the meaning of the file changes."""

ADMIN_STATES = ("ready", "drain", "maint")
"""Administrative states of a server in HAProxy (Management Guide, "set server ... state")."""

FILE = "state.json"
LOCK = ".state.lock"


@dataclass(frozen=True)
class State:
    """The state of a lab that has been brought up at least once.

    Args:
        topology: the last one that `lab.up` has reached, with all checks passed: a name in
            ``configs/topologies``, or the absolute path of a file.
        target: the one that `lab.up` works towards, until it is reached; then empty. It is
            ``topology`` itself while a new lab, or one on its way back, has reached none.
        working: the one that the machines were last prepared for, if not ``topology``.
        provider: ``lxc``, ``vagrant``, ``ssh`` or ``incus``.
        network: of the lab, such as ``192.168.56.0/24``.
        primary: the machine whose database is writable.
        epoch: increases with every new primary; a machine with an older epoch is outdated.
        mode: set at run time (``active-passive``); empty: the topology's.
        algorithm: set at run time; empty: the topology's.
        weights: by server, 0 to 256; only those that were changed.
        admin: by server, one of `ADMIN_STATES`; only those that were changed.
        release: the deployed version of the app; empty: the checkout's.
        autopromote: whether automatic failover is on.
    """

    version: int = VERSION
    topology: str = "distributed"
    target: str = ""
    working: str = ""
    provider: str = ""
    network: str = ""
    primary: str = ""
    epoch: int = 1
    mode: str = ""
    algorithm: str = ""
    weights: Mapping[str, int] = field(default_factory=dict)
    admin: Mapping[str, str] = field(default_factory=dict)
    release: str = ""
    autopromote: bool = False

    @property
    def current_topology(self) -> str:
        """The topology that describes the machines now."""
        return self.working or self.topology

    @property
    def in_containers(self) -> bool:
        """Whether the machines are system containers that the lab itself creates."""
        return self.provider in ("lxc", "incus")


ADDED = ("target", "working")
"""Keys that files of earlier checkouts lack; their defaults hold."""


def lab_names(root: Path = ROOT) -> tuple[str, ...]:
    """The labs of a checkout that were brought up, sorted."""
    names = (path.parent.name for path in (root / ".lab").glob(f"*/{FILE}"))
    return tuple(sorted(name for name in names if LAB_NAME.fullmatch(name)))


def load(directory: Path) -> State | None:
    """The state of the lab in a directory; None if the lab was never brought up.

    Raises:
        LabError: when the file cannot be read, is damaged, or has a newer version.
    """
    path = directory / FILE
    try:
        data = json.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise cannot_read(path, error) from None
    except (ValueError, RecursionError) as error:
        raise _damaged(directory, f"invalid JSON ({error})") from None
    return parse(data, directory)


def parse(data: object, directory: Path) -> State:
    """Validate decoded JSON.

    Args:
        directory: the lab's, for messages.

    Raises:
        LabError: when the data is not exactly a `State` of this version.
    """
    if not isinstance(data, dict):
        raise _damaged(directory, "it is not a JSON object")
    version = data.get("version")
    if isinstance(version, int) and version > VERSION:
        raise LabError(
            f"{directory / FILE} has version {version}; this checkout supports version {VERSION}",
            "use the newer checkout that wrote it (git pull)",
        )
    names = [f.name for f in fields(State)]
    problems = [f"missing key {n!r}" for n in names if n not in data and n not in ADDED]
    problems += [f"unknown key {key!r}" for key in data if key not in names]
    for name, value in data.items():
        is_valid, expected = _RULES.get(name, (lambda _: True, ""))
        if not is_valid(value):
            problems.append(f"invalid value {json.dumps(value)} for {name}; expected {expected}")
    if problems:
        raise _damaged(directory, "; ".join(problems))
    return State(**data)


def save(directory: Path, state: State) -> None:
    """Write the state atomically.

    Raises:
        LabError: when the state is invalid or cannot be written; the old file stays.
    """
    parse(asdict(state), directory)  # never write what `load` would refuse
    write_atomically(directory / FILE, json.dumps(asdict(state), indent=2) + "\n")


def change(directory: Path, **changes: Any) -> State:
    """Change fields of the recorded state, safely against other processes; return the new state.

    Raises:
        LabError: when nothing is recorded, and as `load` and `save`.
    """
    unknown = sorted(set(changes) - {f.name for f in fields(State)})
    if unknown:
        raise TypeError(f"State has no field {', '.join(unknown)}")
    with file_lock(directory / LOCK):
        state = load(directory)
        if state is None:
            raise LabError(f"lab {directory.name} does not exist", "invoke lab.up")
        state = replace(state, **changes)
        save(directory, state)
    return state


def delete(directory: Path) -> None:
    """Remove the recorded state, after the lab's machines have been removed."""
    with file_lock(directory / LOCK):
        (directory / FILE).unlink(missing_ok=True)


def _damaged(directory: Path, why: str) -> LabError:
    path = shlex.quote(str(directory / FILE))
    config = shlex.quote(str(directory / "ssh_config"))
    query = f"ssh -F {config} MACHINE sudo mysql -Ne \"'SELECT @@super_read_only'\""
    return LabError(
        f"{directory / FILE} is damaged: {why}",
        f"fix it with an editor (the primary is the machine that prints 0 for: {query}); "
        f"or, if this lab's data does not matter: rm {path} && invoke lab.destroy",
    )


Rule = tuple[Callable[[object], bool], str]
"""Whether a value is valid, and what is expected."""


def _is_network(value: object) -> bool:
    try:
        return isinstance(value, str) and (value == "" or bool(IPv4Network(value)))
    except ValueError:
        return False


def _integer(low: int, high: int, expected: str) -> Rule:
    return (
        lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high,
        expected,
    )


def _choice(choices: tuple[str, ...], expected: str) -> Rule:
    return lambda v: isinstance(v, str) and v in choices, expected


def _by_server(rule: Rule) -> Rule:
    is_valid, expected = rule
    return (
        lambda v: (
            isinstance(v, Mapping)
            and all(isinstance(k, str) for k in v)
            and all(map(is_valid, v.values()))
        ),
        f"{expected} by server",
    )


_RULES: dict[str, Rule] = {
    "version": _integer(VERSION, VERSION, f"{VERSION}"),
    "topology": (lambda v: isinstance(v, str) and v != "", "the name of a topology"),
    "target": (lambda v: isinstance(v, str), "the name of a topology, or empty"),
    "working": (lambda v: isinstance(v, str), "the name of a topology, or empty"),
    "provider": (lambda v: isinstance(v, str), "the name of a provider"),
    "network": (_is_network, "a network such as 192.168.56.0/24"),
    "primary": (lambda v: isinstance(v, str), "the name of a machine"),
    "epoch": _integer(1, 2**53, "a positive integer"),
    "mode": _choice(("", "active-active", "active-passive"), "active-active or active-passive"),
    "algorithm": (lambda v: isinstance(v, str), "a balancing algorithm"),
    "weights": _by_server(_integer(0, 256, "weights from 0 to 256")),
    "admin": _by_server(_choice(ADMIN_STATES, f"one of {', '.join(ADMIN_STATES)}")),
    "release": (lambda v: isinstance(v, str), "a version"),
    "autopromote": (lambda v: isinstance(v, bool), "true or false"),
}
