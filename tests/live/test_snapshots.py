"""Snapshots hold the whole lab: machines, topology, recorded state, secrets and host keys."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from provision.core.lab import ROOT
from provision.operations import snapshot_archive as archive
from provision.providers.lxc.container import frozen_machines
from provision.providers.lxc.paths import LabPaths
from tests.live.conftest import PREFIX, RunningLab, assert_no_traceback, wait_until

pytestmark = pytest.mark.live

MACHINES = ["lb-01", "web-01", "web-02"]
LONGEST_PAUSE = 1.5
STALL = 2.5
"""Seconds that other work on this host may add to a pause of the machines."""


@pytest.fixture(scope="module")
def snapshots_lab() -> Iterator[RunningLab]:
    """A lab of its own with the snapshot ``a``: its topology and its secrets change."""
    lab = RunningLab(f"{PREFIX}snap")
    lab.up()
    add_note(lab, "in a")
    (directory(lab) / "backups").mkdir(exist_ok=True)
    (directory(lab) / "backups" / "mine").write_text("kept by every restore")
    lab.invoke("lab.snapshot", "a", "--note", "as it was")
    yield lab
    lab.destroy()


@pytest.fixture(autouse=True)
def _only_a(snapshots_lab: RunningLab) -> Iterator[None]:
    """Snapshots and halted machines of a failed test do not affect the next one."""
    yield
    others = sorted(listed(snapshots_lab).keys() - {"a"})
    for name in others:
        snapshots_lab.invoke("lab.snapshot", name, "--delete")
    if others:
        snapshots_lab.invoke("lab.restore", "a")


def directory(lab: RunningLab) -> Path:
    return ROOT / ".lab" / lab.name


def paths(lab: RunningLab) -> LabPaths:
    return LabPaths.of(lab.session().lab)


def add_note(lab: RunningLab, text: str) -> None:
    result = lab.post("/api/notes", {"author": "a", "text": text})
    assert result.status_code == 201, result.text


def notes(lab: RunningLab) -> list[str]:
    return sorted(note["text"] for note in lab.get("/api/notes").json())


def machine_states(lab: RunningLab) -> dict[str, str]:
    return dict(lab.session().machine_states())


def listed(lab: RunningLab) -> dict[str, dict[str, Any]]:
    return {row["snapshot"]: row for row in lab.json("lab.snapshots")["snapshots"]}


def own_files(lab: RunningLab) -> dict[str, bytes]:
    """The contents of the lab's files on the controller."""
    top = directory(lab)
    described = ("state.json", "ca.pem", "known_hosts", "certs", "secrets", "releases")
    files = [p for p in top.rglob("*") if p.is_file() and p.name != ".lock"]
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in files
        if path.relative_to(top).parts[0] in described
    }


def nothing_to_change(lab: RunningLab) -> None:
    assert lab.up().stdout.count(" 0 changed") == len(MACHINES)


def is_as_in_a(lab: RunningLab) -> None:
    """The machines of the snapshot run with its data, and are reached with its host keys."""
    assert machine_states(lab) == dict.fromkeys(MACHINES, "running")
    assert notes(lab) == ["in a"]
    config = str(directory(lab) / "ssh_config")
    for machine in MACHINES:
        ssh = ["ssh", "-F", config, machine, "hostname"]
        done = subprocess.run(ssh, capture_output=True, text=True, timeout=20, check=False)
        assert done.stdout.strip() == machine, done.stderr


def restore(lab: RunningLab, name: str = "a") -> str:
    started = time.monotonic()
    output = lab.invoke("lab.restore", name).stdout
    print(f"lab.restore {name}: {time.monotonic() - started:.1f} s")
    return output


def test_the_list_shows_date_size_topology_and_note(snapshots_lab: RunningLab) -> None:
    row = listed(snapshots_lab)["a"]
    assert row["topology"] == "distributed"
    assert row["note"] == "as it was"
    assert row["created"].startswith(time.strftime("%Y-%m-", time.gmtime()))
    assert row["size_bytes"] > 2**20
    assert row["problem"] == ""
    text = snapshots_lab.invoke("lab.snapshots").stdout
    assert "as it was" in text
    assert "MiB" in text


def test_restore_after_changes_of_topology(snapshots_lab: RunningLab) -> None:
    lab, before = snapshots_lab, own_files(snapshots_lab)
    lab.up("--topology", "simple", "--yes")
    add_note(lab, "in simple")
    lab.up("--topology", "distributed")
    assert own_files(lab) != before
    output = restore(lab)
    assert " checks pass" in output
    assert own_files(lab) == before
    is_as_in_a(lab)
    assert lab.invoke("lab.check").returncode == 0
    nothing_to_change(lab)
    assert (directory(lab) / "backups" / "mine").read_text() == "kept by every restore"


