"""Boxes: their content, and the OVF descriptor for VirtualBox."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from provision.core.errors import ProviderError, UsageError
from provision.core.lab import ROOT
from provision.core.package_set import PackageSet
from provision.engine.agent.process import ProcessResult
from provision.operations import offline
from provision.providers import image_recipe
from provision.providers.boxes import build, ovf, pack
from provision.providers.boxes.architecture import ARCHITECTURES, native
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
    for architecture in ARCHITECTURES:
        names = set(build.load_recipe(architecture).packages)
        assert set(data["packages"]) < names
        kernels = {name for name in names if name.startswith("linux-image-")}
        assert kernels == {f"linux-image-{architecture}"}
    assert not set(data["box"]) & set(image_recipe.load_recipe().packages)


def test_a_minimal_box_has_its_own_packages_and_no_systemd() -> None:
    data = yaml.safe_load(image_recipe.RECIPE.read_text())
    for architecture in ARCHITECTURES:
        names = set(build.load_recipe(architecture, minimal=True).packages)
        assert names == set(data["box-minimal"]) | set(data[f"box-{architecture}"])
        assert "busybox-static" in names
        assert not names & {"systemd", "systemd-sysv", "initramfs-tools", "udev"}


def test_a_minimal_box_takes_no_packages_of_roles() -> None:
    with pytest.raises(UsageError, match="a minimal box has no packages of roles") as error:
        build.build("virtualbox", quiet, "amd64", PackageSet(("nginx",)), minimal=True)
    assert error.value.hint == "omit --topologies or --minimal"


def test_the_name_of_a_disk_depends_on_each_of_its_inputs() -> None:
    none, nginx, mysql = PackageSet(), PackageSet(("nginx",)), PackageSet((), ("mysql-server",))
    names = {
        build.disk_key(RECIPE, "amd64", none),
        build.disk_key(RECIPE, "arm64", none),
        build.disk_key(RECIPE, "amd64", nginx),
        build.disk_key(RECIPE, "amd64", mysql),
        build.disk_key(replace(RECIPE, packages=("sudo",)), "amd64", none),
        build.disk_key(replace(RECIPE, suite="forky"), "amd64", none),
        build.disk_key(RECIPE, "amd64", none, minimal=True),
    }
    assert len(names) == 7
    again = replace(RECIPE, mirror="http://another.example/debian")
    assert build.disk_key(RECIPE, "amd64", none) == build.disk_key(again, "amd64", none)


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
    monkeypatch.setattr(build, "native", lambda: "amd64")
    amd64 = replace(ARCHITECTURES["amd64"], files={Path("/nowhere"): "grub-pc-bin"})
    monkeypatch.setitem(ARCHITECTURES, "amd64", amd64)
    with pytest.raises(ProviderError, match="not installed: fdisk, grub-pc-bin"):
        build.build("libvirt", quiet, "amd64")
    monkeypatch.setattr(build, "is_installed", lambda name: name in ("mmdebstrap", "mke2fs"))
    with pytest.raises(ProviderError, match="dosfstools, fdisk, mtools, qemu-user-static, qemu-ut"):
        build.build("virtualbox", quiet, "arm64")
    monkeypatch.setattr(build, "native", lambda: "arm64")
    assert "qemu-user-static" not in build.missing_packages(ARCHITECTURES["arm64"])
    with pytest.raises(UsageError, match="no boxes for the architecture 'riscv64'") as error:
        build.build("libvirt", quiet, "riscv64")
    assert error.value.hint == "choose from amd64, arm64"


@pytest.mark.parametrize(
    ("machine", "name"),
    [("x86_64", "amd64"), ("aarch64", "arm64"), ("arm64", "arm64"), ("riscv64", "")],
)
def test_the_architecture_of_a_host(machine: str, name: str) -> None:
    assert native(machine) == name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_architecture_has_a_script_that_writes_its_disk(name: str) -> None:
    script = build.HERE / f"boot-{name}.sh"
    syntax = subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False)
    assert syntax.returncode == 0, syntax.stderr
    text = script.read_text()
    used = f"{text} {(build.HERE / 'build-disk.sh').read_text()}"
    for program in ARCHITECTURES[name].programs:
        assert program in used
    for word in ("boot_modules=", "boot_console=", "write_disk() {"):
        assert f"\n{word}" in text


@pytest.mark.parametrize("minimal", [False, True])
def test_each_userland_has_a_script_that_configures_it(minimal: bool) -> None:
    script = build.HERE / f"userland-{build._userland(minimal)}.sh"
    syntax = subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False)
    assert syntax.returncode == 0, syntax.stderr
    text = script.read_text()
    for word in ("kernel_options=", "prepare_initramfs() {", "configure_userland() {"):
        assert f"\n{word}" in text


def test_the_input_of_a_build_has_the_key_and_the_sources_of_the_roles() -> None:
    packed = build._archive({"key": "private", "etc/apt/preferences.d/lab-sid": "Pin: x"})
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        modes = {member.name: member.mode for member in tar}
    assert modes == {"key": 0o600, "etc/apt/preferences.d/lab-sid": 0o644}


def test_the_packages_of_topologies_are_those_of_all_their_machines() -> None:
    names = offline.listed("simple, secured,simple", ROOT)
    assert names == ["simple", "secured"]
    assert offline.listed("", ROOT) == []
    assert set(offline.listed("all", ROOT)) == {"simple", "distributed", "secured", "scaled"}
    packages = offline.union(names, ROOT)
    assert {"haproxy", "nginx", "prometheus"} <= set(packages.packages)
    assert "mysql-server" in packages.sid
    assert offline.union([], ROOT) == PackageSet()
    with pytest.raises(UsageError, match="unknown topology 'large'"):
        offline.listed("simple,large", ROOT)


def packed(
    provider: str, tmp_path: Path, architecture: str = "amd64", *, key: bool = True
) -> dict[str, tuple[int, bytes]]:
    """The files of a box: mode and content by name."""
    (tmp_path / "disk.qcow2").write_bytes(b"qcow2")
    if key:
        (tmp_path / "key").write_text("private")
    pack.pack(provider, architecture, tmp_path, tmp_path / "a.box")
    with tarfile.open(tmp_path / "a.box") as tar:
        read = {m.name: (m.mode, tar.extractfile(m)) for m in tar}
        return {name: (mode, file.read()) for name, (mode, file) in read.items() if file}


def test_a_box_for_libvirt(tmp_path: Path) -> None:
    files = packed("libvirt", tmp_path)
    assert set(files) == {"metadata.json", "Vagrantfile", "key", "box.img"}
    metadata = json.loads(files["metadata.json"][1])
    assert (metadata["provider"], metadata["format"]) == ("libvirt", "qcow2")
    assert metadata["architecture"] == "amd64"
    arm = json.loads(packed("libvirt", tmp_path, "arm64")["metadata.json"][1])
    assert arm["architecture"] == "arm64"
    assert metadata["virtual_size"] == 10
    assert files["box.img"][1] == b"qcow2"
    assert files["key"] == (0o600, b"private")
    assert b'private_key_path = File.expand_path("key", __dir__)' in files["Vagrantfile"][1]


def test_a_minimal_box_accepts_the_keys_of_vagrant_and_suits_emulated_processors(
    tmp_path: Path,
) -> None:
    files = packed("libvirt", tmp_path, key=False)
    assert set(files) == {"metadata.json", "Vagrantfile", "box.img"}
    text = files["Vagrantfile"][1].decode()
    assert "private_key_path" not in text
    assert '"VBoxInternal/TM/TSCMode", "RealTSCOffset"' in text
    assert [line.split()[0] for line in build.VAGRANT_KEYS.splitlines()] == [
        "ssh-rsa",
        "ssh-ed25519",
    ]


def test_a_box_for_virtualbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(action: str, argv: list[str | Path], *, root: bool) -> ProcessResult:
        assert "subformat=streamOptimized" in argv
        assert not root
        Path(argv[-1]).write_bytes(b"vmdk!")
        return ProcessResult(0, "", "")

    monkeypatch.setattr(pack, "run", convert)
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


def test_the_descriptor_of_a_machine_for_arm64_has_virtualboxs_own_settings() -> None:
    """VirtualBox imports it in a test on virtual machines."""
    vbox = "{http://www.virtualbox.org/ovf/machine}"
    plain = "{http://schemas.dmtf.org/ovf/envelope/1}"
    text = ovf.render_descriptor("debian-13", "disk.vmdk", 123, 10240, "arm64")
    top = ElementTree.fromstring(text)
    system = top.find(f"{OVF}VirtualSystem")
    disk = top.find(f"{OVF}DiskSection/{OVF}Disk")
    assert system is not None
    assert disk is not None
    assert system.findtext(f"{OVF}OperatingSystemSection/{vbox}OSType") == "Debian_arm64"
    machine = system.find(f"{vbox}Machine")
    assert machine is not None
    platform = machine.find(f"{plain}Platform")
    firmware = machine.find(f"{plain}Hardware/{plain}Firmware")
    image = next(machine.iter(f"{plain}Image"))
    assert platform is not None
    assert firmware is not None
    assert (platform.get("architecture"), firmware.get("type")) == ("ARM", "EFI")
    assert image.get("uuid") == f"{{{disk.get(f'{vbox}uuid')}}}"
    amd64 = ElementTree.fromstring(ovf.render_descriptor("debian-13", "disk.vmdk", 123, 10240))
    assert amd64.find(f"{OVF}VirtualSystem/{vbox}Machine") is None
