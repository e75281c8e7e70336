"""The VirtualBox configuration of each topology, read through Vagrant's Ruby API."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from provision import topology
from provision.core.lab import ROOT

pytestmark = pytest.mark.vm

GOLDEN = ROOT / "tests" / "golden" / "vagrant"
READERS = ROOT / "tests" / "vm"


def checkout(tmp_path: Path) -> Path:
    """A checkout without labs: the Vagrantfile and the topologies."""
    shutil.copy(ROOT / "Vagrantfile", tmp_path)
    shutil.copytree(ROOT / "configs" / "topologies", tmp_path / "configs" / "topologies")
    return tmp_path


def vagrant(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run Vagrant in a folder."""
    return subprocess.run(
        ["vagrant", *words],
        cwd=folder,
        env=environment(VAGRANT_HOME=str(folder / "home"), **more),
        text=True,
        capture_output=True,
        check=False,
    )


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LAB_", "VAGRANT_"))}
    return kept | {"VAGRANT_CHECKPOINT_DISABLE": "1", "VAGRANT_NO_COLOR": "1"} | more


def configuration(folder: Path, provider: str = "virtualbox", **more: str) -> list[dict[str, Any]]:
    """The machines that the Vagrantfile in that folder defines."""
    result = subprocess.run(
        ["ruby", str(READERS / f"{provider}.rb"), str(folder)],
        env=environment(VAGRANT_HOME=str(folder / "home"), **more),
        text=True,
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    machines: list[dict[str, Any]] = json.loads(result.stdout[result.stdout.index("[") :])
    return machines


@pytest.mark.parametrize("name", topology.names())
def test_the_configuration_of_each_topology_is_as_recorded(tmp_path: Path, name: str) -> None:
    machines = configuration(checkout(tmp_path), LAB_TOPOLOGY=name)
    golden = GOLDEN / f"{name}.json"
    text = json.dumps(machines, indent=2) + "\n"
    if os.environ.get("LAB_GOLDEN") == "write":
        golden.write_text(text)
    assert text == golden.read_text()
    read = topology.load(topology.find(name))
    for machine, expected in zip(machines, read.machines, strict=True):
        assert machine["name"] == expected.name
        assert machine["networks"][0]["ip"] == str(expected.address)
        assert ["pre-boot", "modifyvm", "id", "--memory", str(expected.memory)] in machine[
            "customize"
        ]
        assert ["pre-boot", "modifyvm", "id", "--cpus", str(expected.cpus)] in machine["customize"]


def test_the_architecture_is_this_computers_unless_another_is_demanded(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    kinds = {"x86_64": ("", ""), "aarch64": ("virt", "aarch64")}
    for machine in configuration(folder, "libvirt"):
        assert (machine["machine_type"], machine["machine_arch"]) == kinds[os.uname().machine]
        assert machine["box"] == "foobar-lab/debian-13"
    for machine in configuration(folder, "libvirt", LAB_ARCH="arm64"):
        assert (machine["machine_type"], machine["machine_arch"]) == kinds["aarch64"]
        assert machine["loader"].endswith("QEMU_EFI.fd")
        assert machine["inputs"] == []
        if os.uname().machine == "x86_64":
            assert (machine["driver"], machine["cpu_model"]) == ("qemu", "cortex-a72")
    for machine in configuration(folder, "libvirt", LAB_ARCH="amd64"):
        assert machine["machine_type"] == ""
    refused = vagrant(folder, "validate", "--ignore-provider", LAB_ARCH="riscv64")
    assert "LAB_ARCH is riscv64: choose amd64 or arm64" in refused.stdout + refused.stderr
    assert refused.returncode != 0


def test_the_recorded_lab_overrides_the_environment(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    record = folder / ".lab" / "default" / "state.json"
    record.parent.mkdir(parents=True)
    state = {"topology": "distributed", "provider": "vagrant", "network": "192.168.60.0/24"}
    record.write_text(json.dumps(state))
    machines = configuration(folder, LAB_NETWORK="192.168.61.0/24", LAB_TOPOLOGY="simple")
    assert [m["networks"][0]["ip"] for m in machines] == [f"192.168.60.{n}" for n in (10, 11, 12)]
    assert all(m["networks"][0]["netmask"] == "255.255.255.0" for m in machines)
    record.write_text(json.dumps(state | {"provider": "lxc"}))
    result = vagrant(folder, "validate")
    assert result.returncode != 0
    assert "lab default was created with provider lxc" in result.stderr


def test_the_box_of_a_bundle_needs_no_download(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    record = folder / ".lab" / "bundle" / "installed.json"
    record.parent.mkdir(parents=True)
    for boxes in (["libvirt"], ["libvirt", "virtualbox"]):
        record.write_text(json.dumps({"boxes": boxes}))
        machine = configuration(folder)[0]
        own = "virtualbox" in boxes
        assert machine["box"] == ("foobar-lab/debian-13" if own else "bento/debian-13")
        assert (machine["box_version"] is None) == own
    assert configuration(folder, LAB_BOX="other")[0]["box"] == "other"


def test_another_lab_needs_its_own_dotfile_path(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    result = vagrant(folder, "status", LAB_NAME="two")
    assert result.returncode != 0
    assert "VAGRANT_DOTFILE_PATH=.lab/two/vagrant" in result.stderr
    assert configuration(folder, LAB_NAME="two", VAGRANT_DOTFILE_PATH=".lab/two/vagrant")


@pytest.mark.parametrize("name", topology.names())
def test_vagrant_validates_the_file(tmp_path: Path, name: str) -> None:
    folder = checkout(tmp_path)
    result = vagrant(folder, "validate", "--ignore-provider", LAB_TOPOLOGY=name)
    assert result.returncode == 0, result.stderr
    assert "validated successfully" in result.stdout
    assert "already initialized constant" not in result.stderr


def test_networks_of_topologies_are_allowed_by_virtualbox() -> None:
    allowed = IPv4Network("192.168.56.0/21")
    for name in topology.names():
        network = topology.load(topology.find(name)).network
        assert network.subnet_of(allowed), f"{name}: {network}"
