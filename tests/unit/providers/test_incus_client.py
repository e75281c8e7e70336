"""The client of Incus' API, against a small server with real HTTP."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from provision.core.errors import LabError, ProviderError, UsageError
from provision.providers.incus import remote
from provision.providers.incus.client import IncusClient, IncusError
from provision.providers.incus.remote import Remote
from tests.unit.providers.fake_incus import FakeIncus, serving


@contextmanager
def client(tmp_path: Path, fake: FakeIncus) -> Iterator[IncusClient]:
    path = tmp_path / "incus.socket"
    with serving(fake, path):
        yield IncusClient(Remote("", str(path)))


def test_an_operation_is_waited_for(tmp_path: Path) -> None:
    fake = FakeIncus()
    fake.aliases["i"] = "f"
    fake.slow_waits = 3
    body = {"name": "a", "source": {"alias": "i"}, "config": {}}
    with client(tmp_path, fake) as asked:
        assert asked.post("/instances", body) == {}
        assert asked.exists("/instances/a")
        assert not asked.exists("/instances/b")
        asked.delete("/instances/b")
        fake.operation_error = "no space left"
        with pytest.raises(IncusError, match=r"^Incus at .*incus.socket: no space left$"):
            asked.post("/instances", {**body, "name": "c"})
    assert ("GET", "/1.0/operations/1/wait") in fake.requests


def test_a_stream_is_uploaded_in_chunks(tmp_path: Path) -> None:
    fake = FakeIncus()
    with client(tmp_path, fake) as asked:
        blocks = iter([b"x" * 100_000, b"y" * 5])
        assert asked.upload("/images", blocks, {}) == {"fingerprint": "f100005"}


def refusal(asked: IncusClient) -> LabError:
    with pytest.raises(LabError) as refused:
        asked.server()
    assert "\n" not in refused.value.what
    return refused.value


def test_a_server_that_cannot_be_used_is_described_in_one_message(tmp_path: Path) -> None:
    fake = FakeIncus()
    with client(tmp_path, fake) as asked:
        assert asked.server()["auth"] == "trusted"
        fake.auth = "untrusted"
        error = refusal(asked)
        assert "does not trust this client's certificate" in error.what
        assert "incus config trust add" in error.hint
        fake.auth = "trusted"
        fake.projects.clear()
        error = refusal(asked)
        assert error.what.endswith("has no project 'default'")
        assert "LAB_INCUS_PROJECT=" in error.hint
        fake.failures["GET", "/1.0"] = (403, "Certificate is restricted")
        error = refusal(asked)
        assert "Certificate is restricted" in error.what
        assert "may not use project default" in error.hint
        fake.raw = b"<html>It works</html>"
        assert "is not Incus" in refusal(asked).what
    error = refusal(asked)
    assert "is unreachable at" in error.what
    assert error.hint == "sudo systemctl start incus"
    (tmp_path / "incus.socket").unlink()
    error = refusal(asked)
    assert "No such file" in error.what
    assert "apt-get install incus" in error.hint
    assert "LAB_INCUS=NAME" in error.hint


def test_a_server_that_closes_the_connection(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        error = refusal(IncusClient(Remote("", str(path))))
    assert "is unreachable at" in error.what
    assert "refused" in error.what
    assert error.hint == "sudo systemctl start incus"


def test_a_remote_without_its_files(tmp_path: Path) -> None:
    error = refusal(IncusClient(Remote("class", "https://127.0.0.1:1", "default", str(tmp_path))))
    assert "a certificate for the Incus remote class" in error.what
    assert "incus remote add class" in error.hint


REMOTES = {
    "class": {"addr": "https://192.0.2.1:8443", "protocol": "incus", "project": "labs"},
    "images": {"addr": "https://images.example.com", "protocol": "simplestreams"},
    "local": {"addr": "unix://"},
}


def asked_for(folder: Path, **environ: str) -> Remote:
    return remote.requested({"INCUS_CONF": str(folder), **environ})


def test_the_environment_names_the_server(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(yaml.safe_dump({"remotes": REMOTES}))
    named = asked_for(tmp_path, LAB_INCUS="class")
    assert (named.prefix, asked_for(tmp_path, LAB_INCUS="local").prefix) == ("class:", "")
    assert (named.host, named.port, named.project, named.socket) == ("192.0.2.1", 8443, "labs", "")
    assert named.certificate == tmp_path / "client.crt"
    assert named.server_certificate == tmp_path / "servercerts" / "class.crt"
    assert asked_for(tmp_path, LAB_INCUS="class", LAB_INCUS_PROJECT="other").project == "other"
    assert asked_for(tmp_path, LAB_INCUS="/x/unix.socket").socket == "/x/unix.socket"
    assert asked_for(tmp_path, INCUS_SOCKET="/y").socket == "/y"
    assert asked_for(tmp_path, LAB_INCUS="local").socket == "/var/lib/incus/unix.socket"


@pytest.mark.parametrize(
    ("value", "what", "hint"),
    [
        ("clas", "did you mean class?", "incus remote add clas"),
        ("images", "is no server that can run machines", "incus remote list"),
        ("https://192.0.2.1:8443", "not the name of a remote", "incus remote add NAME"),
    ],
)
def test_a_server_that_is_not_known(tmp_path: Path, value: str, what: str, hint: str) -> None:
    (tmp_path / "config.yml").write_text(yaml.safe_dump({"remotes": REMOTES}))
    with pytest.raises(UsageError) as refused:
        asked_for(tmp_path, LAB_INCUS=value)
    assert what in refused.value.what
    assert hint in refused.value.hint


def test_a_damaged_configuration(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        asked_for(tmp_path, LAB_INCUS="class")
    assert "has: none" in refused.value.hint
    (tmp_path / "config.yml").write_text("remotes: [1")
    with pytest.raises(ProviderError, match=r"config\.yml cannot be read"):
        asked_for(tmp_path, LAB_INCUS="class")
