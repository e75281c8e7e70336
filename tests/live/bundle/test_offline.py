"""A bundle on hosts that have never seen a network: set-up, topologies, operations, tests.

LAB_TEST_BUNDLE names a bundle of this commit's project; without it, the tests create one.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.core.lab import ROOT
from provision.providers.image_recipe import load_recipe
from provision.providers.lxc import images
from provision.setup.bundle import manifest
from tests.live.bundle.hosts import OfflineHost, build_root, offline_host, run_in_root
from tests.live.conftest import INVOKE, PREFIX, assert_no_traceback, pool

pytestmark = [pytest.mark.live, pytest.mark.offline]

LAB = f"{PREFIX}offline"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of everything that LXC needs."""
    if os.environ.get("LAB_TEST_BUNDLE"):
        return Path(os.environ["LAB_TEST_BUNDLE"])
    file = tmp_path_factory.mktemp("bundle") / "lab.bundle"
    result = subprocess.run(
        [INVOKE, "bundle.create", str(file)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert_no_traceback(result.stdout + result.stderr)
    assert result.returncode == 0, result.stdout + result.stderr
    return file


def network() -> list[str]:
    """The option of lab.up that selects a network of the test pool; nothing else uses this one."""
    networks = pool()
    return ["--network", str(list(networks.subnets(new_prefix=24))[-1])] if networks else []


@pytest.fixture(scope="module")
def host(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfflineHost]:
    """A host without a network; its lab is removed at the end."""
    folder = tmp_path_factory.mktemp("offline")
    with offline_host(folder) as running:
        yield running
        project = folder / "project"
        if (project / ".lab" / LAB).exists():
            invoke(running, "lab.destroy", "--yes")


def invoke(host: OfflineHost, *words: str) -> str:
    """Run a task of the project that was unpacked from the bundle."""
    project = host.folder / "project"
    argv = [str(project / ".venv" / "bin" / "invoke"), *words, "--lab", LAB]
    result = host.run(*argv, cwd=project)
    return result.stdout + result.stderr


def test_set_up_from_nothing(host: OfflineHost, bundle: Path) -> None:
    """The bundle's own program: project, wheels, images, pool, and a running lab."""
    up = host.run(
        "/usr/bin/python3", str(bundle), str(host.folder / "project"), "--lab", LAB, *network()
    )
    assert "building" not in up.stdout + up.stderr
    assert set(host.attempts().values()) == {0}, host.attempts()
    invoke(host, "lab.check")
    record = json.loads((host.folder / "project/.lab/bundle/installed.json").read_text())
    assert record["key"] == manifest.fingerprint(manifest.verify(bundle)[0].key)


def test_every_topology_change_without_a_route(host: OfflineHost) -> None:
    for topology in ("secured", "scaled", "simple", "distributed"):
        invoke(host, "lab.up", "--topology", topology, "--yes")
        invoke(host, "lab.check")
        assert set(host.attempts().values()) == {0}, host.attempts()


def test_operations_without_a_route(host: OfflineHost) -> None:
    for words in (
        ["app.deploy", "--version", "offline-1"],
        ["db.promote", "web-02"],
        ["db.backup"],
        ["lab.rebuild", "web-01", "--yes"],
        ["lab.check"],
    ):
        invoke(host, *words)
    assert set(host.attempts().values()) == {0}, host.attempts()
    doctor = host.run(
        str(host.folder / "project/.venv/bin/invoke"),
        "lab.doctor",
        "--json",
        "--lab",
        LAB,
        cwd=host.folder / "project",
        check=False,
    )
    rows = json.loads(doctor.stdout)["data"]["offline"]
    assert rows
    assert all(row["missing"] == [] for row in rows), rows


def test_the_smoke_tests_without_a_route(host: OfflineHost) -> None:
    """scripts/test: the packages for development come from the bundle, too."""
    invoke(host, "lab.destroy", "--yes")
    project = host.folder / "project"
    result = host.run(
        "env",
        f"LAB_TEST_PREFIX={PREFIX}smoke-",
        f"LAB_TEST_POOL={pool() or ''}",
        str(project / "scripts" / "test"),
        "tests/live/test_smoke.py",
        cwd=project,
    )
    assert " passed" in result.stdout
    assert set(host.attempts().values()) == {0}, host.attempts()


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_a_minimal_host(bundle: Path, tmp_path: Path, release: str) -> None:
    """The host's part of the set-up in a Debian that has nothing but Python."""
    recipe = load_recipe()
    root = tmp_path / "root"
    build_root(root, release, recipe.mirror, images.build_settings(recipe))
    key = manifest.fingerprint(manifest.verify(bundle)[0].key)
    # `invoke lab.up --help` is the end of it: a chroot cannot boot machines.
    argv = ["python3", f"/media/{bundle.name}", "/lab", "--key", key, "--provider", "lxc", "--help"]
    result = run_in_root(root, bundle.parent, *argv[:2], "--unpack", *argv[2:5])
    assert result.returncode == 0, result.stdout + result.stderr
    up = ["env", f"LAB_BUNDLE_KEY={key}", "/lab/scripts/up", "--bundle", argv[1], *argv[5:]]
    result = run_in_root(root, bundle.parent, *up)
    assert_no_traceback(result.stdout + result.stderr)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "lab.up" in result.stdout
    assert list((root / "var/cache/foobar-lab/layers").glob("*/root"))
    for program in ("lxc-start", "dnsmasq", "nft"):
        assert run_in_root(root, bundle.parent, "sh", "-c", f"command -v {program}").returncode == 0
    # Again: nothing is left to do. Another key: refused.
    assert "installing" not in run_in_root(root, bundle.parent, *up).stdout
    foreign = [up[0], "LAB_BUNDLE_KEY=0000-1111", *up[2:]]
    result = run_in_root(root, bundle.parent, *foreign)
    assert result.returncode == 1
    assert "manifest.sig" in result.stderr
