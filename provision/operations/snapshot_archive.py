"""The controller's part of a snapshot: the lab's own files, its topology, and the manifest.

``.lab/<lab>/snapshots/<name>/`` is complete when it exists: ``manifest.json``, ``topology/`` with
the topology file, and ``lab/`` with everything in the lab's directory that describes it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path

from provision import topology as topologies
from provision.core import interrupted_restore
from provision.core import state as states
from provision.core.atomic import write_atomically
from provision.core.errors import LabError
from provision.core.files import cannot_write
from provision.core.lab import Lab, rebase
from provision.core.locks import HOLDER_FILE
from provision.core.state import State
from provision.core.stored_machine import StoredMachine
from provision.engine.agent.codec import decode, encode

FOLDER = "snapshots"
MANIFEST = "manifest.json"
VERSION = 1
RESTORED_TOPOLOGY = "topologies"
"""In the lab's directory: a topology file that the checkout no longer has as it was."""

KEPT = (FOLDER, "backups", "drills", "errant", "vagrant", "vagrant.log", "lock", HOLDER_FILE)
"""What a snapshot does not hold and a restore does not change: data of its own, logs, locks."""


@dataclass(frozen=True)
class SnapshotManifest:
    """What a snapshot consists of.

    Args:
        date: in UTC, ISO 8601.
        topology: as recorded in the lab's state.
        files: SHA-256 by path, of all files of the controller's part.
        size: bytes on this host's disk, machines included.
    """

    version: int
    name: str
    date: str
    note: str
    topology: str
    provider: str
    network: str
    machines: Mapping[str, StoredMachine]
    files: Mapping[str, str]
    size: int


def folder(directory: Path, name: str) -> Path:
    """The folder of a snapshot of the lab in a directory."""
    return directory / FOLDER / name


def capture(lab: Lab, name: str) -> Path:
    """Copy the lab's files and topology to a new folder, which `commit` names.

    Raises:
        LabError: when they cannot be copied; nothing is left behind.
    """
    new = folder(lab.directory, f".new.{name}")
    discard(lab.directory, name)
    try:
        new.mkdir(mode=0o700, parents=True)
        shutil.copytree(lab.directory, new / "lab", symlinks=True, ignore=_ignored(lab.directory))
        (new / "topology").mkdir()
        shutil.copy2(lab.topology.path, new / "topology" / lab.topology.path.name)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(new, ignore_errors=True)
        raise _not_copied(new, error) from None
    return new


def commit(directory: Path, manifest: SnapshotManifest) -> None:
    """Make the captured files a snapshot.

    Raises:
        LabError: when the manifest cannot be written.
    """
    new = folder(directory, f".new.{manifest.name}")
    write_atomically(new / MANIFEST, json.dumps(encode(manifest), indent=2) + "\n")
    try:
        new.rename(folder(directory, manifest.name))
    except OSError as error:
        raise cannot_write(new, error) from None


def discard(directory: Path, name: str) -> None:
    """Remove what `capture` has copied."""
    shutil.rmtree(folder(directory, f".new.{name}"), ignore_errors=True)


def delete(directory: Path, name: str) -> None:
    """Remove the controller's part of a snapshot: its manifest first."""
    (folder(directory, name) / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder(directory, name), ignore_errors=True)


def names(directory: Path) -> list[str]:
    """The names of all snapshots, damaged ones included, sorted."""
    paths = (directory / FOLDER).glob("[!.]*")
    return sorted(path.name for path in paths if path.is_dir())


def load(directory: Path, name: str) -> SnapshotManifest:
    """The manifest of a snapshot.

    Raises:
        LabError: when it is missing or damaged.
    """
    path = folder(directory, name) / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, dict) and data.get("version") != VERSION:
            raise damaged(name, f"its format is version {data.get('version')}, not {VERSION}")
        return decode(SnapshotManifest, data)
    except FileNotFoundError:
        raise damaged(name, f"{path} is missing") from None
    except (OSError, ValueError) as error:  # includes ProtocolError
        raise damaged(name, f"{path}: {error}") from None