def test_restore_from_a_smaller_topology(snapshots_lab: RunningLab) -> None:
    lab = snapshots_lab
    lab.up("--topology", "simple", "--yes")
    restore(lab)
    is_as_in_a(lab)


def test_machines_added_since_are_removed(snapshots_lab: RunningLab) -> None:
    lab = snapshots_lab
    lab.up("--topology", "simple", "--yes")
    add_note(lab, "in simple")
    lab.invoke("lab.snapshot", "small")
    assert listed(lab)["small"]["topology"] == "simple"
    lab.up("--topology", "distributed")
    output = restore(lab, "small")
    assert "removed, because the snapshot does not have them: lb-01, web-02" in output
    assert machine_states(lab) == {"web-01": "running"}
    assert "in simple" in notes(lab)
    assert " 0 changed" in lab.up().stdout
    restore(lab)
    is_as_in_a(lab)
    lab.invoke("lab.snapshot", "--delete", "small")
    assert sorted(listed(lab)) == ["a"]


def test_settings_recorded_after_the_snapshot_are_not_applied(snapshots_lab: RunningLab) -> None:
    lab = snapshots_lab
    lab.invoke("lb.weight", "web-01", "7")
    lab.invoke("lb.drain", "web-02")
    lab.invoke("app.deploy", str(ROOT / "provision" / "app"), "--version", "after-a")
    assert lab.session().state.release == "after-a"
    restore(lab)
    state = lab.session().state
    assert (state.weights, state.admin, state.release) == ({}, {}, "")
    nothing_to_change(lab)
    assert lab.session().state == state
    is_as_in_a(lab)


def test_restore_of_a_halted_and_a_removed_machine(snapshots_lab: RunningLab) -> None:
    lab = snapshots_lab
    session = lab.session()
    session.provider.halt(session.lab, lambda machine, doing: None, ["web-01"])
    session.provider.remove(session.lab, ["web-02"], lambda machine, doing: None)
    (directory(lab) / "state.json").write_text("damaged")
    restore(lab)
    is_as_in_a(lab)


def test_a_snapshot_of_a_halted_lab_restores_halted(snapshots_lab: RunningLab) -> None:
    lab = snapshots_lab
    lab.invoke("lab.halt")
    assert "paused for 0.0 s" in lab.invoke("lab.snapshot", "off").stdout
    restore(lab)
    assert "halted, as in the snapshot" in restore(lab, "off")
    assert machine_states(lab) == dict.fromkeys(MACHINES, "halted")
    restore(lab)
    is_as_in_a(lab)
    lab.invoke("lab.snapshot", "off", "--delete")


@pytest.mark.parametrize(
    "stage",
    [
        "verifying and copying",
        "web-01   restoring snapshot",
        "configuring the network",
        "waiting for sshd",
    ],
)
def test_a_killed_restore_is_repeated_and_finishes(snapshots_lab: RunningLab, stage: str) -> None:
    lab = snapshots_lab
    add_note(lab, "lost")
    killed = lab.start("lab.restore", "a")
    killed.wait_for_output(stage)
    killed.signal(signal.SIGKILL, group=True)
    killed.process.wait(20)
    if stage != "verifying and copying":
        for words in (("lab.up",), ("lab.check",), ("lab.snapshot", "b")):
            refused = lab.invoke(*words, check=False)
            assert refused.returncode == 1
            assert f"next: invoke lab.restore --lab {lab.name} a" in refused.stderr
    restore(lab)
    is_as_in_a(lab)


def damaged_by(lab: RunningLab, damage: str) -> list[str]:
    """The command that damages the snapshot ``broken``."""
    machines = paths(lab).snapshots / "broken@1"
    own = archive.folder(directory(lab), "broken")
    return {
        "a truncated data file": ["truncate", "-s", "4096", _in(machines, "ibdata1")],
        "a missing file": ["rm", _in(machines / "lb-01" / "delta", "*")],
        "a missing machine": ["rm", "-r", str(machines / "lb-01")],
        "no machines": ["rm", "-r", str(machines)],
        "a changed state": ["sh", "-c", f"echo >>{own}/lab/state.json"],
        "a missing secret": ["rm", str(own / "lab" / "secrets" / "passwords.json")],
        "a truncated manifest": ["truncate", "-s", "100", str(own / archive.MANIFEST)],
    }[damage]


def _in(folder: Path, name: str) -> str:
    """A file of the snapshot; after a restore it holds only what has changed since."""
    find = ["find", str(folder), "-name", name, "-type", "f", "-size", "+0"]
    return subprocess.run(find, capture_output=True, text=True, check=True).stdout.split()[0]


