"""A host with VirtualBox and its kernel driver, emulated by QEMU, for tests of the user's way.

QEMU's software emulation offers AMD-V with nested paging, which VirtualBox uses. The host is built
once from Debian packages, and each run starts with a copy-on-write disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import shlex
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from provision.core.lab import ROOT
from provision.core.waiting import timeout_factor, wait_until
from provision.operations.bundle import wheels
from provision.providers import image_recipe
from provision.providers.lxc import paths
from provision.providers.lxc.images import HERE, NAMESPACES
from tests.vm.booting import free_port

SCRIPT = ROOT / "tests" / "vm" / "build-virtualbox-host.sh"
LOCK = ROOT / "requirements.lock"
DRIVERS = ("vboxdrv", "vboxnetadp", "vboxnetflt")
CHECKOUT = "/home/student/lab"
CPU = "EPYC-v4,+svm,+npt"
COMMAND_LINE = "root=/dev/vda rw mitigations=off nokaslr net.ifnames=0 console=ttyS0 quiet"


@dataclass(frozen=True)
class VirtualBoxHost:
    """The running host, as an SSH client sees it.

    Args:
        port: of the loopback interface.
        folder: with its private key.
    """

    port: int
    folder: Path

    def argv(self, command: str, user: str = "student") -> list[str]:
        """The command line of ssh that runs a shell command."""
        return ["ssh", "-F", "none", "-i", str(self.folder / "key"), "-p", str(self.port),
                "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
                "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
                "-o", "ConnectTimeout=30", f"{user}@127.0.0.1", command]  # fmt: skip

    def run(
        self, command: str, *, user: str = "student", ok: bool = True, seconds: float = 300
    ) -> str:
        """Run a shell command that must succeed (or fail); returns its output."""
        started = time.monotonic()
        result = subprocess.run(
            self.argv(command, user), text=True, capture_output=True, check=False,
            stdin=subprocess.DEVNULL, timeout=seconds * timeout_factor(),
        )  # fmt: skip
        output = result.stdout + result.stderr
        print(f"[{time.monotonic() - started:.0f} s] {command}\n{output}", flush=True)
        assert (result.returncode == 0) == ok, output
        return output

    def invoke(self, *words: str, ok: bool = True, seconds: float = 600) -> str:
        """Run a task in the checkout."""
        command = f"cd {CHECKOUT} && VAGRANT_CHECKPOINT_DISABLE=1 .venv/bin/invoke"
        output = self.run(f"{command} {shlex.join(words)}", ok=ok, seconds=seconds)
        assert "Traceback" not in output, output
        return output

    def load_drivers(self) -> None:
        """Load VirtualBox's kernel drivers: modprobe takes one at a time."""
        self.run("; ".join(f"modprobe {name}" for name in DRIVERS), user="root")

    def unload_drivers(self) -> None:
        """Remove VirtualBox's kernel drivers."""
        self.run(f"rmmod {' '.join(reversed(DRIVERS))}", user="root")

    def send(self, files: list[Path], base: Path, target: str) -> None:
        """Copy files, relative to a folder, to a folder of the host."""
        command = f"mkdir -p {target} && tar -C {target} -xf -"
        process = subprocess.Popen(self.argv(command), stdin=subprocess.PIPE)
        assert process.stdin is not None
        with tarfile.open(fileobj=process.stdin, mode="w|") as tar:
            for file in files:
                tar.add(file, str(file.relative_to(base)), recursive=False)
        process.stdin.close()
        assert process.wait() == 0


def build() -> Path:
    """The folder with the host's disk, which is built if it does not exist.

    The package pool is for machines of labs, so the host's packages are not recorded in it.
    """
    key = hashlib.sha256(SCRIPT.read_bytes()).hexdigest()[:16]
    folder = paths.cache() / "hosts" / key
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        settings = folder.with_name(f".apt.{key}")
        settings.write_text("\n".join([*image_recipe.apt_settings(), ""]))
        print("building a host with VirtualBox (two minutes)", flush=True)
        argv = ["flock", str(folder.with_name(f".lock.{key}")), *NAMESPACES, "sh", str(SCRIPT),
                str(folder), image_recipe.mirror(), str(settings), str(HERE)]  # fmt: skip
        subprocess.run(argv, check=False)
        settings.unlink()
        log = folder.with_name(f".log.{key}")
        assert folder.exists(), log.read_text(errors="replace")[-4000:] if log.exists() else ""
    return folder


@contextlib.contextmanager
def running(work: Path) -> Iterator[VirtualBoxHost]:
    """Boot the host, with the drivers of VirtualBox and a checkout with its .venv.

    Args:
        work: a folder for the copy-on-write disk.
    """
    folder, port = build(), free_port()
    disk = work / "host.qcow2"
    backing = ["-b", str(folder / "disk.qcow2"), "-F", "qcow2"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(disk)], check=True)
    network = f"user,id=nat,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"
    qemu = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", CPU,
            "-smp", "2", "-m", "4096", "-display", "none", "-serial", f"file:{work}/console",
            "-kernel", str(folder / "vmlinuz"), "-initrd", str(folder / "initrd"),
            "-append", COMMAND_LINE, "-drive", f"file={disk},if=virtio,cache=unsafe",
            "-netdev", network, "-device", "virtio-net-pci,netdev=nat",
            "-device", "virtio-rng-pci"]  # fmt: skip
    host = VirtualBoxHost(port, folder)
    process = subprocess.Popen(qemu, stderr=subprocess.DEVNULL)
    try:
        started = time.monotonic()
        wait_until(lambda: _responds(host, process), 300, "the host with VirtualBox", interval=3)
        print(f"[{time.monotonic() - started:.0f} s] SSH", flush=True)
        host.load_drivers()
        _install_checkout(host, work)
        yield host
    finally:
        process.kill()
        process.wait()
        disk.unlink(missing_ok=True)


def _responds(host: VirtualBoxHost, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "QEMU has ended"
    argv = host.argv("true", "root")
    return subprocess.run(argv, capture_output=True, check=False, timeout=120).returncode == 0


def _install_checkout(host: VirtualBoxHost, work: Path) -> None:
    """Copy the project, and create its .venv from wheels: the host has no network."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"],
        text=True, capture_output=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    host.send([ROOT / name for name in listed if (ROOT / name).exists()], ROOT, CHECKOUT)
    version = host.run("python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'").strip()
    folder = work / "wheels"
    wheels.download(folder, LOCK, "linux-amd64", version)
    host.send(sorted(folder.iterdir()), work, "/home/student")
    pip = ".venv/bin/pip install -q --no-index --find-links ~/wheels --no-deps --require-hashes"
    host.run(f"cd {CHECKOUT} && python3 -m venv .venv && {pip} -r {LOCK.name}", seconds=600)
