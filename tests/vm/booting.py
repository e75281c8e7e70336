"""Boot a disk with QEMU and run one command over SSH."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tarfile
import time
from pathlib import Path

from provision.core.waiting import timeout_factor
from provision.providers.boxes import build


def unpack(box: Path, folder: Path) -> None:
    """Write the files of a box to a folder; its key, if it has one, is private, as ssh demands."""
    with tarfile.open(box) as file:
        for member in file:
            content = file.extractfile(member)
            assert content is not None
            with (folder / member.name).open("wb") as target:
                shutil.copyfileobj(content, target)
    if (folder / "key").exists():
        (folder / "key").chmod(0o600)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def qemu_like_virtualbox(
    disk: Path, port: int, console: Path, adapter: str = "e1000", memory: int = 1024
) -> list[str]:
    """The command line of QEMU with the BIOS, controller and adapter that VirtualBox emulates.

    Args:
        disk: a VMDK, which is not changed.
        port: see `output_over_ssh`.
        memory: in MiB.
    """
    return [
        "qemu-system-x86_64", "-M", "pc", "-cpu", "qemu64", "-m", str(memory), "-display", "none",
        "-device", "ich9-ahci,id=sata", "-device", "ide-hd,drive=disk,bus=sata.0",
        "-drive", f"file={disk},format=vmdk,snapshot=on,if=none,id=disk",
        "-netdev", f"user,id=nat,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
        "-device", f"{adapter},netdev=nat", "-serial", f"file:{console}",
    ]  # fmt: skip


def output_over_ssh(
    qemu: list[str], port: int, key: Path, console: Path, command: str, seconds: float
) -> list[str]:
    """Start QEMU, wait until a command succeeds over SSH, and stop QEMU.

    Args:
        qemu: forwards that port of the loopback interface to port 22 of the machine.
        key: the box's private key.
        console: where QEMU writes the serial console, for the error message.
        command: its stdout is returned, line by line.
        seconds: until the machine must respond, on a quiet host.
    """
    login = ["ssh", "-F", "none", "-i", str(key), "-p", str(port), "-o", "BatchMode=yes",
             "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={key}.known",
             "-o", "ConnectTimeout=60", f"{build.USER}@127.0.0.1", command]  # fmt: skip
    process = subprocess.Popen(qemu)
    try:
        started = time.monotonic()
        while True:
            result = subprocess.run(login, text=True, capture_output=True, check=False, timeout=300)
            took = time.monotonic() - started
            if result.returncode == 0:
                print(f"[{took:.0f} s] SSH")
                return result.stdout.splitlines()
            assert process.poll() is None, "QEMU has ended"
            text = console.read_text(errors="replace") if console.exists() else ""
            assert took < seconds * timeout_factor(), result.stderr + text[-4000:]
            time.sleep(1)
    finally:
        process.kill()
        process.wait()
