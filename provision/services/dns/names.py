"""Names: asking a name server as any client does, and the lab's lines in a hosts file.

The questions are one UDP packet each (RFC 1035, section 4), without any resolver of the controller:
what a name server says is what is shown.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import socket
import struct
import tempfile
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from provision.core.errors import LabError
from provision.core.lab import Lab

KINDS = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "TXT": 16, "AAAA": 28}
CODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
_KIND_NAMES = {number: name for name, number in KINDS.items()}


# --- asking --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """One record of an answer: ``www.foobar.com`` ``A`` ``192.168.56.10``, good for ``ttl`` s."""

    name: str
    kind: str
    value: str
    ttl: int


@dataclass(frozen=True)
class Reply:
    """What a name server said.

    Args:
        code: ``NOERROR``, ``NXDOMAIN`` …; empty when it did not answer.
        records: of the answer section.
        seconds: from the question to the answer.
        error: why there is no answer.
    """

    code: str = ""
    records: tuple[Record, ...] = ()
    seconds: float = 0.0
    error: str = ""

    def values(self, kind: str) -> tuple[str, ...]:
        """The values of that kind's records."""
        return tuple(record.value for record in self.records if record.kind == kind)


def question(number: int, name: str, kind: str) -> bytes:
    """The packet that asks for one name.

    Args:
        number: which question this is, 0 to 65535.
        name: such as ``www.foobar.com``.
        kind: a key of `KINDS`.
    """
    labels = b"".join(
        bytes([len(label)]) + label for label in name.rstrip(".").encode("idna").split(b".")
    )
    recursion_desired = 0x0100
    header = struct.pack(">6H", number, recursion_desired, 1, 0, 0, 0)
    return header + labels + b"\0" + struct.pack(">2H", KINDS[kind], 1)


def understand(packet: bytes, number: int) -> tuple[str, tuple[Record, ...]]:
    """The code and the records of an answer.

    Args:
        packet: as received.
        number: of the question.

    Raises:
        ValueError: when it is not an answer to that question, or cut off.
    """
    try:
        its, flags, questions, answers, _, _ = struct.unpack_from(">6H", packet)
        if its != number or not flags & 0x8000:
            raise ValueError("not an answer to this question")
        at = 12
        for _ in range(questions):
            _, at = _name(packet, at)
            at += 4
        records = []
        for _ in range(answers):
            name, at = _name(packet, at)
            kind, _, ttl, length = struct.unpack_from(">2HIH", packet, at)
            at += 10
            word = _KIND_NAMES.get(kind, str(kind))
            records.append(Record(name, word, _value(packet, at, length, word), ttl))
            at += length
    except (struct.error, IndexError) as error:
        raise ValueError(f"cut off: {error}") from None
    return CODES.get(flags & 15, str(flags & 15)), tuple(records)


def _name(packet: bytes, at: int) -> tuple[str, int]:
    """A name and where it ends; names may point to earlier ones (RFC 1035, section 4.1.4)."""
    labels: list[str] = []
    end = -1
    for _ in range(128):
        length = packet[at]
        if length == 0:
            return ".".join(labels), at + 1 if end < 0 else end
        if length >= 0xC0:
            end = at + 2 if end < 0 else end
            at = struct.unpack_from(">H", packet, at)[0] & 0x3FFF
            continue
        labels.append(packet[at + 1 : at + 1 + length].decode("ascii", "replace"))
        at += 1 + length
    raise ValueError("a name without an end")


def _value(packet: bytes, at: int, length: int, kind: str) -> str:
    if kind == "A":
        return str(IPv4Address(packet[at : at + length]))
    if kind in ("CNAME", "NS", "PTR"):
        return _name(packet, at)[0]
    return packet[at : at + length].hex()


