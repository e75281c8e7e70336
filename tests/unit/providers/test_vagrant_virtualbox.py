"""What Vagrant leaves in VirtualBox: recorded before, and removed with the lab."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from provision.core.errors import ProviderError
from provision.core.lab import Lab
from provision.providers.vagrant import virtualbox
from provision.providers.vagrant.client import dotfile_folder
from provision.providers.vagrant.virtualbox import has_clones, parse_blocks, parse_settings

MASTER = "31a12166-3e9a-4b4e-a19e-4bf4653f4e3c"
CLONE = "d54463c4-4ce2-421e-ada8-185ad3100c8b"

INTERFACES = """\
Name:            vboxnet0
GUID:            f0000000-dae8-4abf-8000-0a0027000000
DHCP:            Disabled
IPAddress:       192.168.56.1
NetworkMask:     255.255.255.0
VBoxNetworkName: HostInterfaceNetworking-vboxnet0

Name:            vboxnet1
GUID:            f0000000-dae8-4abf-8000-0a0027000001
DHCP:            Disabled
IPAddress:       192.168.60.1
NetworkMask:     255.255.255.0
VBoxNetworkName: HostInterfaceNetworking-vboxnet1

"""

SERVERS = """\
NetworkName:    HostInterfaceNetworking-vboxnet0
Dhcpd IP:       192.168.56.100
Enabled:        Yes
Global Configuration:
    minLeaseTime:     default
        1/legacy: 255.255.255.0
Groups:               None
"""

MASTER_DISKS = """\
UUID:           aaaa0000-0000-0000-0000-000000000000
Parent UUID:    base
State:          created
Location:       /home/student/VirtualBox VMs/debian-13/disk.vmdk

UUID:           aaaa1111-0000-0000-0000-000000000000
Parent UUID:    aaaa0000-0000-0000-0000-000000000000
State:          created

"""

CLONE_DISK = """\
UUID:           bbbb0000-0000-0000-0000-000000000000
Parent UUID:    aaaa0000-0000-0000-0000-000000000000
State:          created

"""

MASTER_SETTINGS = '"SATA-ImageUUID-0-0"="aaaa1111-0000-0000-0000-000000000000"\nnic2="none"\n'
CLONE_SETTINGS = (
    '"SATA-ImageUUID-0-0"="bbbb0000-0000-0000-0000-000000000000"\nhostonlyadapter2="vboxnet0"\n'
)


class FakeVirtualBox:
    """VBoxManage with these answers; the other commands are recorded."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.commands: list[str] = []

    def manage(self, *words: str) -> str:
        """Answer a command."""
        command = " ".join(words)
        if command in self.answers:
            return self.answers[command]
        self.commands.append(command)
        return ""


def answers(*, clone: bool, machines: Sequence[str] = (MASTER,)) -> dict[str, str]:
    disks = MASTER_DISKS + (CLONE_DISK if clone else "")
    listed = [*machines, *([CLONE] if clone else ())]
    return {
        "list hostonlyifs": INTERFACES,
        "list dhcpservers": SERVERS,
        "list hdds": disks,
        "list vms": "".join(f'"machine" {{{uuid}}}\n' for uuid in listed),
        f"showvminfo {MASTER} --machinereadable": MASTER_SETTINGS,
        f"showvminfo {CLONE} --machinereadable": CLONE_SETTINGS,
    }


@pytest.fixture
def lab(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab with one linked clone, as Vagrant records it."""
    monkeypatch.setenv("VAGRANT_HOME", str(tmp_path / "home"))
    lab = replace(lab, root=tmp_path)
    lab.directory.mkdir(parents=True)
    box = tmp_path / "home" / "boxes" / "box" / "0" / "virtualbox"
    box.mkdir(parents=True)
    (box / "master_id").write_text(MASTER)
    machine = dotfile_folder(lab) / "machines" / "web-01" / "virtualbox"
    machine.mkdir(parents=True)
    (machine / "box_meta").write_text(json.dumps({"directory": "boxes/box/0/virtualbox"}))
    return lab


def destroyed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, existing: str, found: dict[str, str]
) -> list[str]:
    """The commands of a lab that is created, and destroyed by Vagrant."""
    before = FakeVirtualBox({"list hostonlyifs": existing})
    monkeypatch.setattr(virtualbox, "_manage", before.manage)
    virtualbox.record_interfaces(lab)
    virtualbox.record_masters(lab)
    after = FakeVirtualBox(found)
    monkeypatch.setattr(virtualbox, "_manage", after.manage)
    virtualbox.remove_unused(lab, lambda _machine, _message: None)
    assert before.commands == []
    assert not (lab.directory / virtualbox.FILE).exists()
    return after.commands


def test_the_master_and_the_network_of_the_lab_are_removed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert destroyed(lab, monkeypatch, "", answers(clone=False)) == [
        f"unregistervm {MASTER} --delete",
        "dhcpserver remove --network=HostInterfaceNetworking-vboxnet0",
        "hostonlyif remove vboxnet0",
    ]


def test_what_another_machine_uses_is_kept(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert destroyed(lab, monkeypatch, "", answers(clone=True)) == []


def test_an_interface_that_existed_before_is_kept(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = destroyed(lab, monkeypatch, INTERFACES, answers(clone=False))
    assert commands == [f"unregistervm {MASTER} --delete"]


def test_a_master_that_is_gone_already_is_no_error(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = destroyed(lab, monkeypatch, INTERFACES, answers(clone=False, machines=()))
    assert commands == []


def test_a_lab_without_a_record_keeps_everything(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeVirtualBox(answers(clone=False))
    monkeypatch.setattr(virtualbox, "_manage", fake.manage)
    virtualbox.record_masters(lab)
    virtualbox.remove_unused(lab, lambda _machine, _message: None)
    assert fake.commands == []


def test_a_failed_removal_can_be_repeated(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*words: str) -> str:
        if words[0] == "hostonlyif":
            raise ProviderError("VBoxManage hostonlyif remove vboxnet0 failed (status 1)")
        return found.manage(*words)

    monkeypatch.setattr(virtualbox, "_manage", FakeVirtualBox({"list hostonlyifs": ""}).manage)
    virtualbox.record_interfaces(lab)
    found = FakeVirtualBox(answers(clone=False))
    monkeypatch.setattr(virtualbox, "_manage", fail)
    with pytest.raises(ProviderError):
        virtualbox.remove_unused(lab, lambda _machine, _message: None)
    monkeypatch.setattr(virtualbox, "_manage", found.manage)
    found.commands.clear()
    virtualbox.remove_unused(lab, lambda _machine, _message: None)
    assert "hostonlyif remove vboxnet0" in found.commands


def test_blocks_of_a_list_begin_with_its_first_key() -> None:
    first, second = parse_blocks(INTERFACES)
    assert (first["Name"], second["IPAddress"]) == ("vboxnet0", "192.168.60.1")
    (server,) = parse_blocks(SERVERS)
    assert server["NetworkName"] == "HostInterfaceNetworking-vboxnet0"
    assert parse_blocks("") == []


def test_the_own_difference_of_a_snapshot_is_no_clone() -> None:
    settings = parse_settings(MASTER_SETTINGS)
    assert not has_clones(settings, parse_blocks(MASTER_DISKS))
    assert has_clones(settings, parse_blocks(MASTER_DISKS + CLONE_DISK))
    assert not has_clones({}, parse_blocks(MASTER_DISKS + CLONE_DISK))
