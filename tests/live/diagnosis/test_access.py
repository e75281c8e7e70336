"""Lockouts: one root cause, and `lab.rescue`, `lab.trust` and `lab.rebuild` restore access.

A fault is caused through the provider, so that it works however the machine is locked.
"""

from __future__ import annotations

import re

import pytest

from provision.operations.machine_access import run_as_root
from provision.operations.trust import HOST_KEY
from tests.live.conftest import RunningLab
from tests.live.diagnosis.conftest import assert_healthy, assert_repaired_by, diagnose

LOCKOUTS = {
    "sshd-masked": "systemctl stop ssh; systemctl mask ssh",
    "user-denied": "echo DenyUsers lab >/etc/ssh/sshd_config.d/01-x.conf; systemctl restart ssh",
    "invalid-sshd-config": "echo Nonsense yes >>/etc/ssh/sshd_config; systemctl restart ssh; true",
    "authorized-keys-empty": ": >/home/lab/.ssh/authorized_keys",
    "authorized-keys-mode": "chmod 0666 /home/lab/.ssh/authorized_keys",
    "eth0-down": "ip link set eth0 down",
    "no-sudoers": "rm /etc/sudoers.d/lab",
}


def as_root(lab: RunningLab, machine: str, command: str) -> str:
    """Run a shell command through the provider; returns its stdout."""
    return run_as_root(lab.session(), machine, "sh", "-c", command).stdout


def fingerprints(lab: RunningLab, machine: str) -> str:
    """The pinned host key of a machine."""
    session = lab.session()
    return session.provider.endpoints(session.lab)[machine].host_key


@pytest.mark.parametrize("fault", sorted(LOCKOUTS))
def test_lockout(repaired: RunningLab, fault: str) -> None:
    as_root(repaired, "web-02", LOCKOUTS[fault])
    cause = diagnose(repaired).assert_one_cause("web-02", "ssh", "machine/web-02")
    assert f"invoke lab.rescue --lab {repaired.name} web-02 --fix" in cause["next"]
    result = repaired.invoke("lab.rescue", "web-02", "--fix")
    assert "web-02: repaired " in result.stdout
    assert_healthy(repaired)


def test_rescue_runs_one_command(lab: RunningLab) -> None:
    result = lab.invoke("lab.rescue", "web-01", "--", "sh", "-c", 'echo "$USER:$HOME:$(id -u)"')
    assert result.stdout.strip() == ":/root:0"
    assert lab.invoke("lab.rescue", "web-01", "--", "false", check=False).returncode == 1


def test_changed_host_key_is_trusted_after_comparison(repaired: RunningLab) -> None:
    before = fingerprints(repaired, "web-02")
    new_key = f"rm /etc/ssh/ssh_host_*; ssh-keygen -qt ed25519 -N '' -f {HOST_KEY}; "
    as_root(repaired, "web-02", new_key + "systemctl restart ssh")
    cause = diagnose(repaired).assert_one_cause("web-02", "ssh", "machine/web-02")
    assert f"invoke lab.trust --lab {repaired.name} web-02" in cause["next"]
    failed = repaired.invoke("lab.ssh", "web-02", "--", "true", check=False)
    assert failed.returncode != 0
    assert "lab.trust" in repaired.invoke("lab.up", check=False).stderr

    unconfirmed = repaired.invoke("lab.trust", "web-02", check=False)
    assert unconfirmed.returncode == 2
    assert len(set(re.findall(r"SHA256:\S+", unconfirmed.stdout))) == 2
    assert fingerprints(repaired, "web-02") == before
    repaired.invoke("lab.trust", "web-02", "--yes")
    assert fingerprints(repaired, "web-02") != before
    assert_repaired_by(repaired, "lab.up")
    repaired.invoke("lab.ssh", "web-02", "--", "true")
    assert "nothing to do" in repaired.invoke("lab.trust", "web-02").stdout


def test_rescue_restores_the_pinned_host_key(repaired: RunningLab) -> None:
    before = fingerprints(repaired, "web-01")
    as_root(repaired, "web-01", "rm /etc/ssh/ssh_host_*; ssh-keygen -A; systemctl restart ssh")
    repaired.invoke("lab.rescue", "web-01", "--fix")
    assert fingerprints(repaired, "web-01") == before
    assert_healthy(repaired)


@pytest.mark.parametrize(
    ("machine", "fault"),
    [
        ("web-02", "true"),
        ("lb-01", "true"),
        ("web-02", "rm -rf /usr/lib/python3*"),
        ("web-02", "rm -rf /etc"),
    ],
)
def test_rebuild(repaired: RunningLab, machine: str, fault: str) -> None:
    as_root(repaired, machine, fault)
    if fault != "true":
        diagnose(repaired).assert_one_cause(machine, "ssh", f"machine/{machine}")
    repaired.invoke("lab.rebuild", machine, "--yes")
    assert_healthy(repaired)


def test_rebuild_refuses_the_primary(lab: RunningLab) -> None:
    result = lab.invoke("lab.rebuild", "web-01", "--yes", check=False)
    assert result.returncode == 2
    assert "is the primary" in result.stderr
    assert f"invoke db.promote --lab {lab.name} web-02" in result.stderr
    assert "--accept-data-loss" in result.stderr
    assert lab.invoke("lab.rebuild", "web-02", check=False).returncode == 2, "not confirmed"
    assert_healthy(lab)


def test_rebuilt_primary_becomes_a_replica(repaired: RunningLab) -> None:
    as_root(repaired, "web-01", "rm -rf /etc")
    try:
        repaired.invoke("lab.rebuild", "web-01", "--yes", "--accept-data-loss")
        assert repaired.session().state.primary == "web-02"
        assert_healthy(repaired)
    finally:
        repaired.invoke("db.promote", "web-01")


def test_killed_rebuild_is_finished_by_up(repaired: RunningLab) -> None:
    command = repaired.start("lab.rebuild", "web-02", "--yes")
    command.wait_for_output("creating the container")
    command.signal(9)
    command.wait()
    assert_repaired_by(repaired, "lab.up")
