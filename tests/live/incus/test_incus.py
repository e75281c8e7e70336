"""A whole lab on a real Incus server, over HTTPS from another network namespace."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.core.lab import ROOT
from provision.providers.incus import names, network, record
from provision.providers.incus.client import IncusClient
from provision.providers.incus.remote import Remote
from tests.live.conftest import PREFIX, RunningLab
from tests.live.incus import members
from tests.live.incus.daemon import Members

pytestmark = [pytest.mark.live, pytest.mark.alone]


@pytest.fixture(scope="module")
def server() -> Iterator[Members]:
    """A single server."""
    with members.running("m1") as running:
        yield running


@pytest.fixture(scope="module")
def incus_lab(server: Members) -> Iterator[RunningLab]:
    """A ``distributed`` lab on it, with all checks passed."""
    lab = RunningLab(f"{PREFIX}incus")
    started = time.monotonic()
    result = lab.up()
    print(f"first lab.up with images: {time.monotonic() - started:.0f} s")
    assert "checks passed" in result.stdout
    yield lab
    own = lab.session().lab.network
    lab.destroy()
    client = IncusClient(Remote("", str(server.members[0].socket)))
    assert client.get("/instances") == []
    assert [n for n in client.get("/networks", recursion="1") if n["managed"]] == []
    assert own not in network.routes()


def test_a_second_run_changes_nothing(incus_lab: RunningLab) -> None:
    assert incus_lab.invoke("lab.plan", "--detailed-exitcode").returncode == 0
    status = incus_lab.json("lab.status")
    assert {m["machine"]: m["state"] for m in status["machines"]} == {
        "lb-01": "running",
        "web-01": "running",
        "web-02": "running",
    }
    assert incus_lab.get("/").status_code == 200


def test_the_doctor_finds_the_server_ready(incus_lab: RunningLab) -> None:
    argv = [str(ROOT / "scripts" / "doctor"), "--provider", "incus", "--json"]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    states = {p["provider"]: p["state"] for p in json.loads(result.stdout)["providers"]}
    assert states["incus"] == "ready"
    rows = incus_lab.json("lab.doctor", "--host")["requirements"]
    assert [r["severity"] for r in rows if r["provider"] == "incus"] == ["ready"], rows


def test_a_machine_dies_and_comes_back(incus_lab: RunningLab) -> None:
    incus_lab.invoke("lab.kill", "web-02")
    states = {m["machine"]: m["state"] for m in incus_lab.json("lab.status")["machines"]}
    assert states["web-02"] == "killed"
    assert incus_lab.get("/").status_code == 200
    incus_lab.invoke("lab.start", "web-02")
    incus_lab.up()
    incus_lab.invoke("lab.check")


def test_a_snapshot_holds_all_machines(incus_lab: RunningLab) -> None:
    incus_lab.invoke("lab.snapshot", "good")
    listed = [s["snapshot"] for s in incus_lab.json("lab.snapshots")["snapshots"]]
    assert listed == ["good"]
    incus_lab.out("web-01", "touch", "/root/changed")
    incus_lab.invoke("lab.restore", "good")
    assert not incus_lab.run("web-01", "test", "-e", "/root/changed").ok
    incus_lab.invoke("lab.check")
    incus_lab.invoke("lab.snapshot", "good", "--delete")
    assert incus_lab.json("lab.snapshots")["snapshots"] == []


def test_rescue_needs_no_ssh(incus_lab: RunningLab) -> None:
    mask = ("systemctl", "mask", "--now", "ssh.service", "ssh.socket")
    incus_lab.invoke("lab.rescue", "web-01", "--", *mask)  # over SSH it would end its own session
    result = incus_lab.invoke(
        "lab.rescue", "web-01", "--", "sh", "-c", "id -un; exit 7", check=False
    )
    assert (result.stdout, result.returncode) == ("root\n", 7)
    incus_lab.invoke("lab.rescue", "web-01", "--fix")
    incus_lab.up()


def test_a_lost_route_is_named_and_added_again(incus_lab: RunningLab) -> None:
    session = incus_lab.session()
    placed = record.load(session.lab)
    assert placed is not None
    network.unroute(session.lab, placed)
    problem = session.provider.network_problem(session.lab)
    assert problem == (
        f"this computer has no route for {session.lab.network} through "
        f"{placed.remote.host} ({placed.via})"
    )
    result = incus_lab.invoke("lab.check", check=False)
    assert result.returncode == 1
    assert problem in " ".join((result.stdout + result.stderr).split())
    incus_lab.up()
    assert session.provider.network_problem(session.lab) == ""


def test_limits_are_those_of_the_instances(
    incus_lab: RunningLab, server: Members, tmp_path: Path
) -> None:
    lab = incus_lab.session().lab
    client = IncusClient(Remote("", str(server.members[0].socket)))
    text = (ROOT / "configs" / "topologies" / "distributed.yml").read_text()
    limits = "limits: {memory: 4000, processes: 3000, cpu: 50}\n"
    file = tmp_path / "distributed.yml"
    file.write_text(text + limits)
    incus_lab.up("--topology", str(file), "--yes")
    config = client.get(names.instance_path(lab, "web-01"))["config"]
    assert config["limits.memory"] == "1600MiB"
    assert config["limits.processes"] == "1000"
    assert config["limits.cpu.allowance"] == "50%"
    groups = server.members[0].group
    found = subprocess.run(
        ["find", "/sys/fs/cgroup", "-path", f"*{groups}*web-01*", "-name", "pids.max"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    assert "1000" in {Path(file).read_text().strip() for file in found}
    incus_lab.up("--topology", "distributed", "--yes")


def test_a_network_in_use_is_refused(incus_lab: RunningLab) -> None:
    used = str(incus_lab.session().lab.network)
    other = RunningLab(f"{PREFIX}other")
    result = other.invoke("lab.up", "--network", used, check=False)
    assert result.returncode in (1, 2)
    assert used in result.stderr + result.stdout


def test_an_untrusted_client_is_told_so(incus_lab: RunningLab, tmp_path: Path) -> None:
    from tests.live.incus.daemon import client_certificate

    placed = record.load(incus_lab.session().lab)
    assert placed is not None
    own = Path(placed.remote.folder)
    certificate, key = client_certificate()
    (tmp_path / "servercerts").mkdir()
    for name in ("config.yml", "servercerts/members.crt"):
        (tmp_path / name).write_text((own / name).read_text())
    (tmp_path / "client.crt").write_text(certificate)
    (tmp_path / "client.key").write_text(key)
    other = RunningLab(f"{PREFIX}other", {"INCUS_CONF": str(tmp_path)})
    result = other.invoke("lab.up", check=False)
    assert result.returncode == 1
    assert "does not trust this client's certificate" in result.stderr
    assert "incus config trust add" in result.stderr


def test_the_servers_project_must_exist(incus_lab: RunningLab) -> None:
    other = RunningLab(f"{PREFIX}other", {"LAB_INCUS_PROJECT": "absent"})
    result = other.invoke("lab.up", check=False)
    assert result.returncode == 1
    assert "has no project 'absent'" in result.stderr
