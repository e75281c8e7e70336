"""Boxes: their content, and the OVF descriptor for VirtualBox."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from provision.core.errors import ProviderError, UsageError
from provision.engine.agent.process import ProcessResult
from provision.providers import image_recipe
from provision.providers.boxes import build, ovf
from provision.providers.image_recipe import Recipe

RECIPE = Recipe("trixie", ("linux-image-amd64", "sudo"), "http://mirror.example/debian", ())
OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
RASD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"


def quiet(machine: str, doing: str) -> None:
    """Discard progress."""


def test_a_box_has_the_packages_of_containers_and_those_for_virtual_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAB_MIRROR", RECIPE.mirror)
    data = yaml.safe_load(image_recipe.RECIPE.read_text())
    assert all(isinstance(reason, str) and reason for reason in data["box"].values())
    names = set(build.load_recipe().packages)
    assert set(data["packages"]) < names
    assert "linux-image-amd64" in names
    assert not set(data["box"]) & set(image_recipe.load_recipe().packages)


def test_the_name_of_a_disk_depends_on_each_of_its_inputs() -> None:
    names = {
        build.disk_key(RECIPE),
        build.disk_key(replace(RECIPE, packages=("sudo",))),
        build.disk_key(replace(RECIPE, suite="forky")),
    }
    assert len(names) == 3
    assert build.disk_key(RECIPE) == build.disk_key(replace(RECIPE))


def test_the_name_of_a_box_depends_on_how_it_is_packed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = build._box_key("disk")
    assert before == build._box_key("disk") != build._box_key("another")
    changed = tmp_path / "ovf.py"
    changed.write_text(Path(ovf.__file__).read_text() + "# another descriptor\n")
    monkeypatch.setattr(ovf, "__file__", str(changed))
    assert build._box_key("disk") != before


def test_unknown_providers_and_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no boxes for 'vmware'"):
        build.build("vmware", quiet)
    monkeypatch.setattr(build, "is_installed", lambda name: name != "sfdisk")
    monkeypatch.setattr(build, "GRUB", Path("/nowhere"))
    with pytest.raises(ProviderError, match="not installed: fdisk, grub-pc-bin"):
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
    def convert(action: str, argv: list[str | Path], *, root: bool) -> ProcessResult:
        assert "subformat=streamOptimized" in argv
        assert not root
        Path(argv[-1]).write_bytes(b"vmdk!")
        return ProcessResult(0, "", "")

    monkeypatch.setattr(build, "run", convert)
    files = packed("virtualbox", tmp_path)
    assert set(files) == {"metadata.json", "Vagrantfile", "key", "box.ovf", "disk.vmdk"}
    assert json.loads(files["metadata.json"][1])["provider"] == "virtualbox"
    assert b"config.vm.base_mac" in files["Vagrantfile"][1]
    assert b'ovf:href="disk.vmdk" ovf:size="5"' in files["box.ovf"][1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.box", "disk.qcow2", "key"]


def test_the_descriptor_of_a_machine() -> None:
    top = ElementTree.fromstring(ovf.render_descriptor("debian-13", "disk.vmdk", 123, 10240))
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