@pytest.mark.parametrize(
    "damage",
    [
        "a truncated data file",
        "a missing file",
        "a missing machine",
        "no machines",
        "a changed state",
        "a missing secret",
        "a truncated manifest",
    ],
)
def test_a_damaged_snapshot_is_refused_before_anything_is_touched(
    snapshots_lab: RunningLab, damage: str
) -> None:
    lab = snapshots_lab
    lab.invoke("lab.snapshot", "broken")
    subprocess.run(damaged_by(lab, damage), check=True)
    boots = [lab.out(machine, "stat", "-c", "%Y", "/run/dbus") for machine in MACHINES]
    files = own_files(lab)
    refused = lab.invoke("lab.restore", "broken", check=False)
    assert refused.returncode == (2 if damage == "no machines" else 1)  # it is none any more
    message = refused.stderr + refused.stdout
    assert "broken" in message
    assert "nothing was changed" in message or "there is no snapshot" in message
    assert [lab.out(machine, "stat", "-c", "%Y", "/run/dbus") for machine in MACHINES] == boots
    assert own_files(lab) == files
    lab.invoke("lab.snapshot", "broken", "--delete")
    assert sorted(listed(lab)) == ["a"]


def test_the_site_is_served_during_a_snapshot(snapshots_lab: RunningLab) -> None:
    lab, url = snapshots_lab, snapshots_lab.url
    durations: list[float] = []
    failures: list[str] = []
    done = threading.Event()

    def visit() -> None:
        with requests.Session() as http:
            http.trust_env = False
            while not done.is_set():
                started = time.monotonic()
                try:
                    response = http.get(url + "/", timeout=10)
                    if response.status_code != 200:
                        failures.append(str(response.status_code))
                except requests.RequestException as error:
                    failures.append(str(error))
                durations.append(time.monotonic() - started)
                time.sleep(0.02)

    visitors = [threading.Thread(target=visit) for _ in range(2)]
    for visitor in visitors:
        visitor.start()
    output = lab.invoke("lab.snapshot", "live").stdout
    done.wait(1)
    done.set()
    for visitor in visitors:
        visitor.join()
    print(f"{output}{len(durations)} requests, {len(failures)} failed, {max(durations):.2f} s max")
    assert failures == []
    assert max(durations) < LONGEST_PAUSE + STALL
    assert lab.invoke("lab.check").returncode == 0
    lab.invoke("lab.snapshot", "live", "--delete")


def test_machines_that_a_killed_snapshot_left_frozen_are_thawed(snapshots_lab: RunningLab) -> None:
    lab = snapshots_lab
    own = paths(lab)
    for command, message in (("lab.status", "thawed lb-01"), ("lab.up", "")):
        for machine in MACHINES:
            subprocess.run(["lxc-freeze", "-P", str(own.directory), "-n", machine], check=True)
        result = lab.invoke(command)
        assert message in result.stderr
        assert frozen_machines(own) == frozenset()
        assert lab.get("/").status_code == 200
    killed = lab.start("lab.snapshot", "killed")
    killed.wait_for_output("copying to snapshot")
    killed.signal(signal.SIGKILL, group=True)
    killed.process.wait(20)
    lab.invoke("lab.status")
    wait_until(lambda: lab.get("/").status_code == 200, "the site is served again")
    lab.invoke("lab.snapshot", "killed", check=False)
    lab.invoke("lab.snapshot", "killed", "--delete")
    assert sorted(listed(lab)) == ["a"]
    assert not list(own.snapshots.glob(".*"))


def test_a_full_disk_leaves_no_half_snapshot(snapshots_lab: RunningLab) -> None:
    lab = snapshots_lab
    # The files of the lab on the controller cannot be written: the machines' part is removed.
    folder = directory(lab) / archive.FOLDER
    folder.rename(folder.with_name("snapshots.away"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", _made(folder)], check=True)
    try:
        refused = lab.invoke("lab.snapshot", "full", check=False)
        assert refused.returncode == 1
        assert "No space left" in refused.stderr
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()
        folder.with_name("snapshots.away").rename(folder)
    assert sorted(listed(lab)) == ["a"]
    assert [path.name for path in paths(lab).snapshots.iterdir()] == ["a@1"]
    assert frozen_machines(paths(lab)) == frozenset()


def _made(folder: Path) -> str:
    folder.mkdir()
    return str(folder)


def test_unknown_and_existing_names(snapshots_lab: RunningLab) -> None:
    lab = snapshots_lab
    for words, message in (
        (("lab.restore", "nothing"), "existing snapshots: a"),
        (("lab.snapshot", "nothing", "--delete"), "existing snapshots: a"),
        (("lab.snapshot", "a"), "snapshot a already exists"),
        (("lab.snapshot", "../a"), "not a valid snapshot name"),
    ):
        refused = lab.invoke(*words, check=False)
        assert refused.returncode == 2
        assert message in refused.stderr
        assert_no_traceback(refused.stderr)
