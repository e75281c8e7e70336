"""Installing from a bundle: what is unpacked where, refusals, repeated calls."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from provision.core.lab import ROOT
from provision.operations.bundle import create as creation
from provision.operations.bundle import project
from provision.setup.bundle import archive, install, manifest, start
from provision.setup.bundle.archive import BundleError
from provision.setup.bundle.install import Computer
from provision.setup.system import System
from tests.unit.bundle.samples import KEY, PUBLIC, SAMPLE, needs_git

LOCK = b"a==1 --hash=sha256:aa\n"
FINGERPRINT = manifest.fingerprint(PUBLIC.hex())

FILES = {
    "wheels/a-1-py3-none-any.whl": b"wheel",
    "wheels/pip-23.0-py3-none-any.whl": b"pip",
    "hosts/trixie/amd64/InRelease": b"signed",
    "hosts/trixie/amd64/key.asc": b"-----BEGIN-----\n\nAA\n-----END-----\n",
    "hosts/trixie/amd64/a_1_amd64.deb": b"deb of trixie",
    "hosts/trixie/arm64/a_1_arm64.deb": b"deb of arm64",
    "hosts/bookworm/amd64/a_1_amd64.deb": b"deb of bookworm",
    "sets/amd64/layers-1.json": b"[]",
    "sets/arm64/layers-1.json": b"[1]",
    "pool/debian/pool/a/a_1%253a1.deb": b"deb of machines",
    "images/amd64.tar.zst": b"images",
    "images/arm64.tar.zst": b"other images",
    "boxes/amd64/libvirt/debian.box": b"box",
    "boxes/arm64/libvirt/debian.box": b"other box",
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout on Debian 13, with a package pool of its own."""
    monkeypatch.setenv("LAB_POOL", str(tmp_path / "pool"))
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(install, "this_computer", lambda: Computer("amd64", "trixie"))
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / install.LOCK).write_bytes(LOCK)
    return checkout


def made(
    path: Path,
    files: dict[str, bytes],
    *,
    lock: bytes = LOCK,
    date: str = SAMPLE.date,
    commit: str = SAMPLE.commit,
) -> Path:
    """A bundle with these files."""
    entries = {n: (len(d), hashlib.sha256(d).hexdigest()) for n, d in files.items()}
    locks = {install.LOCK: hashlib.sha256(lock).hexdigest()}
    data = replace(SAMPLE, entries=entries, locks=locks, date=date, commit=commit).encoded()
    out = io.BytesIO()
    head = {manifest.MANIFEST: data, manifest.SIGNATURE: KEY.sign(data).hex().encode()}
    list(archive.write(out, [*head.items(), *files.items()]))
    path.write_bytes(out.getvalue())
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_a_computer_gets(tmp_path: Path, root: Path) -> None:
    install.install(made(tmp_path / "b", FILES), root)
    unpacked = tree(root / install.FOLDER)
    assert unpacked["wheels/a-1-py3-none-any.whl"] == b"wheel"
    assert unpacked["host/a_1_amd64.deb"] == b"deb of trixie"
    assert unpacked["images.tar.zst"] == b"images"
    assert unpacked["boxes/libvirt/debian.box"] == b"box"
    assert list(install.boxes(root)) == [
        ("libvirt", root / install.FOLDER / "boxes/libvirt/debian.box")
    ]
    assert tree(tmp_path / "pool") == {
        ".sets/layers-1.json": b"[]",
        "debian/pool/a/a_1%253a1.deb": b"deb of machines",
    }
    options = install.apt_options(root)
    assert any(option.startswith("Dir::Etc::SourceList=") for option in options)
    assert "Signed-By:\n -----BEGIN-----\n .\n AA\n" in unpacked["host.sources"].decode()
    assert install.pip_options(root)[:2] == ("--no-index", "--find-links")
    wheel = install.pip_wheel(root)
    assert wheel is not None
    assert wheel.name == "pip-23.0-py3-none-any.whl"
    assert install.image_command(root)[-1] == str(tmp_path / "cache")
    install.images_unpacked(root)
    assert install.image_command(root) == []
    assert install.record(root)["key"] == FINGERPRINT
    assert install.record(root)["boxes"] == ["libvirt"]  # the Vagrantfile reads this


