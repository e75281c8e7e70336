"""The lab on virtual machines with kernels of their own, by Vagrant and libvirt.

Where the processor offers no virtualisation, QEMU calculates every instruction: minutes, not
seconds. One story in order, since booting is the dear part.
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
from pathlib import Path

import pytest

from provision.commands.base import session
from provision.core.lab import ROOT
from provision.providers.vagrant import record
from provision.topology import labs

pytestmark = [pytest.mark.vm, pytest.mark.timeout(3600)]

INVOKE = str(Path(sys.executable).with_name("invoke"))
NAME = "v-proof"


@dataclass
class Proof:
    """The lab, and how long each command took.

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
        """Run Vagrant by hand, as its users do; what it said."""
        started = time.monotonic()
        place = str(Path(".lab", NAME, "vagrant"))
        done = subprocess.run(
            ["vagrant", *words],
            cwd=ROOT,
            env={**self.env, "LAB_NAME": NAME, "VAGRANT_DOTFILE_PATH": place},
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=2400,
            check=False,
        )
        said = done.stdout + done.stderr
        print(f"[{time.monotonic() - started:.0f} s] vagrant {' '.join(words)}\n{said}", flush=True)
        assert done.returncode == 0, said
        return said

    def invoke(self, *words: str, ok: bool = True) -> str:
        """Run a task that has to succeed, or to fail; what it said."""
        started = time.monotonic()
        done = self.run(*words)
        said = done.stdout + done.stderr
        print(f"[{time.monotonic() - started:.0f} s] {' '.join(words)}\n{said}", flush=True)
        assert "Traceback" not in said, said
        assert (done.returncode == 0) == ok, said
        return said


@pytest.fixture(scope="module")
def proof(libvirt: None) -> Iterator[Proof]:
    """A box in a Vagrant home of its own, and a name for a lab; both are gone afterwards.

    The home is not pytest's temporary folder: other runs of pytest clear the older ones away.
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
    """One machine was made by hand, as Vagrant's users do; lab.up makes the others."""
    here, _ = labs.open_lab(NAME)
    proof.env["LAB_NETWORK"] = str(here.network)
    proof.vagrant("up", "web-02")
    said = proof.invoke("lab.up", "--provider", "vagrant", "--network", str(here.network))
    assert "provider vagrant (as --provider says)" in said
    assert "is www.foobar.com, through lb-01" in said
    kernel = proof.invoke("lab.ssh", "web-01", "--", "uname", "-r")
    assert "amd64" in kernel
    assert os.uname().release not in kernel
    _checks_pass(proof)


def test_a_second_run_changes_nothing(proof: Proof) -> None:
    assert proof.invoke("lab.up").count(" 0 changed") == 3


def test_a_snapshot_brings_back_what_was_broken(proof: Proof) -> None:
    proof.invoke("lab.snapshot", "before")
    assert "before" in proof.invoke("lab.snapshots").splitlines()
    refused = proof.invoke("lab.snapshot", "before", ok=False)
    assert "there is a snapshot before already" in refused
    proof.invoke("lab.ssh", "lb-01", "--", "sudo", "rm", "-rf", "/etc/haproxy")
    proof.invoke("lab.ssh", "lb-01", "--", "sudo", "systemctl", "stop", "haproxy")
    proof.invoke("lab.check", ok=False)
    proof.invoke("lab.restore", "before")
    _checks_pass(proof)
    assert proof.invoke("lab.up").count(" 0 changed") == 3


def test_machines_come_back_from_a_reboot_as_they_were(proof: Proof) -> None:
    asked = ("--", "cat", "/proc/sys/kernel/random/boot_id")
    names = ("lb-01", "web-02", "web-01")
    boots = {name: proof.invoke("lab.ssh", name, *asked).split()[-1] for name in names}
    for name in names:
        # ends with 0 or with a cut connection, whichever comes first
        proof.run("lab.ssh", name, "--", "sudo", "systemctl", "reboot")
    for name in names:
        deadline = time.monotonic() + 900
        while True:
            assert time.monotonic() < deadline, f"{name} is not back after its reboot"
            done = proof.run("lab.ssh", name, *asked)
            if done.returncode == 0 and done.stdout.split()[-1] != boots[name]:
                break
            time.sleep(3)
    _checks_pass(proof, 600)


def test_halted_machines_come_back_with_their_data(proof: Proof) -> None:
    """One is started by hand, as Vagrant's users do; lab.up starts the others."""
    proof.invoke("lab.halt")
    now = session(NAME)
    assert set(now.provider.state(now.lab).values()) == {"halted"}
    proof.vagrant("up", "lb-01")
    assert re.search(r"^lb-01 +running", proof.vagrant("status"), re.MULTILINE)
    assert proof.vagrant("ssh", "lb-01", "-c", "hostname").split()[-1] == "lb-01"
    assert proof.invoke("lab.up").count(" 0 changed") == 3


def test_destroy_leaves_nothing(proof: Proof) -> None:
    now = session(NAME)
    proof.invoke("lab.destroy", "--yes")
    assert record.made(now.lab) == {}
    assert NAME not in labs.labs()
    listed = subprocess.run(
        ["virsh", "-c", "qemu:///system", "list", "--all", "--name"],
        text=True, capture_output=True, check=True,
    )  # fmt: skip
    assert now.lab.id not in listed.stdout


def _checks_pass(proof: Proof, seconds: float = 300) -> None:
    """All named checks, as soon as services are back."""
    deadline = time.monotonic() + seconds
    while True:
        done = proof.run("lab.check")
        if done.returncode == 0:
            return
        assert time.monotonic() < deadline, done.stdout + done.stderr
        time.sleep(5)
