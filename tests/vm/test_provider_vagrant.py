"""The lab on virtual machines, with Vagrant and libvirt.

Without KVM, QEMU emulates the processor and a boot takes minutes, so the tests share one lab and
run in order.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from provision.commands.base import open_session
from provision.core.lab import ROOT
from provision.core.state import lab_names
from provision.core.waiting import wait_until
from provision.providers.vagrant import record
from provision.topology import labs

pytestmark = [pytest.mark.vm, pytest.mark.timeout(3600)]

INVOKE = str(Path(sys.executable).with_name("invoke"))
NAME = "v-proof"
READ_BOOT_ID = ("--", "cat", "/proc/sys/kernel/random/boot_id")


@dataclass
class Proof:
    """The lab, and the duration of each command.

    Args:
        env: the environment of the commands.
    """

    env: dict[str, str]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a task to its end."""
        rest = list(words[words.index("--") :]) if "--" in words else []
        front = list(words[: len(words) - len(rest)])
        return subprocess.run(
            [INVOKE, *front, "--lab", NAME, *rest],
            cwd=ROOT,
            env=self.env,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=2400,
            check=False,
        )

    def vagrant(self, *words: str) -> str:
        """Run Vagrant directly, as its users do; returns its output."""
        started = time.monotonic()
        place = str(Path(".lab", NAME, "vagrant"))
        result = subprocess.run(
            ["vagrant", *words],
            cwd=ROOT,
            env={**self.env, "LAB_NAME": NAME, "VAGRANT_DOTFILE_PATH": place},
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=2400,
            check=False,
        )
        output = result.stdout + result.stderr
        print(
            f"[{time.monotonic() - started:.0f} s] vagrant {' '.join(words)}\n{output}", flush=True
        )
        assert result.returncode == 0, output
        return output

    def invoke(self, *words: str, ok: bool = True) -> str:
        """Run a task that must succeed (or fail); returns its output."""
        started = time.monotonic()
        result = self.run(*words)
        output = result.stdout + result.stderr
        print(f"[{time.monotonic() - started:.0f} s] {' '.join(words)}\n{output}", flush=True)
        assert "Traceback" not in output, output
        assert (result.returncode == 0) == ok, output
        return output


@pytest.fixture(scope="module")
def proof(libvirt: None) -> Iterator[Proof]:
    """A box in a separate Vagrant home, and a lab; both are removed at the end.

    The home is not in pytest's temporary folder, which other runs of pytest clear.
    """
    home = ROOT / ".lab" / ".vm-tests"
    env = {
        **os.environ,
        "VAGRANT_HOME": str(home),
        "VAGRANT_DEFAULT_PROVIDER": "libvirt",
        "LAB_PATIENCE": os.environ.get("LAB_PATIENCE", "10"),
    }
    one = Proof(env)
    try:
        subprocess.run([INVOKE, "box.build"], cwd=ROOT, env=env, check=True)
        yield one
    finally:
        directory = ROOT / ".lab" / NAME
        if (directory / "state.json").exists():
            subprocess.run(
                [INVOKE, "lab.destroy", "--yes", "--lab", NAME], cwd=ROOT, env=env, check=False
            )
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)


def test_the_lab_comes_up_on_virtual_machines(proof: Proof) -> None:
    """One machine is created with ``vagrant up``; lab.up creates the others."""
    here, _ = labs.open_lab(NAME)
    proof.env["LAB_NETWORK"] = str(here.network)
    proof.vagrant("up", "web-02")
    output = proof.invoke("lab.up", "--provider", "vagrant", "--network", str(here.network))
    assert "provider vagrant (from --provider)" in output
    assert "is www.foobar.com, through lb-01" in output
    kernel = proof.invoke("lab.ssh", "web-01", "--", "uname", "-r")
    assert "amd64" in kernel
    assert os.uname().release not in kernel
    _checks_pass(proof)


def test_a_second_run_changes_nothing(proof: Proof) -> None:
    assert proof.invoke("lab.up").count(" 0 changed") == 3


def test_a_restored_snapshot_repairs_the_lab(proof: Proof) -> None:
    proof.invoke("lab.snapshot", "before")
    assert "before " in proof.invoke("lab.snapshots")
    refused = proof.invoke("lab.snapshot", "before", ok=False)
    assert "snapshot before already exists" in refused
    proof.invoke("lab.ssh", "lb-01", "--", "sudo", "rm", "-rf", "/etc/haproxy")
    proof.invoke("lab.ssh", "lb-01", "--", "sudo", "systemctl", "stop", "haproxy")
    proof.invoke("lab.check", ok=False)
    proof.invoke("lab.restore", "before")
    _checks_pass(proof)
    assert proof.invoke("lab.up").count(" 0 changed") == 3


def test_machines_work_after_a_reboot(proof: Proof) -> None:
    names = ("lb-01", "web-02", "web-01")
    boots = {name: proof.invoke("lab.ssh", name, *READ_BOOT_ID).split()[-1] for name in names}
    for name in names:
        # exits with 0, or with a lost connection
        proof.run("lab.ssh", name, "--", "sudo", "systemctl", "reboot")
    for name in names:
        wait_until(
            partial(_has_rebooted, proof, name, boots[name]), 900, f"{name} to reboot", interval=3
        )
    _checks_pass(proof, 600)


def test_halted_machines_keep_their_data(proof: Proof) -> None:
    """One is started with ``vagrant up``; lab.up starts the others."""
    proof.invoke("lab.halt")
    session = open_session(NAME)
    assert set(session.provider.state(session.lab).values()) == {"halted"}
    proof.vagrant("up", "lb-01")
    assert re.search(r"^lb-01 +running", proof.vagrant("status"), re.MULTILINE)
    assert proof.vagrant("ssh", "lb-01", "-c", "hostname").split()[-1] == "lb-01"
    assert proof.invoke("lab.up").count(" 0 changed") == 3


def test_destroy_removes_everything(proof: Proof) -> None:
    session = open_session(NAME)
    proof.invoke("lab.destroy", "--yes")
    assert record.created_machines(session.lab) == {}
    assert NAME not in lab_names()
    listed = subprocess.run(
        ["virsh", "-c", "qemu:///system", "list", "--all", "--name"],
        text=True, capture_output=True, check=True,
    )  # fmt: skip
    assert session.lab.id not in listed.stdout


def _checks_pass(proof: Proof, seconds: float = 300) -> None:
    """All checks pass once the services have started."""
    wait_until(
        lambda: proof.run("lab.check").returncode == 0, seconds, "all checks to pass", interval=5
    )


def _has_rebooted(proof: Proof, name: str, boot_id: str) -> bool:
    result = proof.run("lab.ssh", name, *READ_BOOT_ID)
    return result.returncode == 0 and result.stdout.split()[-1] != boot_id