@pytest.mark.parametrize(
    ("computer", "host", "images"),
    [
        (Computer("amd64", "bookworm"), b"deb of bookworm", b"images"),
        (Computer("arm64", "trixie"), b"deb of arm64", b"other images"),
        (Computer("amd64", ""), None, b"images"),
        (Computer("riscv64", "trixie"), None, None),
    ],
)
def test_other_computers(computer: Computer, host: bytes | None, images: bytes | None) -> None:
    items = {name: archive.Item(name, 1, 0, "", 0) for name in FILES}
    placed = install.targets(items, Path("/checkout"), computer)
    debs = [FILES[name] for name, path in placed.items() if path.parent.name == "host"]
    assert [data for data in debs if data.startswith(b"deb")] == ([host] if host else [])
    found = [FILES[name] for name, path in placed.items() if path.name == "images.tar.zst"]
    assert found == ([images] if images and sys.platform == "linux" else [])
    assert "wheels/a-1-py3-none-any.whl" in placed


def test_without_a_bundle(root: Path) -> None:
    assert install.record(root) == {}
    assert install.apt_options(root) == ()
    assert install.pip_options(root) == ()
    assert install.pip_wheel(root) is None
    assert install.image_command(root) == []
    assert list(install.boxes(root)) == []


def test_a_newer_lock_file_is_not_installed_from_an_old_bundle(tmp_path: Path, root: Path) -> None:
    install.install(made(tmp_path / "b", FILES), root)
    (root / install.LOCK).write_bytes(b"a==2\n")
    assert install.pip_options(root) == ()
    assert install.pip_wheel(root) is None
    with pytest.raises(BundleError, match="another version of the project"):
        install.install(tmp_path / "b", root)


def test_a_repeated_call_continues(tmp_path: Path, root: Path) -> None:
    file = made(tmp_path / "b", FILES)
    install.install(file, root)
    before = tree(tmp_path)
    install.install(file, root)
    assert tree(tmp_path) == before
    # Interrupted: the record was not written, and a file is half.
    (root / install.RECORD).unlink()
    (tmp_path / "pool" / "debian/pool/a/a_1%253a1.deb").write_bytes(b"half")
    assert install.pip_options(root) == ()
    install.install(file, root)
    assert tree(tmp_path) == before


def test_another_bundle_replaces_the_first(tmp_path: Path, root: Path) -> None:
    install.install(made(tmp_path / "b", FILES), root)
    other = {**FILES, "wheels/b-2-py3-none-any.whl": b"newer"}
    del other["wheels/a-1-py3-none-any.whl"]
    install.install(made(tmp_path / "c", other, date="2027-01-01T00:00:00+00:00"), root)
    names = {path.name for path in (root / install.FOLDER / "wheels").iterdir()}
    assert names == {"b-2-py3-none-any.whl", "pip-23.0-py3-none-any.whl"}
    assert install.record(root)["date"] == "2027-01-01T00:00:00+00:00"


