"""What is recorded about a lab, beside its secrets: who is primary now, what is drained, who works.

The file is ``.lab/<lab>/state.json``. It is never reset silently: a wrong primary costs data.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import filelock

from provision.core import platform as controller
from provision.core.errors import LabError

VERSION = 1
"""Grows when the meaning of the file changes."""

ADMIN = ("ready", "drain", "maint")
"""What an operator can say of a server: HAProxy's words (its management guide, "set server")."""

FILE = "state.json"


@dataclass(frozen=True)
class State:
    """The record of a lab that has been brought up.

    Args:
        version: of the file's form.
        topology: a name in ``configs/topologies``, or the absolute path of a file.
        provider: ``lxc``, ``vagrant`` or ``ssh``.
        network: where the lab was placed, such as ``192.168.56.0/24``.
        primary: the machine whose database takes writes.
        epoch: how many primaries there have been; a machine of an older epoch must not be believed.
        mode: chosen at run time (``active-passive``); empty: as the topology says.
        algorithm: likewise.
        weights: by server, 0 to 256, of those that were changed.
        admin: by server, one of `ADMIN`, of those that were changed.
        release: the version of the app that is deployed; empty: the one of the checkout.
        autopromote: whether a replica is promoted without a human.
    """

    version: int = VERSION
    topology: str = "distributed"
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


def load(directory: Path) -> State | None:
    """The record of the lab in that directory; None when it was never brought up.

    Raises:
        LabError: when the file cannot be read, is damaged, or is from a newer version.
    """
    path = directory / FILE
    try:
        text = path.read_bytes().decode("utf-8")
        data = json.loads(text)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise _damaged(directory, f"it is not JSON ({error})") from None
    return understand(data, directory)


def understand(data: object, directory: Path) -> State:
    """What was read from the file, as a State.

    Args:
        data: from the JSON parser.
        directory: the lab's, for messages.

    Raises:
        LabError: when it is not exactly a State of this version.
    """
    if not isinstance(data, dict):
        raise _damaged(directory, "it is not a JSON object")
    version = data.get("version")
    if isinstance(version, int) and version > VERSION:
        raise LabError(
            f"{directory / FILE} is of version {version}; this checkout knows version {VERSION}",
            "use the newer checkout that wrote it (git pull)",
        )
    known = [f.name for f in fields(State)]
    problems = [f"{key} is missing" for key in known if key not in data]
    problems += [f"nothing is known of a key {key!r}" for key in data if key not in known]
    problems += [
        f"{key} is {json.dumps(data[key])}, {_MUST[key][1]}"
        for key in known
        if key in data and not _MUST[key][0](data[key])
    ]
    if problems:
        raise _damaged(directory, "; ".join(problems))
    return State(**data)


def save(directory: Path, state: State) -> None:
    """Write the record: a reader sees the old one or the new one, also after a power cut.

    Raises:
        LabError: when it cannot be written; the old record stays.
    """
    understand(asdict(state), directory)  # what could not be read back is not written
    write(directory / FILE, json.dumps(asdict(state), indent=2) + "\n")


def change(directory: Path, **changes: Any) -> State:
    """Read the record, change fields of it, write it; safe against another process doing the same.

    Args:
        directory: the lab's.
        changes: fields of `State` and their new values.

    Returns:
        The record as it is now.

    Raises:
        LabError: when there is no record, or as `load` and `save`.
    """
    unknown = sorted(set(changes) - {f.name for f in fields(State)})
    if unknown:
        raise TypeError(f"State has no field {', '.join(unknown)}")
    with guard(directory / ".state.lock"):
        state = load(directory)
        if state is None:
            raise LabError(f"there is no lab {directory.name} here", up(directory))
        state = replace(state, **changes)
        save(directory, state)
    return state


def forget(directory: Path) -> None:
    """Remove the record, when the lab's machines are gone."""
    with guard(directory / ".state.lock"):
        (directory / FILE).unlink(missing_ok=True)


# --- one command at a time -----------------------------------------------------------------------

