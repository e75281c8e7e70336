"""The project in a bundle: the committed files, for learners without solutions, and the history."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

from provision.core.errors import LabError
from provision.core.lab import ROOT
from provision.operations.bundle.programs import run
from provision.providers.files import add_file

LEFT_OUT = ("solution", "wrong_fix")
"""Keys of a drill that learners do not get."""


def _git(*arguments: str) -> bytes:
    hint = "create the bundle in a Git checkout of the project, with git installed"
    return run("reading the project", ["git", "-C", str(ROOT), *arguments], hint=hint)


def commit() -> tuple[str, int]:
    """The commit of the checkout, and its time in seconds since the epoch.

    Raises:
        LabError: when this is no Git checkout.
    """
    name, _, seconds = _git("log", "-1", "--format=%H %ct").decode().strip().partition(" ")
    return name, int(seconds)


def uncommitted() -> list[str]:
    """Files whose changes are not in the bundle, since they are not committed."""
    lines = _git("status", "--porcelain", "--untracked-files=normal").decode().splitlines()
    return [line[3:] for line in lines]


def files(name: str) -> Mapping[str, tuple[bytes, int]]:
    """Content and mode of each file of a commit, by path.

    Raises:
        LabError: for anything but files, which not every system could unpack.
    """
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", name))) as tar:
        found = {}
        for info in tar:
            if info.isdir():
                continue
            content = tar.extractfile(info) if info.isreg() else None
            if content is None:
                raise LabError(f"{info.name} is not a file, and a bundle holds files only")
            found[info.name] = (content.read(), 0o755 if info.mode & 0o100 else 0o644)
    return dict(sorted(found.items()))


def write_archive(target: Path, name: str, *, learners: bool) -> None:
    """Write the files of a commit as a compressed tar archive.

    Args:
        learners: leave the drills' solutions out.
    """
    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path, (content, mode) in files(name).items():
            change = change_for_learners(path) if learners else None
            add_file(tar, path, change(content.decode()) if change else content, mode)


def change_for_learners(name: str) -> Callable[[str], str] | None:
    """How a file differs for learners; None for most."""
    if name == "schemas/drill.schema.json":
        return without_required_solutions
    return without_solutions if re.fullmatch(r"configs/drills/.+\.md", name) else None


def without_required_solutions(text: str) -> str:
    """The JSON Schema of drills, which then need no solution."""
    schema = json.loads(text)
    schema["required"] = [key for key in schema["required"] if key not in LEFT_OUT]
    return json.dumps(schema, indent=2) + "\n"


def without_solutions(text: str) -> str:
    """A drill without the keys `LEFT_OUT` of its front matter."""
    _, front, story = text.split("---\n", 2)
    kept, skipping = [], False
    for line in front.splitlines(keepends=True):
        key = re.match(r"(\w+):", line)
        if key:
            skipping = key[1] in LEFT_OUT
        if not skipping:
            kept.append(line)
    return f"---\n{''.join(kept)}---\n{story}"


def write_history(target: Path, name: str) -> None:
    """Write a commit and its history as a Git bundle (gitformat-bundle(5)).

    One thread, and no deltas of the repository: the same history gives the same bytes.
    """
    options = [
        "--revs",
        "--stdout",
        "--quiet",
        "--threads=1",
        "--no-reuse-delta",
        "--delta-base-offset",
    ]
    argv = ["git", "-C", str(ROOT), "pack-objects", *options]
    pack = run("packing the project's history", argv, input=f"{name}\n".encode())
    target.write_bytes(f"# v2 git bundle\n{name} HEAD\n\n".encode() + pack)


def shallow() -> bool:
    """Whether the checkout has a part of the history only, which cannot be bundled."""
    return _git("rev-parse", "--is-shallow-repository").decode().strip() == "true"