def ask(server: str, name: str, kind: str = "A", *, timeout: float = 2.0, port: int = 53) -> Reply:
    """Ask a name server one question.

    Args:
        server: its address; the lab's network must be up (`Provider.link_problem`).
        name: what is asked for.
        kind: a key of `KINDS`.
        timeout: seconds.
        port: of UDP.
    """
    number = secrets.randbelow(1 << 16)
    began = time.monotonic()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            asked.settimeout(timeout)
            asked.connect((server, port))
            asked.send(question(number, name, kind))
            code, records = understand(asked.recv(4096), number)
    except (OSError, ValueError) as error:
        said = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        return Reply(seconds=time.monotonic() - began, error=said)
    return Reply(code, records, time.monotonic() - began)


# --- a hosts file --------------------------------------------------------------------------------

BEGIN = "# foobar-lab begin"
END = "# foobar-lab end"


def hosts_file() -> Path:
    """The workstation's hosts file."""
    if os.name == "nt":
        root = os.environ.get("SYSTEMROOT", r"C:\Windows")
        return Path(root) / "System32" / "drivers" / "etc" / "hosts"
    return Path("/etc/hosts")


def hosts_lines(lab: Lab) -> list[str]:
    """The lines that let a workstation find the site and the machines by name."""
    domain = lab.topology.domain
    rows = [(str(lab.address), f"{lab.site} {domain}")]
    rows += [(str(m.address), f"{m.name}.{domain}") for m in lab.machines]
    width = max(len(address) for address, _ in rows)
    return [f"{address:<{width}}  {names}" for address, names in rows]


def with_block(text: str, lines: list[str], lab: str) -> str:
    """A hosts file's text with these lines between the markers, in place of what is there.

    There is one block whatever the lab: the site's name can mean one lab at a time.

    Args:
        text: the file.
        lines: none removes the block.
        lab: the lab's name, for the marker.

    Raises:
        ValueError: when the markers are not one pair, so that nothing can be replaced safely.
    """
    rows = text.splitlines(keepends=True)
    begins = [i for i, row in enumerate(rows) if row.startswith(BEGIN)]
    ends = [i for i, row in enumerate(rows) if row.strip() == END]
    if (len(begins), len(ends)) not in ((0, 0), (1, 1)) or (begins and ends[0] < begins[0]):
        raise ValueError(f"its lines {BEGIN!r} and {END!r} do not make one pair")
    newline = "\r\n" if "\r\n" in text else "\n"
    block = [f"{row}{newline}" for row in (f"{BEGIN} (lab {lab})", *lines, END)] if lines else []
    if begins:
        return "".join([*rows[: begins[0]], *block, *rows[ends[0] + 1 :]])
    if block and rows and not rows[-1].endswith("\n"):
        rows.append(newline)
    return "".join([*rows, *block])


def change_hosts(path: Path, lines: list[str], lab: str, again: str) -> bool:
    """Put the lab's lines into a hosts file, or take them out; in one step, or not at all.

    Args:
        path: the file; a link is followed.
        lines: none removes them.
        lab: the lab's name.
        again: the command to type with the rights that are missing.

    Returns:
        Whether the file has changed.

    Raises:
        LabError: when it cannot be read or written, or its markers are damaged.
    """
    path = path.resolve()
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            text = file.read()
        changed = with_block(text, lines, lab)
        if changed == text:
            return False
        _replace(path, changed)
    except ValueError as error:
        raise LabError(f"{path} was left as it is: {error}", f"mend it: sudoedit {path}") from None
    except OSError as error:
        what = f"{path} cannot be changed: {error.strerror or error}"
        if isinstance(error, PermissionError):
            raise LabError(f"{what}; nothing was changed", again) from None
        if error.errno in (errno.EBUSY, errno.EXDEV):
            what += " (it is a mount of its own)"
        raise LabError(what, "invoke dns.hosts prints the lines: add them with an editor") from None
    return True


def _replace(path: Path, text: str) -> None:
    """Write a file beside the old one with its owner and mode, and put it in its place."""
    status = path.stat()
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if hasattr(os, "chown"):
            os.chown(name, status.st_uid, status.st_gid)
        Path(name).chmod(status.st_mode & 0o7777)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def lab_in_hosts(text: str) -> str:
    """Which lab's lines a hosts file has; empty without any."""
    found = re.search(rf"^{BEGIN} \(lab ([a-z0-9-]+)\)", text, re.MULTILINE)
    return found[1] if found else ""
