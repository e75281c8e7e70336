"""Questions to a name server, what its packets say, and the lab's block in a hosts file."""

from __future__ import annotations

import socket
import struct
import threading
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from provision.core.errors import LabError
from provision.core.lab import ROOT
from provision.engine.plan import Answer
from provision.services.dns import names
from provision.services.system.resolver import BANNER, Resolver, nameservers
from provision.topology import labs

HEADER = struct.Struct(">6H")
WWW = b"\x03www\x06foobar\x03com\x00"


def answer(number: int, *records: bytes, code: int = 0) -> bytes:
    """A packet as a name server makes it, its names pointing to the question's."""
    head = HEADER.pack(number, 0x8180 | code, 1, len(records), 0, 0)
    return head + WWW + struct.pack(">2H", 1, 1) + b"".join(records)


def record(kind: int, value: bytes, ttl: int = 30) -> bytes:
    return b"\xc0\x0c" + struct.pack(">2HIH", kind, 1, ttl, len(value)) + value


def test_the_question_as_rfc_1035_writes_it() -> None:
    packet = names.question(7, "www.foobar.com", "A")
    assert packet == HEADER.pack(7, 0x0100, 1, 0, 0, 0) + WWW + b"\x00\x01\x00\x01"


def test_an_address() -> None:
    code, records = names.understand(answer(7, record(1, bytes([10, 0, 0, 10]))), 7)
    assert code == "NOERROR"
    assert records == (names.Record("www.foobar.com", "A", "10.0.0.10", 30),)


def test_an_alias_and_a_name_that_does_not_exist() -> None:
    code, records = names.understand(answer(7, record(5, b"\x02lb\xc0\x10")), 7)
    assert (code, records[0].kind, records[0].value) == ("NOERROR", "CNAME", "lb.foobar.com")
    assert names.understand(answer(7, code=3), 7) == ("NXDOMAIN", ())


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        answer(8),
        answer(7, record(1, bytes([10, 0, 0, 10])))[:-1],
        HEADER.pack(7, 0x8180, 1, 1, 0, 0) + b"\xc0\x0c" + b"\0" * 20,  # points to itself
        HEADER.pack(7, 0x0100, 1, 0, 0, 0) + WWW + b"\0\1\0\1",  # a question
    ],
)
def test_what_is_no_answer_is_refused(packet: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        names.understand(packet, 7)


def test_asking_over_udp_and_nobody_answering() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]

        def reply() -> None:
            packet, client = server.recvfrom(512)
            (number,) = struct.unpack_from(">H", packet)
            server.sendto(answer(number, record(1, bytes([10, 0, 0, 10]))), client)

        thread = threading.Thread(target=reply)
        thread.start()
        got = names.ask("127.0.0.1", "www.foobar.com", port=port)
        thread.join()
        assert got.values("A") == ("10.0.0.10",)
        silent = names.ask("127.0.0.1", "www.foobar.com", port=port, timeout=0.05)
        assert (silent.code, silent.error) == ("", "no answer in time")


# --- hosts ---------------------------------------------------------------------------------------


def test_the_lines_of_the_default_topology() -> None:
    lab, _ = labs.open_lab("names", topology="distributed", network="10.1.2.0/24", root=ROOT)
    assert names.hosts_lines(lab) == [
        "10.1.2.10  www.foobar.com foobar.com",
        "10.1.2.10  lb-01.foobar.com",
        "10.1.2.11  web-01.foobar.com",
        "10.1.2.12  web-02.foobar.com",
    ]


BEFORE = "127.0.0.1 localhost\n# mine\n::1 localhost"


def test_written_again_written_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(BEFORE)
    path.chmod(0o640)
    assert names.change_hosts(path, ["10.0.0.1 a"], "two", "")
    first = path.read_text()
    assert first == f"{BEFORE}\n{names.BEGIN} (lab two)\n10.0.0.1 a\n{names.END}\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert not names.change_hosts(path, ["10.0.0.1 a"], "two", "")
    assert names.change_hosts(path, ["10.0.0.2 b"], "default", "")
    assert path.read_text() == first.replace("two", "default").replace("10.0.0.1 a", "10.0.0.2 b")
    assert names.lab_in_hosts(path.read_text()) == "default"
    assert names.change_hosts(path, [], "", "")
    assert path.read_text() == BEFORE + "\n"
    assert [p.name for p in tmp_path.iterdir()] == ["hosts"]


def test_windows_line_ends_stay() -> None:
    text = names.with_block("127.0.0.1 localhost\r\n", ["10.0.0.1 a"], "two")
    assert text.count("\n") == text.count("\r\n") == 4


@pytest.mark.parametrize(
    "text", [f"{names.BEGIN} (lab a)\n", f"{names.END}\n", f"{names.END}\n{names.BEGIN} (lab a)\n"]
)
def test_damaged_markers_are_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hosts"
    path.write_text(text)
    with pytest.raises(LabError, match="was left as it is"):
        names.change_hosts(path, ["10.0.0.1 a"], "two", "")
    assert path.read_text() == text


def test_without_the_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hosts"
    path.write_text(BEFORE)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("provision.services.dns.names.tempfile.mkstemp", refuse)
    with pytest.raises(LabError) as caught:
        names.change_hosts(path, ["10.0.0.1 a"], "two", "sudo invoke dns.hosts --write")
    assert "Permission denied; nothing was changed" in str(caught.value)
    assert caught.value.advice == "sudo invoke dns.hosts --write"
    assert path.read_text() == BEFORE


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="No such file"):
        names.change_hosts(tmp_path / "none", ["10.0.0.1 a"], "two", "")
    assert list(tmp_path.iterdir()) == []


# --- a machine's resolver ------------------------------------------------------------------------

NETWORK, GATEWAY = IPv4Network("10.0.0.0/24"), IPv4Address("10.0.0.1")


def resolver(*servers: str) -> Resolver:
    return Resolver(servers, NETWORK, GATEWAY)


def file(text: str) -> Answer:
    return {"type": "file", "content": text}


def test_the_labs_server_goes_before_those_that_were_there() -> None:
    before = "search example.org\nnameserver 10.0.0.1\nnameserver 192.0.2.53\n"
    wanted = resolver("10.0.0.10")
    assert wanted.differences(file(before))
    after = wanted.text(before)
    assert nameservers(after) == ("10.0.0.10", "10.0.0.1", "192.0.2.53")
    assert "search example.org" in after
    assert not wanted.differences(file(after))
    assert wanted.text(after) == after


def test_another_topologys_server_goes_and_none_puts_back() -> None:
    before = "nameserver 10.0.0.1\n"
    first = resolver("10.0.0.11").text(before)
    second = resolver("10.0.0.10")
    assert second.differences(file(first))
    assert nameservers(second.text(first)) == ("10.0.0.10", "10.0.0.1")
    assert resolver().differences(file(first))
    assert resolver().text(first) == before
    assert BANNER not in before


def test_a_server_in_the_wrong_place_is_moved() -> None:
    mixed = "nameserver 10.0.0.1\nnameserver 10.0.0.10\n"
    assert resolver("10.0.0.10").differences(file(mixed))


def test_a_link_is_another_programs() -> None:
    assert not resolver("10.0.0.10").differences({"type": "link", "target": "/run/x"})