def verify(directory: Path, manifest: SnapshotManifest) -> None:
    """Compare all files of the controller's part with the manifest.

    Raises:
        LabError: naming the first file that is missing, changed or additional.
    """
    present = checksums(folder(directory, manifest.name))
    for file in sorted(present.keys() | manifest.files.keys()):
        if present.get(file) != manifest.files.get(file):
            state = "missing" if file not in present else "changed"
            raise damaged(manifest.name, f"its file {file} is {state}")


def checksums(root: Path) -> dict[str, str]:
    """SHA-256 by relative path of all files in a folder except the manifest."""
    paths = (path for path in root.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
    }


def stored_lab(directory: Path, manifest: SnapshotManifest, root: Path) -> tuple[Lab, State]:
    """The lab as it was, with the topology of the snapshot.

    Raises:
        LabError: when state or topology cannot be read.
    """
    own = folder(directory, manifest.name)
    state = states.load(own / "lab")
    files = list((own / "topology").glob("*"))
    if state is None or len(files) != 1:
        raise damaged(manifest.name, "it has no recorded state or no topology")
    topology = topologies.load(files[0])
    return Lab(directory.name, root, rebase(topology, IPv4Network(manifest.network))), state


def put_back(directory: Path, manifest: SnapshotManifest, root: Path) -> str:
    """Replace the lab's files by those of the snapshot; may be repeated after an interruption.

    Returns:
        The path of a restored topology file, when the checkout's file has changed since; the
        checkout's own file stays as it is.

    Raises:
        LabError: when a file cannot be written.
    """
    source = folder(directory, manifest.name) / "lab"
    try:
        for path in directory.glob(".restor*.*"):
            _remove(path)
        entries = sorted(path.name for path in source.iterdir())
        for entry in entries:
            _replace(source / entry, directory / entry)
        for path in list(directory.iterdir()):
            if path.name not in entries and not _is_kept(path.name):
                _remove(path)
        return _topology_put_back(directory, manifest, root)
    except (OSError, shutil.Error) as error:
        raise _not_copied(directory, error) from None


def damaged(name: str, why: str) -> LabError:
    """The error for a snapshot that cannot be used."""
    return LabError(
        f"snapshot {name} is incomplete or damaged: {why}; nothing was changed",
        "invoke lab.snapshots",
    )


def _topology_put_back(directory: Path, manifest: SnapshotManifest, root: Path) -> str:
    stored = next((folder(directory, manifest.name) / "topology").iterdir())
    try:
        if topologies.load(topologies.find(manifest.topology, root)) == topologies.load(stored):
            return ""
    except LabError:
        pass  # the file is gone or invalid
    state = states.load(directory)
    assert state is not None
    target = directory / RESTORED_TOPOLOGY / stored.name
    write_atomically(target, stored.read_bytes(), 0o644)
    topology, goal, working = (
        str(target) if name == manifest.topology else name
        for name in (state.topology, state.target, state.working)
    )
    states.save(directory, replace(state, topology=topology, target=goal, working=working))
    return str(target)


def _replace(source: Path, target: Path) -> None:
    new, old = (target.with_name(f".{kind}.{target.name}") for kind in ("restored", "restoring"))
    if source.is_dir():
        shutil.copytree(source, new, symlinks=True)
    else:
        shutil.copy2(source, new, follow_symlinks=False)
    if target.is_dir() and not target.is_symlink():
        target.replace(old)
    new.replace(target)
    if old.exists():
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _is_kept(name: str) -> bool:
    return name in KEPT or name == interrupted_restore.FILE or name.startswith(".")


def _ignored(top: Path) -> Callable[[str, list[str]], set[str]]:
    def ignored(path: str, names: list[str]) -> set[str]:
        if Path(path) == top:
            return {name for name in names if _is_kept(name)}
        return {name for name in names if name == ".lock"}

    return ignored


def _not_copied(path: Path, error: OSError | shutil.Error) -> LabError:
    if isinstance(error, shutil.Error):  # one tuple per file: source, target, reason
        return LabError(f"files of the lab cannot be copied to {path}: {error.args[0][0][2]}")
    return cannot_write(path, error)
