"""Creating a bundle: interruptions, equal bytes, and what each part contains."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision.core.errors import LabError, UsageError
from provision.core.lab import ROOT
from provision.operations.bundle import create as creation
from provision.operations.bundle import options
from provision.operations.bundle.work import Work
from provision.setup.bundle import manifest
from tests.unit.bundle.samples import SAMPLE

TOPOLOGIES = ("simple", "distributed")

CREATE = """
import sys
from dataclasses import replace
from pathlib import Path
from provision.operations.bundle import create as creation
from provision.operations.bundle.options import Options
from tests.unit.bundle.samples import SAMPLE
folder = Path(sys.argv[1])
creation.KEY, creation.WORK = folder / "key", folder / "parts"

def contents(work, options, architecture, key, refresh):
    sources = [("__main__.py", b"")]
    for number in range(20):
        def make(target):
            target.mkdir()
            (target / "a").write_bytes((folder / "large").read_bytes())
            with (folder / "made").open("a") as log:
                log.write(f"{number}\\\\n")
        part = work.part(f"part{number}", number, f"part {number}", make)
        sources.append((f"pool/{number:02}", part / "a"))
    public = key.public_key().public_bytes_raw().hex()
    return replace(SAMPLE, key=public), sources

creation._contents = contents
print("started", flush=True)
creation.create(folder / "lab.bundle", Options(("simple",)), "amd64", lambda m, t: None)
"""


def _start(folder: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", CREATE, str(folder)]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def test_a_create_that_is_killed_leaves_no_file_and_continues(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(2_000_000))
    target = tmp_path / "lab.bundle"
    moments = random.Random(7)
    for _ in range(10):
        process = _start(tmp_path)
        time.sleep(moments.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if target.exists():  # it was complete already
            manifest.verify(target)
            target.unlink()
        complete = {path.name for path in (tmp_path / "parts").glob("part*")}
        made = (tmp_path / "made").read_text().split() if (tmp_path / "made").exists() else []
        assert len(complete) >= len(set(made)) - 1
    process = _start(tmp_path)
    process.communicate()
    assert process.returncode == 0
    made_manifest, items = manifest.verify(target)
    assert len(items) == 2 + 21
    key = Ed25519PrivateKey.from_private_bytes((tmp_path / "key").read_bytes())
    assert made_manifest.key == key.public_key().public_bytes_raw().hex()
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.glob("*lab.bundle*")) == ["lab.bundle"]
    assert not list((tmp_path / "parts").glob(".new.*"))
    # What was complete was not made again: each kill costs one part at most.
    assert len((tmp_path / "made").read_text().split()) <= 20 + 10
    first = target.read_bytes()
    process = _start(tmp_path)
    process.communicate()
    assert target.read_bytes() == first, "the same inputs give the same file"


def test_a_part_is_made_once_and_removed_when_unused(tmp_path: Path) -> None:
    made: list[str] = []

    def work() -> Work:
        return Work(tmp_path, lambda _machine, _message: None)

    def make(text: str) -> object:
        def write(target: Path) -> None:
            made.append(text)
            target.write_text(text)

        return write

    first = work()
    a = first.part("a.txt", 1, "a", make("a"))  # type: ignore[arg-type]
    first.part("b", 1, "b", make("b"))  # type: ignore[arg-type]
    assert a.suffix == ".txt"
    second = work()
    assert second.part("a.txt", 1, "a", make("again")) == a  # type: ignore[arg-type]
    other = second.part("a.txt", 2, "a", make("other"))  # type: ignore[arg-type]
    assert made == ["a", "b", "other"]
    second.remove_unused()
    assert sorted(tmp_path.iterdir()) == sorted([a, other])


def test_a_failed_part_is_not_there(tmp_path: Path) -> None:
    def fail(target: Path) -> None:
        target.write_text("half")
        raise LabError("the network failed")

    work = Work(tmp_path, lambda _machine, _message: None)
    with pytest.raises(LabError, match="network"):
        work.part("a", 1, "a", fail)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    target = tmp_path / "lab.bundle"
    target.write_text("the former one")
    parts: list[creation.Source] = [("pool/a", tmp_path / "missing")]
    with pytest.raises(LabError, match="cannot be written"):
        creation.write(target, replace(SAMPLE), key, parts, lambda _machine, _message: None)
    assert target.read_text() == "the former one"
    assert [path.name for path in tmp_path.iterdir()] == ["lab.bundle"]


def test_options() -> None:
    chosen = options.parse(TOPOLOGIES, "amd64")
    assert chosen == options.Options(TOPOLOGIES)
    chosen = options.parse(TOPOLOGIES, "amd64", arch="arm64,amd64", topologies="simple")
    assert chosen.architectures == ("amd64", "arm64")
    assert chosen.platforms == ("linux-amd64", "linux-arm64")
    assert chosen.topologies == ("simple",)
    chosen = options.parse(TOPOLOGIES, "amd64", providers="all", platforms="all", pythons="3.12")
    assert chosen.providers == ("lxc", "libvirt", "virtualbox")
    assert "windows-amd64" in chosen.platforms
    assert "macos-arm64" in chosen.platforms


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"topologies": "simpel"}, "did you mean"),
        ({"providers": "docker"}, "unknown provider 'docker'"),
        ({"arch": "riscv64"}, "unknown architecture"),
        ({"hosts": "buster"}, "unknown Debian release"),
        ({"platforms": "linux"}, "unknown platform"),
        ({"pythons": "3.9"}, "unknown Python"),
        ({"pythons": ","}, "unknown Python ','"),
    ],
)
def test_bad_options(given: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        options.parse(TOPOLOGIES, "amd64", **given)  # type: ignore[arg-type]


def test_sizes_add_up() -> None:
    entries = {"__main__.py": (1, ""), "project.tar.gz": (2, ""), "pool/debian/a": (4, "")}
    entries |= {"provision/core/a.py": (8, ""), "project.bundle": (16, ""), "wheels/a": (32, "")}
    sizes = creation.sizes(replace(SAMPLE, entries=entries))
    assert sizes == {"project": 27, "pool": 4, "wheels": 32}


def test_the_program_of_a_bundle_refuses_an_old_python() -> None:
    code = "import sys; sys.version_info = (3, 9)\n" + creation.START.decode()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert "Python 3.11" in result.stderr
