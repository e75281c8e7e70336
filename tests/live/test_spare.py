"""A spare: a restore that boots nothing, is all or nothing, and leaves a complete lab."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator

import pytest

from provision.core.lab import ROOT
from provision.providers.lxc import container, spare
from provision.providers.lxc.paths import LabPaths
from tests.live.conftest import PREFIX, RunningLab, wait_until

pytestmark = pytest.mark.live

MACHINES = {"lb-01", "web-01", "web-02"}


@pytest.fixture(scope="module")
def spare_lab() -> Iterator[RunningLab]:
    """A lab of its own."""
    lab = RunningLab(f"{PREFIX}spare")
    lab.up()
    yield lab
    lab.destroy()


def paths(lab: RunningLab) -> LabPaths:
    return LabPaths.of(lab.session().lab)


def spares(lab: RunningLab) -> list[LabPaths]:
    return [other for other in spare._others(paths(lab)) if other.number]


def restored(lab: RunningLab, name: str) -> float:
    """Restore a snapshot; returns the seconds."""
    started = time.monotonic()
    output = lab.invoke("lab.restore", name)
    assert "all" in output.stdout and "checks pass" in output.stdout  # noqa: PT018
    print(output.stderr)
    return time.monotonic() - started


def test_a_restore_with_a_spare_boots_nothing(spare_lab: RunningLab) -> None:
    lab = spare_lab
    lab.invoke("lab.snapshot", "a", "--spare")
    (standby,) = spares(lab)
    assert container.frozen_machines(standby) == MACHINES
    boots = lab.out("web-01", "cat", "/proc/sys/kernel/random/boot_id")
    lab.out("web-01", "touch", "/root/changed")
    lab.out("web-02", "systemctl", "stop", "nginx")
    seconds = restored(lab, "a")
    print(f"restored with a spare in {seconds:.2f} s")
    assert paths(lab).number == standby.number
    assert not lab.run("web-01", "test", "-e", "/root/changed").ok
    assert lab.out("web-01", "cat", "/proc/sys/kernel/random/boot_id")
    assert boots
    assert lab.invoke("lab.plan", "--detailed-exitcode").returncode == 0
    # What runs now is an ordinary lab: it reboots, halts, and takes snapshots.
    lab.invoke("lab.ssh", "web-01", "--", "sudo", "systemctl", "reboot", check=False)
    wait_until(lambda: lab.invoke("lab.check", check=False).returncode == 0, "web-01", 90)
    lab.invoke("lab.snapshot", "b")
    lab.invoke("lab.halt")
    lab.up()
    assert restored(lab, "b")
    lab.invoke("lab.snapshot", "b", "--delete")


def test_a_restore_without_a_spare_boots_on_layers(spare_lab: RunningLab) -> None:
    lab = spare_lab
    lab.invoke("lab.snapshot", "c")
    lab.out("web-01", "touch", "/root/changed")
    seconds = restored(lab, "c")
    print(f"restored on layers in {seconds:.2f} s")
    assert not lab.run("web-01", "test", "-e", "/root/changed").ok
    lab.invoke("lab.snapshot", "c", "--delete")


@pytest.mark.parametrize("step", ["switching to the spare", "verifying", "logging in"])
def test_a_killed_restore_is_finished_by_the_next_one(spare_lab: RunningLab, step: str) -> None:
    lab = spare_lab
    lab.invoke("lab.snapshot", "d", "--spare")
    lab.out("web-01", "touch", "/root/changed")
    mark = ROOT / ".lab" / lab.name / "restoring"
    command = lab.start("lab.restore", "d")
    if step == "switching to the spare":
        command.wait_for_output(step)
        time.sleep(0.1)
    else:
        wait_until(mark.exists, "the restore to begin")
        time.sleep({"verifying": 0.02, "logging in": 0.5}[step])
    command.signal(signal.SIGKILL, group=True)
    command.process.wait(20)
    if mark.exists():
        refused = lab.invoke("lab.check", check=False)
        assert refused.returncode == 1
        assert f"invoke lab.restore --lab {lab.name} d" in refused.stderr
    assert restored(lab, "d")
    assert not mark.exists()
    assert not lab.run("web-01", "test", "-e", "/root/changed").ok
    lab.invoke("lab.snapshot", "d", "--delete")
    assert not spares(lab), "deleting a snapshot removes its spare"


def test_drills_in_quick_succession(spare_lab: RunningLab) -> None:
    lab = spare_lab
    for _ in range(2):
        lab.invoke("drill.start", "site-link-removed", "--spare")
        assert spares(lab)
        lab.invoke("drill.solve")
        lab.invoke("drill.check")
        output = lab.invoke("drill.finish").stdout
        match = re.search(r"good state again \(([0-9.]+) s\)", output)
        assert match, output
        print(f"drill.finish: {match[1]} s")
        assert not spares(lab)
