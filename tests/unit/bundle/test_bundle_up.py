"""scripts/up --bundle in a copy of the checkout, with emulated package managers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from provision.core.lab import ROOT
from provision.setup import system
from provision.setup.bundle import install
from provision.setup.console import SetupError
from provision.setup.options import parse_up
from tests.unit.bundle.test_bundle_install import made, tree
from tests.unit.setup.test_set_up import Checkout, wheel

PIP = sorted(Path("/usr/share/python-wheels").glob("pip-*.whl"))
"""The wheel of pip that Debian's package python3-venv needs."""


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout in which scripts/up has never run; its lock file names a wheel of the bundle."""
    made_checkout = Checkout(tmp_path)
    made_checkout.environ["LAB_POOL"] = str(tmp_path / "pool")
    made_checkout.environ["LAB_CACHE"] = str(tmp_path / "cache")
    return made_checkout


def bundle(checkout: Checkout, *, with_pip: bool = True) -> Path:
    """A bundle with the wheel of the checkout's lock file and a repository for this host."""
    line = wheel(checkout.root, "2.0")
    path = checkout.root / line.split()[0]
    lock = f"invoke==2.0 {line.split()[1]}\n"
    (checkout.root / install.LOCK).write_text(lock)
    own = install.this_computer()
    place = f"hosts/{own.release}/{own.architecture}"
    files = {
        f"wheels/{path.name}": path.read_bytes(),
        f"{place}/InRelease": b"signed",
        f"{place}/key.asc": b"-----BEGIN-----\n\nAA\n-----END-----\n",
    }
    if with_pip:
        files[f"wheels/{PIP[-1].name}"] = PIP[-1].read_bytes()
    path.unlink()
    return made(checkout.root.parent / "lab.bundle", files, lock=lock.encode())


@pytest.mark.skipif(not PIP or system.detect().family != "debian", reason="needs python3-venv")
def test_everything_comes_from_the_bundle(checkout: Checkout) -> None:
    file = bundle(checkout)
    lines, _ = checkout.up("--bundle", str(file), "--provider", "lxc", APT_INSTALLS="1")
    assert "== installing lxc uidmap" in lines
    assert lines[-1] == "started: invoke lab.up --provider lxc"
    calls = checkout.calls.read_text().splitlines()
    sources = checkout.root / install.FOLDER / "host.sources"
    assert calls
    assert all(f"-o Dir::Etc::SourceList={sources}" in call for call in calls)
    assert all("-o Dir::Etc::SourceParts=- " in call for call in calls)
    assert not any("python3-venv" in call for call in calls)
    # Without the option, the checkout is as it was set up; scripts/up finds nothing to do.
    lines, _ = checkout.up("--provider", "lxc")
    assert lines == ["== invoke lab.up --provider lxc", "started: invoke lab.up --provider lxc"]
    # And again with it, from another directory.
    lines, _ = checkout.up(f"--bundle={file.name}", "--provider", "lxc", LAB_FROM=str(file.parent))
    assert "== this bundle has been unpacked before" in lines


@pytest.mark.skipif(not PIP or system.detect().family != "debian", reason="needs python3-venv")
def test_virtual_machines_need_no_packages_of_the_host(checkout: Checkout) -> None:
    lines, _ = checkout.up("--bundle", "../lab.bundle", "--provider", "vagrant", status=1)
    file = bundle(checkout, with_pip=False)
    lines, _ = checkout.up("--bundle", f"../{file.name}", "--provider", "vagrant")
    assert lines[-1] == "started: invoke lab.up --provider vagrant"
    assert checkout.calls.read_text() == ""


def test_a_refused_bundle_installs_nothing(checkout: Checkout) -> None:
    file = bundle(checkout, with_pip=False)
    data = bytearray(file.read_bytes())
    data[data.rindex(b"signed")] ^= 1
    file.write_bytes(data)
    before = tree(checkout.root)
    lines, errors = checkout.up("--bundle", str(file), "--provider", "lxc", status=1)
    assert "was refused: hosts/" in errors
    assert "next: copy the bundle again" in errors
    assert checkout.calls.read_text() == ""
    after = tree(checkout.root)
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert {name for name in changed if "__pycache__" not in name} == {
        ".lab/setup.lock",
        ".lab/setup.log",
    }
    _, errors = checkout.up("--bundle", "/nowhere", "--provider", "lxc", status=1)
    assert "/nowhere: No such file or directory" in errors
    _, errors = checkout.up(
        "--bundle", str(file), "--provider", "lxc", status=1, LAB_BUNDLE_KEY="0000-1111"
    )
    assert "not with 0000-1111" in errors
    assert lines[-1].startswith("== verifying")


def test_the_option() -> None:
    assert parse_up(["--bundle", "f", "--topology", "simple"]).bundle == "f"
    assert parse_up(["--topology", "simple", "--bundle=f"]).arguments == ("--topology", "simple")
    assert parse_up(["--topology", "simple"]).bundle == ""
    for words in (["--bundle"], ["--bundle="]):
        with pytest.raises(SetupError, match="needs a file"):
            parse_up(words)


def test_the_lock_files_of_the_checkout_are_known() -> None:
    from provision.operations.bundle.create import LOCKS
    from provision.setup import tests, up

    assert up.LOCKS == (install.LOCK,) == LOCKS[:1]
    assert set(tests.LOCKS) == set(LOCKS)
    for name in LOCKS:
        assert hashlib.sha256((ROOT / name).read_bytes()).hexdigest()
