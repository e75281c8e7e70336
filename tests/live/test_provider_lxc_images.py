"""The lxc provider on this host: images and layers, and labs that were interrupted or forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from provision.core.errors import ProviderError
from provision.core.lab import ROOT, Lab
from provision.core.package_set import PackageSet
from provision.core.stored_machine import StoredMachine
from provision.providers.image_recipe import load_recipe
from provision.providers.lxc import images, orphaned_labs, paths, snapshot
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.privileged import run
from tests.live.containers import (
    NAMES,
    PROVIDER,
    footprint,
    new_lab,
    removed_afterwards,
    report,
    ssh,
    unused,
    up,
)

pytestmark = pytest.mark.live


@pytest.fixture
def separate_lab(tmp_path: Path) -> Iterator[Lab]:
    """Two machines without the history of the others: small, and in no snapshot."""
    with removed_afterwards(new_lab(tmp_path)) as made:
        yield made


def test_a_large_snapshot_becomes_a_lower_layer_and_stays_while_it_is_used(
    separate_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "LAYER_BYTES", 0)
    lab = separate_lab
    own, endpoints = LabPaths.of(lab), up(lab)
    shown = "ls /usr/bin/lsof /srv/later 2>/dev/null; cat /srv/s"
    ssh(lab, endpoints["beta"], "echo one | sudo tee /srv/s >/dev/null; sudo rm -f /usr/bin/lsof")
    one = PROVIDER.snapshot(lab, "first", report).machines

    def restore(name: str, machines: Mapping[str, StoredMachine]) -> None:
        ssh(lab, endpoints["beta"], "sudo touch /srv/later")
        PROVIDER.prepare_restore(lab, name, machines, report)
        PROVIDER.restore(lab, name, machines, report)
        assert up(lab) == endpoints

    restore("first", one)
    assert ssh(lab, endpoints["beta"], shown) == "one"
    ssh(lab, endpoints["beta"], "echo two | sudo tee /srv/s >/dev/null")
    two = PROVIDER.snapshot(lab, "second", report).machines
    restore("second", two)
    assert ssh(lab, endpoints["beta"], shown) == "two"
    # Deleted, and still a lower layer of machines and of the other snapshot.
    folder = own.snapshots / "first@1"
    assert not PROVIDER.delete_snapshot(lab, "first", report)
    assert PROVIDER.snapshots(lab) == ["second"]
    assert folder.is_dir()
    again = PROVIDER.snapshot(lab, "first", report).machines
    assert (own.snapshots / "first@2").is_dir()
    monkeypatch.setattr(snapshot, "MAX_LAYERS", 0)
    restore("first", again)
    assert ssh(lab, endpoints["beta"], shown) == "two"
    assert PROVIDER.delete_snapshot(lab, "first", report)  # it was copied
    assert not PROVIDER.delete_snapshot(lab, "second", report)
    assert sorted(path.name for path in own.snapshots.iterdir()) == ["first@1", "second@1"]
    PROVIDER.remove(lab, NAMES, report)
    assert PROVIDER.delete_snapshot(lab, "second", report)
    assert list(own.snapshots.iterdir()) == []


CHILD = """
import sys
from ipaddress import IPv4Network
from pathlib import Path
sys.path.insert(0, {checkout!r})
from provision.core.lab import Lab
from provision.core.lab import Machine
from provision.core.lab import Topology
from provision.core.package_set import PackageSet
from provision.providers.lxc.provider import LxcProvider
addresses = IPv4Network({network!r})
names = {names!r}
machines = tuple(Machine(n, addresses[10 + i], ("nginx",)) for i, n in enumerate(names))
lab = Lab("default", Path({root!r}), Topology("t", "foobar.com", addresses, machines))
preload = {{n: PackageSet(({packages!r})) for n in names}}
LxcProvider().up(lab, lambda name, doing: print(doing, flush=True), preload)
"""


def killed(lab: Lab, stage: str, packages: tuple[str, ...] = (), later: float = 0) -> None:
    """Run ``up`` in another process and kill it, with all its children, at a stage."""
    code = CHILD.format(
        checkout=str(ROOT),
        network=str(lab.network),
        names=tuple(m.name for m in lab.machines),
        root=str(lab.root),
        packages=packages,
    )
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True) as child:
        assert child.stdout
        seen = []
        for line in child.stdout:
            seen.append(line.strip())
            if line.startswith(stage):
                break
        else:
            pytest.fail(f"up never came to {stage!r}: {seen}")
        time.sleep(later)
        os.killpg(child.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "stage", ["creating the container", "configuring the network", "starting", "waiting for sshd"]
)
def test_up_killed_at_any_stage_can_be_run_again(
    tmp_path_factory: pytest.TempPathFactory, stage: str
) -> None:
    with removed_afterwards(new_lab(tmp_path_factory.mktemp("killed"))) as lab:
        killed(lab, stage)
        endpoints = up(lab)
        assert [ssh(lab, endpoints[name], "hostname") for name in NAMES] == list(NAMES)


def test_a_layer_has_its_packages_and_can_be_built_after_an_interruption(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    packages = ("figlet",)
    target = paths.cache() / "layers" / images.layer_key(load_recipe(), PackageSet(packages))
    with removed_afterwards(new_lab(tmp_path_factory.mktemp("layer"), ("alpha",))) as lab:
        try:
            killed(lab, "preparing packages for", packages, later=1)
            assert not target.exists()
            mounts = Path("/proc/self/mountinfo").read_text()
            assert str(paths.cache()) not in mounts
            endpoints = up(lab, {"alpha": PackageSet(packages)})
            assert ssh(lab, endpoints["alpha"], "command -v figlet") == "/usr/bin/figlet"
            assert not list(target.parent.glob(f".new.{target.name}"))
            assert target not in unused()
            PROVIDER.destroy(lab, report)
            assert target in unused()
        finally:
            run("removing the layer", ["rm", "-rf", "--one-file-system", target])


def test_prune_removes_only_unused_images(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = images.base_key(load_recipe())
    original = images.base_image(load_recipe(), report).parent
    store = paths.cache().with_name(f"{paths.cache().name}-test-{os.getpid()}")
    monkeypatch.setenv("LAB_CACHE", str(store))
    used, unneeded = store / "images" / key, store / "layers" / "0123456789abcdef"
    invoke = [str(Path(sys.executable).with_name("invoke")), "lab.prune"]
    try:
        run("preparing", ["mkdir", "-p", store / "images", unneeded / "root"])
        run("preparing", ["cp", "-al", original, used])
        run("preparing", ["dd", "if=/dev/zero", f"of={unneeded}/root/file", "bs=1M", "count=3"])
        with removed_afterwards(new_lab(tmp_path_factory.mktemp("prune"), ("alpha",))) as lab:
            endpoints = up(lab)
            listed = subprocess.run(invoke, cwd=ROOT, capture_output=True, text=True, check=True)
            assert "layers/0123456789abcdef" in listed.stdout
            assert "3.0 MiB can be freed: invoke lab.prune --yes" in listed.stdout
            assert key not in listed.stdout
            assert unneeded.is_dir()
            removed = subprocess.run(
                [*invoke, "--yes"], cwd=ROOT, capture_output=True, text=True, check=True
            )
            assert "3.0 MiB freed" in removed.stdout
            assert [path.name for path in (store / "layers").glob("[!.]*")] == []
            assert (used / "root").is_dir()
            PROVIDER.halt(lab, report)
            assert unused() == set()  # a halted machine uses its images too
            assert ssh(lab, up(lab)["alpha"], "hostname") == "alpha"
            assert up(lab) == endpoints
        assert unused() == {used}
    finally:
        run("removing the image store", ["rm", "-rf", "--one-file-system", store])


def test_a_package_source_that_does_not_respond_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_MIRROR", "http://127.0.0.1:9/debian")
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    lab = new_lab(tmp_path)
    begun = time.monotonic()
    with (
        removed_afterwards(lab),
        pytest.raises(ProviderError, match=r"http://127\.0\.0\.1:9/debian does not respond"),
    ):
        PROVIDER.up(lab, report, {})
    assert time.monotonic() - begun < 30


def test_orphaned_labs_of_a_checkout_are_found_and_destroyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with removed_afterwards(new_lab(tmp_path / "checkout", ("alpha",))) as lab:
        up(lab)
        assert orphaned_labs.main(["--keep", lab.id, str(tmp_path)]) == 0
        assert orphaned_labs.main([str(tmp_path / "elsewhere")]) == 0
        assert PROVIDER.state(lab) == {"alpha": "running"}
        assert orphaned_labs.main([str(tmp_path)]) == 0
        assert f"removing lab default of {lab.root}" in capsys.readouterr().out
        assert footprint(lab) == {}