@pytest.mark.parametrize("what", ["truncated", "altered", "foreign", "lock", "space"])
def test_a_refused_bundle_changes_nothing(
    tmp_path: Path, root: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = made(tmp_path / "b", FILES, lock=b"other" if what == "lock" else LOCK)
    key = "0000-1111" if what == "foreign" else FINGERPRINT
    data = bytearray(file.read_bytes())
    if what == "altered":
        data[data.index(b"other images")] ^= 1
    file.write_bytes(data[: len(data) // 2] if what == "truncated" else data)
    if what == "space":
        full = type("Usage", (), {"free": 10})
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: full)
    before = tree(tmp_path)
    with pytest.raises(BundleError) as error:
        install.install(file, root, key)
    assert tree(tmp_path) == before
    entries = {"altered": "images/arm64.tar.zst", "foreign": "manifest.sig", "lock": install.LOCK}
    assert error.value.entry == entries.get(what, error.value.entry)


def test_a_checkout_keeps_the_key_of_its_first_bundle(tmp_path: Path, root: Path) -> None:
    install.install(made(tmp_path / "b", FILES), root)
    record = (root / install.RECORD).read_text()
    (root / install.RECORD).write_text(record.replace(FINGERPRINT, "0000-1111"))
    with pytest.raises(BundleError, match="0000-1111"):
        install.install(tmp_path / "b", root)


@pytest.mark.parametrize(
    ("detected", "expected"),
    [
        (System(), Computer("amd64", "trixie")),
        (System(arch="arm64", codename="bookworm"), Computer("arm64", "bookworm")),
        (System(family="ubuntu", codename="noble"), Computer("amd64", "")),
        (System("macOS", "arm64", ""), Computer("arm64", "")),
        (System("Windows", "x86_64", ""), Computer("amd64", "")),
    ],
)
def test_this_computer(detected: System, expected: Computer) -> None:
    computer = install.this_computer(detected)
    assert computer.architecture == expected.architecture
    if detected.family in ("debian", "ubuntu"):
        assert computer.release == expected.release


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root and tar")
def test_images_are_unpacked_as_they_were(tmp_path: Path, root: Path) -> None:
    """Owners, modes, extended attributes, links and whiteouts; an existing image stays."""
    from provision.operations.bundle import machines

    source = tmp_path / "source"
    for layer in ("images/aa", "layers/bb", "layers/cc"):
        (source / layer / "root" / "usr").mkdir(parents=True)
        same = source / layer / "root" / "usr" / "same"
        same.write_bytes(b"x" * 5000)
        os.utime(same, (1_700_000_000, 1_700_000_000))
    base = source / "images/aa/root"
    (base / "usr/program").write_text("setuid")
    os.chown(base / "usr/program", 1000, 1001)
    (base / "usr/program").chmod(0o4750)
    (base / "usr/link").symlink_to("program")
    (base / "usr/hard").hardlink_to(base / "usr/program")
    os.mknod(source / "layers/bb/root/usr/gone", 0o20000, 0)
    os.setxattr(source / "layers/bb/root/usr", "trusted.overlay.opaque", b"y")
    (base / "usr/name with\nnewline").write_text("")
    (base / "usr").chmod(0o2711)
    os.utime(base / "usr", (1_600_000_000, 1_600_000_000))
    folders = [source / name for name in ("images/aa", "layers/bb", "layers/cc")]
    for name in ("first", "second"):
        machines.pack(tmp_path / name, source, folders)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()

    file = made(tmp_path / "b", {"images/amd64.tar.zst": (tmp_path / "first").read_bytes()})
    install.install(file, root)
    cache = tmp_path / "cache"
    (cache / "layers/cc/root").mkdir(parents=True)  # was there before
    subprocess.run(install.image_command(root), check=True)
    copy = cache / "images/aa/root/usr"
    status = (copy / "program").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (1000, 1001, 0o4750)
    assert (copy / "hard").stat().st_ino == status.st_ino
    assert (copy / "link").readlink() == Path("program")
    assert (copy.stat().st_mode & 0o7777, copy.stat().st_mtime) == (0o2711, 1_600_000_000)
    assert (copy / "name with\nnewline").exists()
    whiteout = (cache / "layers/bb/root/usr/gone").lstat()
    assert (whiteout.st_mode & 0o170000, whiteout.st_rdev) == (0o20000, 0)
    assert os.getxattr(cache / "layers/bb/root/usr", "trusted.overlay.opaque") == b"y"
    assert not list((cache / "layers/cc/root").iterdir())
    assert not list(cache.glob(".new*"))
    assert (cache / "images/aa/bundled").exists()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the project, as bundle.create writes it, without packages."""
    folder = tmp_path_factory.mktemp("program")
    commit, _ = project.commit()
    packed, history = folder / "project.tar.gz", folder / "project.bundle"
    project.write_archive(packed, "HEAD", learners=False)
    project.write_history(history, commit)
    files = {name: data for name, data in creation.programs() if isinstance(data, bytes)}
    files |= {path.name: path.read_bytes() for path in (packed, history)}
    return made(folder / "lab.bundle", files, commit=commit)


@needs_git
def test_python_runs_a_bundle(tmp_path: Path, program: Path) -> None:
    folder = tmp_path / "a lab"
    argv = [sys.executable, "-I", "-S", str(program), str(folder), "--unpack", "--key", FINGERPRINT]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (folder / "tasks.py").read_bytes() == (ROOT / "tasks.py").read_bytes()
    assert (folder / "scripts" / "up").stat().st_mode & 0o100
    git = ["git", "-C", str(folder), "status", "--porcelain"]
    shown = subprocess.run(git, capture_output=True, text=True, check=True)
    assert [row for row in shown.stdout.splitlines() if not row.startswith("??")] == []
    assert not (folder / ".lab").exists() or not list((folder / ".lab").glob("project*"))
    # Again: what is there stays. With another key, or another folder's files: refused.
    (folder / "tasks.py").write_text("own")
    assert subprocess.run(argv, capture_output=True, check=False).returncode == 0
    assert (folder / "tasks.py").read_text() == "own"
    foreign = [*argv[:-1], "0000-1111"]
    result = subprocess.run(foreign, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "manifest.sig" in result.stderr
    assert "Traceback" not in result.stderr
    other = [*argv[:4], str(program.parent), *argv[5:]]
    result = subprocess.run(other, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "is not empty" in result.stderr


@needs_git
def test_a_damaged_program_unpacks_nothing(tmp_path: Path, program: Path) -> None:
    file = tmp_path / "lab.bundle"
    data = bytearray(program.read_bytes())
    data[data.index(b"project.bundle", len(data) // 2) - 50] ^= 1
    file.write_bytes(data)
    before = tree(tmp_path)
    with pytest.raises(BundleError):
        start.unpack(file, tmp_path / "lab", "")
    assert tree(tmp_path) == before