_HOLDER = "lock.holder"
_held: dict[Path, tuple[filelock.BaseFileLock, int]] = {}
_held_guard = threading.Lock()


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Keep every other command off the lab while the body runs.

    It is the kernel's lock (flock), so it ends with the process however that ends. Within one
    process it can be taken again: a drill promotes, and both want it.

    Raises:
        LabError: at once, when another process holds it; the message names its pid and command.
    """
    path = (directory / "lock").absolute()
    with _held_guard:
        held, taken = _held[path] if path in _held else (_acquire(path), 0)
        _held[path] = (held, taken + 1)
    try:
        yield
    finally:
        with _held_guard:
            held, taken = _held.pop(path)
            if taken > 1:
                _held[path] = (held, taken - 1)
            else:
                with contextlib.suppress(OSError):
                    path.with_name(_HOLDER).unlink(missing_ok=True)
                held.release()


def _acquire(path: Path) -> filelock.BaseFileLock:
    """Take the lock, or say who has it.

    Who holds it is written after it was taken, and a killed holder leaves its note behind; so a
    note counts only while the process that it names lives, and is waited for up to half a second.
    """
    held = _file_lock(path)
    deadline = time.monotonic() + 0.5
    while True:
        try:
            held.acquire(blocking=False)
        except filelock.Timeout:
            holder = _holder(path.with_name(_HOLDER))
            if holder or time.monotonic() > deadline:
                raise _busy(path.parent, holder) from None
            time.sleep(0.02)
        except OSError as error:
            raise unreadable(path, error) from None
        else:
            break
    try:
        note = {"pid": os.getpid(), "born": _born(os.getpid()), "command": _command()}
        write(path.with_name(_HOLDER), json.dumps(note))
    except BaseException:
        held.release()
        raise
    return held


def _file_lock(path: Path, timeout: float = -1) -> filelock.BaseFileLock:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unreadable(path.parent, error) from None
    return filelock.FileLock(
        path, timeout=timeout, mode=0o600, thread_local=False, fallback_to_soft=False
    )


@contextlib.contextmanager
def guard(path: Path, seconds: float = 10.0) -> Iterator[None]:
    """A lock for the moment between reading a file and writing it, waited for.

    Args:
        path: the lock's own file.
        seconds: how long another holder is waited for.

    Raises:
        LabError: when it was not free in time.
    """
    held = _file_lock(path, seconds)
    try:
        held.acquire()
    except filelock.Timeout:
        raise LabError(
            f"{path} was held by another process for {seconds:.0f} s", controller.who_has(path)
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        yield
    finally:
        held.release()


def _holder(path: Path) -> tuple[int, str] | None:
    """The pid and command in a note, when that very process is alive."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        pid, born, command = int(note["pid"]), str(note["born"]), str(note["command"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (pid, command) if controller.alive(pid) and _born(pid) == born else None


def _born(pid: int) -> str:
    """When a process started, in ticks since boot (proc(5), stat field 22); empty without /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _command() -> str:
    return shlex.join([Path(sys.argv[0]).name or "python", *sys.argv[1:]])


def _busy(directory: Path, holder: tuple[int, str] | None) -> LabError:
    if holder is None:
        return LabError(
            f"lab {directory.name} is in use by another command",
            f"wait for it, or {controller.who_has(directory / 'lock')}",
        )
    pid, command = holder
    return LabError(
        f"lab {directory.name} is in use by another command: {command} (pid {pid})",
        f"wait for it to end, or end it: {controller.end(pid)}",
    )


# --- files ---------------------------------------------------------------------------------------


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Put a file in place as a whole: written beside, flushed to the disk, renamed.

    Args:
        path: where; its folder is made when it is missing.
        text: all of it.
        mode: its permissions, which it has before the first byte is in it.

    Raises:
        LabError: when it cannot be written; what was there stays.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp opens with O_EXCL and 0600: nobody else has it open, nobody else can read it.
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(number, "w", encoding="utf-8", newline="") as file:
            if mode != 0o600:
                temporary.chmod(mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        controller.put(temporary, path)
        temporary = None
    except OSError as error:
        raise LabError(
            f"{path} cannot be written: {error.strerror or error}", _mend(path, error)
        ) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def unreadable(path: Path, error: OSError) -> LabError:
    """The error for a file of the lab that is there and cannot be read."""
    return LabError(f"{path} cannot be read: {error.strerror or error}", _mend(path, error))


def _mend(path: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        folder = next((p for p in (path, *path.parents) if p.name == ".lab"), path.parent)
        return controller.make_mine(folder)
    return controller.look_at(path.parent)


def up(directory: Path, task: str = "lab.up") -> str:
    """The command that runs a task on the lab in that directory."""
    return f"invoke {task}" + ("" if directory.name == "default" else f" --lab {directory.name}")


def _damaged(directory: Path, why: str) -> LabError:
    path = shlex.quote(str(directory / FILE))
    config = shlex.quote(str(directory / "ssh_config"))
    ask = f"ssh -F {config} MACHINE sudo mysql -Ne \"'SELECT @@super_read_only'\""
    return LabError(
        f"{directory / FILE} is damaged: {why}",
        f"mend it with an editor (the primary is the machine that answers 0 to: {ask}); "
        f"or, if nothing in this lab matters: rm {path} && {up(directory, 'lab.destroy')}",
    )


def _text(value: object) -> bool:
    return isinstance(value, str)


def _network(value: object) -> bool:
    try:
        return isinstance(value, str) and (value == "" or bool(IPv4Network(value)))
    except ValueError:
        return False


def _whole(low: int, high: int) -> Callable[[object], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high


def _map_of(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda v: (
        isinstance(v, Mapping) and all(isinstance(k, str) for k in v) and all(map(fits, v.values()))
    )


_MUST: dict[str, tuple[Callable[[object], bool], str]] = {
    "version": (_whole(VERSION, VERSION), f"not {VERSION}"),
    "topology": (lambda v: isinstance(v, str) and v != "", "not the name of a topology"),
    "provider": (_text, "not the name of a provider"),
    "network": (_network, "not a network such as 192.168.56.0/24"),
    "primary": (_text, "not the name of a machine"),
    "epoch": (_whole(1, 2**53), "not a number from 1"),
    "mode": (lambda v: v in ("", "active-active", "active-passive"), "not a mode"),
    "algorithm": (_text, "not an algorithm"),
    "weights": (_map_of(_whole(0, 256)), "not weights from 0 to 256 by server"),
    "admin": (_map_of(lambda v: v in ADMIN), f"not one of {', '.join(ADMIN)} by server"),
    "release": (_text, "not a version"),
    "autopromote": (lambda v: isinstance(v, bool), "not true or false"),
}
"""What each field must be, and how to say that it is not."""
