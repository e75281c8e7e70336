"""The box for VirtualBox is imported and cloned with VBoxManage, as Vagrant does it.

VBoxManage comes from Debian sid (contrib) and runs in its own root file system and namespaces.
Without its kernel driver it can neither start a machine nor create a host-only network. So these
tests import and clone with VBoxManage, and boot the disk with QEMU on equivalent hardware.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from provision.core.lab import ROOT
from provision.core.package_set import PackageSet
from provision.core.waiting import wait_until
from provision.providers import image_recipe
from provision.providers.boxes import build, ovf, pack
from provision.providers.lxc import paths
from provision.providers.lxc.images import NAMESPACES
from tests.vm.booting import free_port, output_over_ssh, qemu_like_virtualbox

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

PROGRAM = "/usr/lib/virtualbox/VBoxManage"
"""Not the script in /usr/bin, which prints a warning about the kernel driver first."""

BOX = Path("/root/box")
"""The folder of the box in VBoxManage's root file system."""

MAC = "080027000001"
DRIVER = ROOT / "tests" / "vm" / "virtualbox_import.rb"


@dataclass(frozen=True)
class VirtualBox:
    """VBoxManage in its own root file system.

    Args:
        root: that file system.
        pid: of the process that holds the namespaces; all processes in them end with it.
    """

    root: Path
    pid: int

    @property
    def enter(self) -> list[str]:
        """The command line prefix that enters the namespaces."""
        own = ["--mount", "--pid", "--net", "--root", "--wd=/root"]
        environ = ["HOME=/root", "USER=root", "LOGNAME=root", "PATH=/usr/bin:/usr/sbin", "LANG=C"]
        return ["nsenter", f"--target={self.pid}", *own, "--", "env", "-i", *environ]

    def manage(self, *words: str, ok: bool = True) -> str:
        """Run VBoxManage to its end; returns its output."""
        result = subprocess.run(
            [*self.enter, PROGRAM, *words],
            text=True, capture_output=True, timeout=300, check=False,
        )  # fmt: skip
        output = result.stdout + result.stderr
        assert (result.returncode == 0) == ok, f"VBoxManage {shlex.join(words)}\n{output}"
        return output

    def machine(self, name: str) -> dict[str, str]:
        """A machine's settings from ``showvminfo --machinereadable``."""
        lines = self.manage("showvminfo", name, "--machinereadable").splitlines()
        pairs = (line.partition("=") for line in lines if "=" in line)
        return {key.strip('"'): value.strip('"') for key, _, value in pairs}

    def processes(self) -> list[int]:
        """The processes in its root file system."""
        pids = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and os.path.samefile(entry / "root", self.root):  # noqa: PTH121
                    pids.append(int(entry.name))
        return pids


@pytest.fixture(scope="module")
def box() -> Iterator[tarfile.TarFile]:
    """The box for VirtualBox, built unless it exists."""
    built = build.build("virtualbox", lambda _machine, message: print(message), "amd64")
    with tarfile.open(built.file) as file:
        yield file


@pytest.fixture(scope="module")
def virtualbox(
    box: tarfile.TarFile, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VirtualBox]:
    """VirtualBox with the unpacked box; both are removed at the end."""
    assert os.geteuid() == 0, "the tests on virtual machines need root: sudo scripts/test --vm"
    folder = tmp_path_factory.mktemp("virtualbox")
    root = folder / "root"
    holder = None
    try:
        _bootstrap(root, folder / "apt.conf")
        _unpack(box, root / BOX.relative_to("/"))
        inside = (
            'mount -t proc proc "$1/proc" && mount -t tmpfs tmpfs "$1/tmp" && exec chroot "$1" '
        )
        holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child",
             "--net", "sh", "-c", inside + "cat", "sh", str(root)],
            stdin=subprocess.PIPE,  # it ends together with the tests
        )  # fmt: skip
        one = VirtualBox(root, _first(holder))
        yield one
        running = one.processes()
        assert one.pid in running
        holder.communicate()
        wait_until(lambda: not one.processes(), 20, "VirtualBox's processes to end")
    finally:
        if holder is not None:
            holder.communicate()
        shutil.rmtree(folder)
        assert str(folder) not in Path("/proc/self/mounts").read_text()


def _bootstrap(root: Path, settings: Path) -> None:
    """Install a small Debian sid with VirtualBox, without recommended packages."""
    settings.write_text(
        "\n".join([*image_recipe.apt_settings(), 'APT::Install-Recommends "false";', ""])
    )
    started = time.monotonic()
    result = subprocess.run(
        [*NAMESPACES, "mmdebstrap", "--mode=root", "--variant=apt", "--include=virtualbox",
         f"--aptopt={settings}",
         *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")),
         "sid", str(root), f"deb {image_recipe.mirror()} sid main contrib"],
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-4000:]
    print(f"[{time.monotonic() - started:.0f} s] a Debian sid with VirtualBox")


def _unpack(box: tarfile.TarFile, target: Path) -> None:
    target.mkdir()
    for member in box:
        content = box.extractfile(member)
        assert content is not None
        with (target / member.name).open("wb") as file:
            shutil.copyfileobj(content, file)


