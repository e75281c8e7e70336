"""DNS lookups, the lab's block in a hosts file, and the resolver configuration of a machine."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from provision.core.errors import LabError
from provision.core.lab import ROOT
from provision.engine.agent.files import PathFacts
from provision.services.dns import hosts_file, lookup
from provision.services.system.resolver import BANNER, Resolver, nameservers
from provision.topology import labs

WWW = b"\x03www\x06foobar\x03com\x00"


def response(query: bytes, *records: bytes, code: int = 0) -> bytes:
    """The packet that a name server sends back; names point to the query (RFC 1035, 4.1.4)."""
    return (
        query[:2]
        + struct.pack(">5H", 0x8180 | code, 1, len(records), 0, 0)
        + QUESTION
        + b"".join(records)
    )


def record(kind: int, value: bytes, ttl: int = 30) -> bytes:
    return b"\xc0\x0c" + struct.pack(">2HIH", kind, 1, ttl, len(value)) + value


QUESTION = WWW + struct.pack(">2H", 1, 1)
ADDRESS = record(1, bytes([10, 0, 0, 10]))


def lookup_with(respond: Callable[[bytes], bytes]) -> lookup.DnsReply:
    """A lookup of the site's A record at a name server that sends this response to the query."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            packet, client = server.recvfrom(512)
            server.sendto(respond(packet), client)

        thread = threading.Thread(target=serve)
        thread.start()
        reply = lookup.query("127.0.0.1", "www.foobar.com", port=server.getsockname()[1])
        thread.join()
        return reply


def test_the_query_is_encoded_as_in_rfc_1035() -> None:
    queries = []

    def respond(query: bytes) -> bytes:
        queries.append(query)
        return response(query, ADDRESS)

    lookup_with(respond)
    assert queries[0][2:] == struct.pack(">5H", 0x0100, 1, 0, 0, 0) + QUESTION


def test_an_address_record() -> None:
    reply = lookup_with(lambda query: response(query, ADDRESS))
    assert reply.code == "NOERROR"
    assert reply.records == (lookup.DnsRecord("www.foobar.com", "A", "10.0.0.10", 30),)
    assert reply.values("A") == ("10.0.0.10",)


def test_an_alias_and_a_name_that_does_not_exist() -> None:
    reply = lookup_with(lambda query: response(query, record(5, b"\x02lb\xc0\x10")))
    (alias,) = reply.records
    assert (reply.code, alias.kind, alias.value) == ("NOERROR", "CNAME", "lb.foobar.com")
    reply = lookup_with(lambda query: response(query, code=3))
    assert (reply.code, reply.records, reply.error) == ("NXDOMAIN", (), "")


@pytest.mark.parametrize(
    "respond",
    [
        lambda query: b"",
        lambda query: response(bytes([query[0] ^ 1, query[1]]), ADDRESS),  # of another query
        lambda query: response(query, ADDRESS)[:-1],
        lambda query: (
            query[:2]
            + struct.pack(">5H", 0x8180, 1, 1, 0, 0)
            + b"\xc0\x0c"  # points to itself
            + b"\0" * 20
        ),
        lambda query: query,
    ],
    ids=["empty", "other id", "truncated", "endless name", "a query"],
)
def test_a_malformed_response_is_an_error(respond: Callable[[bytes], bytes]) -> None:
    reply = lookup_with(respond)
    assert (reply.code, reply.records) == ("", ())
    assert reply.error


def test_a_silent_name_server_is_a_timeout() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        reply = lookup.query("127.0.0.1", "www.foobar.com", port=port, timeout=0.05)
    assert (reply.code, reply.error) == ("", "no response in time")


def test_a_closed_port_is_reported_at_once() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    reply = lookup.query("127.0.0.1", "www.foobar.com", port=port, timeout=5)
    assert "refused" in reply.error
    assert reply.seconds < 2


# --- hosts ---------------------------------------------------------------------------------------


def test_host_lines_of_the_default_topology() -> None:
    lab, _ = labs.open_lab("names", topology="distributed", network="10.1.2.0/24", root=ROOT)
    assert hosts_file.host_lines(lab) == [
        "10.1.2.10  www.foobar.com foobar.com",
        "10.1.2.10  lb-01.foobar.com",
        "10.1.2.11  web-01.foobar.com",
        "10.1.2.12  web-02.foobar.com",
    ]


