"""Boxes: what is in them, and that VirtualBox's descriptor says what it should."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from provision.core.errors import ProviderError, UsageError
from provision.providers import images
from provision.providers.boxes import build, ovf
from provision.providers.images import Recipe
from provision.providers.lxc.privileged import Done

RECIPE = Recipe("trixie", ("linux-image-amd64", "sudo"), "http://mirror.example/debian", ())
OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
RASD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"


def quiet(machine: str, doing: str) -> None:
    """Progress that nobody sees."""


def test_a_box_has_the_containers_packages_and_what_a_virtual_machine_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAB_MIRROR", RECIPE.mirror)
    data = yaml.safe_load(images.RECIPE.read_text())
    assert all(isinstance(reason, str) and reason for reason in data["box"].values())
    found = set(build.recipe().packages)
    assert set(data["packages"]) < found
    assert "linux-image-amd64" in found
    assert not set(data["box"]) & set(images.recipe().packages)


def test_a_disks_name_changes_with_whatever_goes_into_it() -> None:
    names = {
        build.key(RECIPE),
        build.key(replace(RECIPE, packages=("sudo",))),
        build.key(replace(RECIPE, mirror="http://other.example/debian")),
    }
    assert len(names) == 3
    assert build.key(RECIPE) == build.key(replace(RECIPE))


def test_a_boxs_name_changes_with_what_is_around_its_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = build._around("disk")
    assert before == build._around("disk") != build._around("another")
    changed = tmp_path / "ovf.py"
    changed.write_text(Path(ovf.__file__).read_text() + "# another descriptor\n")
    monkeypatch.setattr(ovf, "__file__", str(changed))
    assert build._around("disk") != before


def test_only_for_providers_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no boxes for 'vmware'"):
        build.build("vmware", quiet)
    monkeypatch.setattr(build, "program", lambda name: name != "sfdisk")
    monkeypatch.setattr(build, "GRUB", Path("/nowhere"))
    with pytest.raises(ProviderError, match="this host lacks fdisk, grub-pc-bin"):
        build.build("libvirt", quiet)


def packed(provider: str, tmp_path: Path) -> dict[str, tuple[int, bytes]]:
    """The files of a box: mode and content by name."""
    (tmp_path / "disk.qcow2").write_bytes(b"qcow2")
    (tmp_path / "key").write_text("private")
    build.pack(provider, tmp_path, tmp_path / "a.box")
    with tarfile.open(tmp_path / "a.box") as tar:
        read = {m.name: (m.mode, tar.extractfile(m)) for m in tar}
        return {name: (mode, file.read()) for name, (mode, file) in read.items() if file}


def test_a_box_for_libvirt(tmp_path: Path) -> None:
    files = packed("libvirt", tmp_path)
    assert set(files) == {"metadata.json", "Vagrantfile", "key", "box.img"}
    metadata = json.loads(files["metadata.json"][1])
    assert (metadata["provider"], metadata["format"]) == ("libvirt", "qcow2")
    assert metadata["virtual_size"] == 10
    assert files["box.img"][1] == b"qcow2"
    assert files["key"] == (0o600, b"private")
    assert b'private_key_path = File.expand_path("key", __dir__)' in files["Vagrantfile"][1]


def test_a_box_for_virtualbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(doing: str, argv: list[str | Path], *, root: bool) -> Done:
        assert "subformat=streamOptimized" in argv
        assert not root
        Path(argv[-1]).write_bytes(b"vmdk!")
        return Done(0, "", "")

    monkeypatch.setattr(build, "run", convert)
    files = packed("virtualbox", tmp_path)
    assert set(files) == {"metadata.json", "Vagrantfile", "key", "box.ovf", "disk.vmdk"}
    assert json.loads(files["metadata.json"][1])["provider"] == "virtualbox"
    assert b"config.vm.base_mac" in files["Vagrantfile"][1]
    assert b'ovf:href="disk.vmdk" ovf:size="5"' in files["box.ovf"][1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.box", "disk.qcow2", "key"]


def test_the_descriptor_of_a_machine() -> None:
    top = ElementTree.fromstring(ovf.descriptor("debian-13", "disk.vmdk", 123, 10240))
    disk = top.find(f"{OVF}DiskSection/{OVF}Disk")
    file = top.find(f"{OVF}References/{OVF}File")
    assert disk is not None
    assert file is not None
    assert disk.get(f"{OVF}capacity") == str(10 * 2**30)
    assert disk.get(f"{OVF}fileRef") == file.get(f"{OVF}id")
    items = [
        {child.tag.removeprefix(RASD): child.text for child in item}
        for item in top.iter(f"{OVF}Item")
    ]
    kinds = {item["ResourceType"]: item for item in items}
    assert set(kinds) == {"3", "4", "10", "17", "20"}
    assert kinds["17"]["HostResource"] == "/disk/disk1"
    assert kinds["17"]["Parent"] == kinds["20"]["InstanceID"]
    for item in items:
        assert list(item) == sorted(item)  # the schema's order