def _first(holder: subprocess.Popen[bytes]) -> int:
    """The process id of the holder of the namespaces, once it is in its root file system."""
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")

    def pid_after_chroot() -> int | None:
        assert holder.poll() is None, "the namespaces could not be created"
        pids = [int(word) for word in children.read_text().split()]
        with contextlib.suppress(OSError):
            if pids and Path(f"/proc/{pids[0]}/comm").read_text() == "cat\n":
                return pids[0]
        return None

    return wait_until(pid_after_chroot, 20, "VirtualBox's root file system")


# --- the box -------------------------------------------------------------------------------------


def test_vagrant_accepts_the_box(box: tarfile.TarFile, tmp_path: Path) -> None:
    """Vagrant unpacks and validates a box when it is added ("Box File Format")."""
    names = box.getnames()
    assert sorted(names) == ["Vagrantfile", "box.ovf", "disk.vmdk", "key", "metadata.json"]
    metadata = box.extractfile("metadata.json")
    assert metadata is not None
    assert json.load(metadata) == {"provider": "virtualbox", "architecture": "amd64"}
    env = {**os.environ, "VAGRANT_HOME": str(tmp_path), "VAGRANT_CHECKPOINT_DISABLE": "1"}
    for words in (["add", "--name", "lab/test", str(box.name)], ["list", "--machine-readable"]):
        result = subprocess.run(
            ["vagrant", "box", *words],
            env=env, cwd=tmp_path, text=True, capture_output=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
    assert ",box-name,lab/test\n" in result.stdout
    assert ",box-provider,virtualbox\n" in result.stdout
    shutil.rmtree(tmp_path / "boxes")  # pytest keeps its folders for a while, and this is large


def test_virtualbox_imports_the_box(virtualbox: VirtualBox) -> None:
    assert virtualbox.manage("--version").startswith("7.")
    dry = virtualbox.manage("import", "-n", str(BOX / "box.ovf"))
    assert 'Suggested OS type: "Debian_64"' in dry
    assert "source image=disk.vmdk" in dry
    output = virtualbox.manage("import", str(BOX / "box.ovf"), "--vsys", "0", "--vmname", "master")
    assert "Successfully imported the appliance." in output
    assert "warning" not in output.lower()
    settings = virtualbox.machine("master")
    assert settings["ostype"] == "Debian (64-bit)"
    assert (settings["memory"], settings["cpus"], settings["firmware"]) == ("1024", "1", "BIOS")
    assert (settings["longmode"], settings["ioapic"], settings["rtcuseutc"]) == ("on", "on", "on")
    assert (settings["nic1"], settings["nictype1"], settings["nic2"]) == ("nat", "82540EM", "none")
    assert settings["cableconnected1"] == "on"
    assert settings["storagecontrollertype0"] == "IntelAhci"
    assert settings["storagecontrollerbootable0"] == "on"
    assert "storagecontrollername1" not in settings
    assert settings["SATA-0-0"].endswith("/master/disk.vmdk")
    assert settings["VMState"] == "poweroff"
    medium = virtualbox.manage("showmediuminfo", "disk", settings["SATA-0-0"])
    assert f"{pack.SIZE_MIB} MBytes" in medium


def test_the_imported_disk_is_identical_to_the_built_one(virtualbox: VirtualBox) -> None:
    path = virtualbox.machine("master")["SATA-0-0"]
    key = build.disk_key(build.load_recipe("amd64"), "amd64", PackageSet())
    built = paths.cache() / "boxes" / key / "disk.qcow2"
    result = subprocess.run(
        ["qemu-img", "compare", str(built), str(virtualbox.root / path.lstrip("/"))],
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert result.stdout.strip() == "Images are identical.", result.stdout + result.stderr


def test_the_box_boots_on_hardware_like_that_of_virtualbox(
    box: tarfile.TarFile, tmp_path: Path
) -> None:
    """QEMU emulates the same BIOS, AHCI controller and E1000 adapter."""
    for name in ("key", "disk.vmdk"):
        content = box.extractfile(name)
        assert content is not None
        with (tmp_path / name).open("wb") as file:
            shutil.copyfileobj(content, file)
    (tmp_path / "key").chmod(0o600)
    port, console = free_port(), tmp_path / "console"
    qemu = qemu_like_virtualbox(tmp_path / "disk.vmdk", port, console)
    command = (
        "readlink /sys/class/net/eth0/device/driver; lsblk -dno NAME,TRAN /dev/sda; "
        "df --output=size --block-size=M / | tail -n 1; getent hosts $(hostname); "
        "sudo -n systemctl is-active networking ssh"
    )
    try:
        output = output_over_ssh(qemu, port, tmp_path / "key", console, command, 300)
    finally:
        (tmp_path / "disk.vmdk").unlink()
    driver, disk, size, own, *active = output
    assert driver.endswith("/drivers/e1000")
    assert disk.split() == ["sda", "sata"]
    assert int(size.strip(" M")) > 0.9 * pack.SIZE_MIB, "the file system fills the disk"
    assert own.split() == ["127.0.1.1", "debian"], "sudo asks no name server for it"
    assert active == ["active", "active"]


def test_machines_are_linked_clones_of_a_snapshot(virtualbox: VirtualBox) -> None:
    virtualbox.manage("snapshot", "master", "take", "base")
    for name, memory in (("web-01", "640"), ("web-02", "768")):
        words = ("--snapshot", "base", "--options", "link", "--name", name, "--register")
        virtualbox.manage("clonevm", "master", *words)
        # The further settings of the Vagrantfile.
        virtualbox.manage("modifyvm", name, "--memory", memory, "--cpus", "2")
        virtualbox.manage("modifyvm", name, "--natdnshostresolver1", "on", "--natdnsproxy1", "on")
        settings = virtualbox.machine(name)
        assert (settings["memory"], settings["cpus"]) == (memory, "2")
        disk = virtualbox.root / settings["SATA-0-0"].lstrip("/")
        assert f"/{name}/Snapshots/" in str(disk)
        assert disk.stat().st_size < 10 * 2**20, "a linked clone holds only the differences"
        medium = virtualbox.manage("showmediuminfo", "disk", settings["SATA-0-0"])
        assert "differencing" in medium
        assert virtualbox.machine("master")["SATA-ImageUUID-0-0"] != settings["SATA-ImageUUID-0-0"]
    macs = {virtualbox.machine(name)["macaddress1"] for name in ("master", "web-01", "web-02")}
    assert len(macs) == 3
    base = virtualbox.machine("master")["SATA-ImageUUID-0-0"]
    refused = virtualbox.manage("closemedium", "disk", base, "--delete", ok=False)
    assert "VBOX_E_OBJECT_IN_USE" in refused  # its clones depend on it
    for name in ("web-01", "web-02", "master"):
        virtualbox.manage("unregistervm", name, "--delete")
    assert virtualbox.manage("list", "vms") == ""
    assert virtualbox.manage("list", "hdds") == ""
    assert list((virtualbox.root / "root").glob("**/*.vbox")) == []


def test_virtualbox_imports_and_clones_the_machine_for_arm64(virtualbox: VirtualBox) -> None:
    """VirtualBox for Intel imports machines for ARM, and cannot start them; the disk is another."""
    folder = virtualbox.root / BOX.relative_to("/")
    size = (folder / "disk.vmdk").stat().st_size
    text = ovf.render_descriptor("debian-13", "disk.vmdk", size, pack.SIZE_MIB, "arm64")
    (folder / "arm64.ovf").write_text(text)
    words = ("--vsys", "0", "--vmname", "arm-master")
    output = virtualbox.manage("import", str(BOX / "arm64.ovf"), *words)
    assert "Successfully imported the appliance." in output
    settings = virtualbox.machine("arm-master")
    assert settings["platformArchitecture"] == "ARM"
    assert settings["ostype"] == "Debian (ARM 64-bit)"
    assert (settings["firmware"], settings["chipset"]) == ("EFI", "armv8virtual")
    assert (settings["nic1"], settings["nictype1"]) == ("nat", "virtio")
    assert settings["storagecontrollertype0"] == "VirtioSCSI"
    assert settings["VirtIO-0-0"].endswith("/arm-master/disk.vmdk")
    virtualbox.manage("snapshot", "arm-master", "take", "base")
    clone = ("--snapshot", "base", "--options", "link", "--name", "arm-web-01", "--register")
    virtualbox.manage("clonevm", "arm-master", *clone)
    names = ("--natdnshostresolver1", "on", "--natdnsproxy1", "on")
    virtualbox.manage("modifyvm", "arm-web-01", "--memory", "640", "--cpus", "2", *names)
    assert virtualbox.machine("arm-web-01")["platformArchitecture"] == "ARM"
    for name in ("arm-web-01", "arm-master"):
        virtualbox.manage("unregistervm", name, "--delete")


def test_vagrants_driver_creates_a_machine_from_the_box(
    virtualbox: VirtualBox, tmp_path: Path
) -> None:
    wrapper = tmp_path / "VBoxManage"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.join([*virtualbox.enter, PROGRAM])} "$@"\n')
    wrapper.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "VAGRANT_HOME": str(tmp_path)}
    result = subprocess.run(
        ["ruby", str(DRIVER), str(BOX / "box.ovf"), MAC],
        env=env, cwd=tmp_path, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    created = json.loads(result.stdout[result.stdout.index("{") :])
    assert created["snapshots"] == ["base"]
    assert (created["state"], created["mac"]) == ("poweroff", MAC)
    assert created["interfaces"]["1"] == {"type": "nat"}
    assert created["forwarded"] == "ssh,tcp,127.0.0.1,2222,,22"
    assert created["controllers"] == [["SATA", "IntelAhci", ["0"]]]
    assert len(created["machines"]) == 2
    assert "lab_web-01" in created["machines"]
    assert created["left"] == {}
    assert pack.VAGRANTFILE.count(f'config.vm.base_mac = "{MAC}"') == 1