BEFORE = "127.0.0.1 localhost\n# mine\n::1 localhost"


def test_the_block_is_written_replaced_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(BEFORE)
    path.chmod(0o640)
    assert hosts_file.update(path, ["10.0.0.1 a"], "two", "")
    first = path.read_text()
    assert first == f"{BEFORE}\n{hosts_file.BEGIN} (lab two)\n10.0.0.1 a\n{hosts_file.END}\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert not hosts_file.update(path, ["10.0.0.1 a"], "two", "")
    assert hosts_file.update(path, ["10.0.0.2 b"], "default", "")
    assert path.read_text() == first.replace("two", "default").replace("10.0.0.1 a", "10.0.0.2 b")
    assert hosts_file.update(path, [], "", "")
    assert path.read_text() == BEFORE + "\n"
    assert [p.name for p in tmp_path.iterdir()] == ["hosts"]


def test_windows_line_endings_are_kept() -> None:
    text = hosts_file.replace_block("127.0.0.1 localhost\r\n", ["10.0.0.1 a"], "two")
    assert text.count("\n") == text.count("\r\n") == 4


@pytest.mark.parametrize(
    "text",
    [
        f"{hosts_file.BEGIN} (lab a)\n",
        f"{hosts_file.END}\n",
        f"{hosts_file.END}\n{hosts_file.BEGIN} (lab a)\n",
    ],
)
def test_a_file_with_damaged_markers_is_not_changed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hosts"
    path.write_text(text)
    with pytest.raises(LabError, match="was not changed"):
        hosts_file.update(path, ["10.0.0.1 a"], "two", "")
    assert path.read_text() == text


def test_without_write_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hosts"
    path.write_text(BEFORE)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("provision.core.atomic.tempfile.mkstemp", refuse)
    with pytest.raises(LabError) as caught:
        hosts_file.update(path, ["10.0.0.1 a"], "two", "sudo invoke dns.hosts --write")
    assert "Permission denied; nothing was changed" in str(caught.value)
    assert caught.value.hint == "sudo invoke dns.hosts --write"
    assert path.read_text() == BEFORE


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="No such file"):
        hosts_file.update(tmp_path / "none", ["10.0.0.1 a"], "two", "")
    assert list(tmp_path.iterdir()) == []


# --- a machine's resolver ------------------------------------------------------------------------

NETWORK, GATEWAY = IPv4Network("10.0.0.0/24"), IPv4Address("10.0.0.1")


def resolver(*servers: str) -> Resolver:
    return Resolver(servers, NETWORK, GATEWAY)


def file(text: str) -> PathFacts:
    return PathFacts("file", content=text)


def test_the_labs_server_precedes_the_existing_ones() -> None:
    before = "search example.org\nnameserver 10.0.0.1\nnameserver 192.0.2.53\n"
    wanted = resolver("10.0.0.10")
    assert wanted.differences(file(before))
    after = wanted.merged(before)
    assert nameservers(after) == ("10.0.0.10", "10.0.0.1", "192.0.2.53")
    assert "search example.org" in after
    assert not wanted.differences(file(after))
    assert wanted.merged(after) == after


def test_the_server_of_another_topology_is_replaced_or_removed() -> None:
    before = "nameserver 10.0.0.1\n"
    first = resolver("10.0.0.11").merged(before)
    second = resolver("10.0.0.10")
    assert second.differences(file(first))
    assert nameservers(second.merged(first)) == ("10.0.0.10", "10.0.0.1")
    assert resolver().differences(file(first))
    assert resolver().merged(first) == before
    assert BANNER not in before


def test_a_server_in_the_wrong_place_is_moved() -> None:
    mixed = "nameserver 10.0.0.1\nnameserver 10.0.0.10\n"
    assert resolver("10.0.0.10").differences(file(mixed))


def test_a_symbolic_link_belongs_to_another_program() -> None:
    assert not resolver("10.0.0.10").differences(PathFacts("link", target="/run/x"))
