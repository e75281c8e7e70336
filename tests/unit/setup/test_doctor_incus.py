"""What scripts/doctor and lab.doctor say of Incus: not configured, unreachable, or ready."""

from __future__ import annotations

import json
import socket
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import yaml

from provision.commands import hostcheck
from provision.core.lab import Lab, Machine, Topology
from provision.providers.incus import preflight
from provision.setup import incus, incus_server
from provision.setup.report import ComputerReport, ProviderReport, as_json, as_text
from provision.setup.system import detect
from tests import json_schema
from tests.live.incus.daemon import client_certificate
from tests.unit.providers.fake_incus import FakeIncus, serving
from tests.unit.setup import samples

DEBIAN, MACOS = samples.SYSTEMS["Debian 13"], samples.SYSTEMS["Apple silicon"]
REMOTES = {
    "hall": {"addr": "https://127.0.0.1:1", "protocol": "incus", "project": "labs"},
    "local": {"addr": "unix://"},
}


@pytest.fixture(autouse=True)
def _no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A computer without Incus: its socket would be in a folder of this test."""
    for module in (incus, incus_server):
        monkeypatch.setattr(module, "SOCKETS", (tmp_path / "unix.socket",))
    for name in ("LAB_INCUS", "INCUS_SOCKET", "INCUS_CONF"):
        monkeypatch.delenv(name, raising=False)


def report(**environ: str) -> ProviderReport:
    return incus.report(incus.collect(DEBIAN, environ))


def test_no_server_is_configured() -> None:
    for system, words in ((DEBIAN, "sudo apt-get install incus"), (MACOS, "brew install incus")):
        found = incus.report(incus.collect(system, {}))
        assert (found.state, found.ready) == ("not configured", False)
        (problem,) = found.problems
        assert "LAB_INCUS is not set" in problem.what
        assert words in problem.hint
        assert "incus remote add NAME https://ADDRESS:8443 --token TOKEN" in problem.hint
        assert problem.hint.index("LAB_INCUS=NAME")


def test_a_remote_that_the_client_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(yaml.safe_dump({"remotes": REMOTES}))
    found = report(LAB_INCUS="class", INCUS_CONF=str(tmp_path))
    assert found.state == "not configured"
    assert found.problems[0].what == (
        f"LAB_INCUS is class, and {tmp_path}/config.yml has no such remote"
    )
    assert found.problems[0].hint.startswith("incus remote add class https://")


def test_an_unreachable_server_says_what_to_do_next(tmp_path: Path) -> None:
    path = tmp_path / "unix.socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))  # and no process accepts connections
        found = report()
    assert found.state == "unreachable"
    assert found.problems[0].what == f"Incus is unreachable at {path} (Connection refused)"
    assert found.problems[0].hint == "sudo systemctl start incus"
    found = report(LAB_INCUS="/nowhere/unix.socket")
    assert found.state == "unreachable"
    assert "at /nowhere/unix.socket (No such file" in found.problems[0].what


def test_a_remote_that_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(yaml.safe_dump({"remotes": REMOTES}))
    environ = {"LAB_INCUS": "hall", "INCUS_CONF": str(tmp_path)}
    found = report(**environ)
    assert found.state == "unreachable"
    assert "a certificate for the Incus remote hall" in found.problems[0].what
    assert "incus remote add hall" in found.problems[0].hint
    certificate, key = client_certificate()
    (tmp_path / "servercerts").mkdir()
    for name, text in (("client.crt", certificate), ("client.key", key)):
        (tmp_path / name).write_text(text)
    (tmp_path / "servercerts" / "hall.crt").write_text(certificate)
    found = report(**environ)
    assert found.state == "unreachable"
    assert found.problems[0].what == (
        "Incus is unreachable at remote hall (https://127.0.0.1:1) (Connection refused)"
    )
    assert "incus config get core.https_address" in found.problems[0].hint


def test_a_server_that_responds(tmp_path: Path) -> None:
    path = tmp_path / "unix.socket"
    fake = FakeIncus()
    with serving(fake, path):
        found = report()
        assert (found.state, found.ready, found.problems) == ("ready", True, ())
        assert report(LAB_INCUS=str(path)).ready
        (tmp_path / "config.yml").write_text(yaml.safe_dump({"remotes": REMOTES}))
        assert report(LAB_INCUS="local", INCUS_CONF=str(tmp_path)).ready
        fake.auth = "untrusted"
        found = report()
        assert found.state == "not ready"
        assert "does not trust this client's certificate" in found.problems[0].what
        fake.raw = b"<html>It works</html>"
        found = report()
        assert found.state == "not ready"
        assert "is not Incus: its response (HTTP 200)" in found.problems[0].what
    assert {method for method, _ in fake.requests} == {"GET"}, "nothing is changed"


def test_the_addresses_of_remotes_are_read_without_a_library() -> None:
    text = yaml.safe_dump({"default-remote": "hall", "remotes": REMOTES, "aliases": {"a": "b"}})
    assert incus.addresses(text) == {"hall": "https://127.0.0.1:1", "local": "unix://"}
    written = 'default-remote: local\nremotes:\n    hall:\n        addr: "https://h:8443"\n'
    assert incus.addresses(f"{written}        project: default\n") == {"hall": "https://h:8443"}
    assert incus.addresses("remotes: {}\naliases:\n  addr: x\n") == {}
    assert incus.addresses("") == {}


def test_the_state_is_printed(tmp_path: Path) -> None:
    own = incus.report(incus.collect(DEBIAN, {}))
    whole = ComputerReport(DEBIAN, "3.13.5", (), (own,), "incus", "from --provider")
    text = as_text(whole)
    assert "incus (system containers of an Incus server or cluster): not configured" in text
    assert "\n  missing: Incus is not configured" in text
    assert "next: incus remote add NAME" in text
    value = json.loads(json.dumps(as_json(whole)))
    assert value["providers"][0]["state"] == "not configured"
    assert list(json_schema.validate(value, json_schema.load("doctor.schema"))) == []


def test_lab_doctor_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = IPv4Network("192.168.56.0/24")
    machine = Machine("web-01", network[11], ("nginx",))
    lab = Lab("default", tmp_path, Topology("t", "foobar.com", network, (machine,)))
    for value in ("", "/nowhere/unix.socket"):
        monkeypatch.setenv("LAB_INCUS", value)
        told = preflight.problems(lab)
        own = incus.collect(detect()).problem
        assert told == [own]
        (row,) = hostcheck.rows("incus", told, "system containers of Incus")
        assert (row.provider, row.severity) == ("incus", "missing")
        assert "not configured" in row.what or "unreachable" in row.what
