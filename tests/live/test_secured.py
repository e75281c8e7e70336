"""The topology ``secured``: changing to it and back, and errors that stop lab.up."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from provision.core.lab import ROOT
from provision.core.pki import CertificateAuthority
from provision.services.tls import interface
from tests.live.conftest import RunningLab
from tests.live.secured import machines, planned

pytestmark = pytest.mark.live

FOLDERS = ("/etc", "/usr/local", "/var/lib/foobar-lab", "/var/lib/prometheus", "/run/foobar-lab")
NAMES = (
    *("firewall*.json", "firewall.nft", "lab-firewall*", "lab-tls*", "*lab-hardening.conf"),
    *("lab-sandbox.conf", "sandbox-*", "lab-alerts.*", "lab-monitor.*", "lab-facts.*"),
    *("lab_facts*", "mysqld-exporter.cnf", "lab-rules.yml", "lab-alertmanager.yml"),
)
"""Files of this topology only. Prometheus' old data stays in its own folder."""

LEFT = [word for name in NAMES for word in ("-o", "-name", name)][1:]
MONITORING = {9000, 9090, 9093, 9099, 9100, 9104, 9113}


def listening(lab: RunningLab, machine: str) -> set[int]:
    """The TCP ports with a listener."""
    lines = lab.out(machine, "ss", "-Hltn").splitlines()
    return {int(line.split()[3].rpartition(":")[2]) for line in lines}


def test_a_second_run_changes_nothing(secured_lab: RunningLab) -> None:
    assert planned(secured_lab) == ""
    assert "0 changed" in secured_lab.up().stdout


def test_change_to_distributed_and_back(secured_lab: RunningLab) -> None:
    note = {"author": "Ada", "text": "stays"}
    with requests.Session() as http:
        http.trust_env = False
        http.verify = str(secured_lab.session().lab.directory / "ca.pem")
        made = http.post(f"{secured_lab.url}/api/notes", json=note, timeout=10).json()

    try:
        secured_lab.up("--topology", "distributed")
        nothing_is_left(secured_lab)
        with secured_lab.fleet() as fleet:
            hosts = [fleet.host(name) for name in machines(secured_lab)]
            for host in hosts:
                host.run("true")
            secured_lab.up("--topology", "secured")
            for host in hosts:
                assert host.run("true").ok, "a connection from before did not survive"
    finally:
        secured_lab.up("--topology", "secured")
    assert planned(secured_lab) == ""
    assert secured_lab.get(f"/api/notes/{made['id']}").json()["text"] == "stays"


def nothing_is_left(secured_lab: RunningLab) -> None:
    """No rules, files or open ports of this topology on any machine."""
    assert secured_lab.url.startswith("http://")
    assert planned(secured_lab) == ""
    assert secured_lab.get("/_monitor/").status_code == 404
    context = secured_lab.session().context
    with secured_lab.fleet() as fleet:
        for name, machine in machines(secured_lab).items():
            host = fleet.host(name)
            assert host.run("nft", "list", "ruleset").stdout == ""
            assert host.run("find", *FOLDERS, "-type", "f", "(", *LEFT, ")").stdout.split() == [], (
                name
            )
            assert not host.run("test", "-e", interface.FOLDER).ok
            assert not listening(secured_lab, name) & MONITORING
            assert not any(s.startswith("prometheus") for s in context.services(machine))
            if "nginx" in machine.roles:
                socket.create_connection((str(machine.address), 80), 2).close()
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((str(machine.address), 443), 2)
    result = secured_lab.invoke("monitor.show", check=False)
    assert result.returncode == 1
    assert f"invoke lab.up --lab {secured_lab.name} --topology secured" in result.stderr


# --- what stops it -------------------------------------------------------------------------------


def stopped(lab: RunningLab) -> str:
    """The error of lab.up, which has changed nothing."""
    result = lab.invoke("lab.up", check=False)
    assert result.returncode == 1, result.stdout
    assert result.stderr.count("error:") == 1
    return result.stderr


def test_lab_up_refuses_a_key_that_others_can_read(secured_lab: RunningLab) -> None:
    key = secured_lab.session().context.authority.key_path
    key.chmod(0o644)
    try:
        output = stopped(secured_lab)
    finally:
        key.chmod(0o600)
    assert str(key) in output
    assert "readable" in output or "open to others" in output or "0644" in output
    assert f"chmod 600 {key}" in output


def test_lab_up_refuses_a_missing_key(secured_lab: RunningLab) -> None:
    key = secured_lab.session().context.authority.key_path
    aside = key.rename(key.with_suffix(".aside"))
    try:
        output = stopped(secured_lab)
    finally:
        aside.rename(key)
    assert "the key of this lab's CA is missing" in output


LATE = """
import sys, time
real = time.time
time.time = lambda: real() + 7200
from invoke.main import program
program.run(sys.argv)
"""
"""Invoke on a computer whose clock is two hours ahead."""


def test_lab_up_refuses_a_wrong_clock(secured_lab: RunningLab) -> None:
    argv = [sys.executable, "-c", LATE, "lab.up", "--lab", secured_lab.name]
    result = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1, result.stdout
    assert result.stderr.count("error:") == 1
    assert (
        "this computer's clock seems to be wrong: compared with it, those of all machines are 2"
        in result.stderr
    )
    assert "timedatectl" in result.stderr
    assert planned(secured_lab) == ""


def test_a_certificate_older_than_its_authority_is_issued_again_and_reported(
    secured_lab: RunningLab, tmp_path: Path
) -> None:
    """The authority's certificate was lost and issued again: it is newer than the others."""
    session = secured_lab.session()
    copy = tmp_path / session.lab.name
    shutil.copytree(session.lab.directory / "secrets", copy / "secrets")
    earlier = CertificateAuthority(copy, lambda: datetime.now(UTC) - timedelta(hours=1))
    old, _ = earlier.issue(session.lab.site, [session.lab.address], [session.lab.site])
    shutil.copy(copy / "secrets" / f"{session.lab.site}.key", session.lab.directory / "secrets")
    (session.lab.directory / "certs" / f"{session.lab.site}.pem").write_text(old)
    output = secured_lab.up()
    warnings = re.findall(r"(?m)^.*older than its CA.*$", output.stdout + output.stderr)
    assert len(warnings) == 1, output.stdout + output.stderr
    assert f"the certificate of {session.lab.site} (valid from" in warnings[0]
    assert "it was replaced" in warnings[0]
    assert planned(secured_lab) == ""
    assert secured_lab.get("/version").status_code == 200
