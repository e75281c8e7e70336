"""The file format of a bundle: a ZIP archive without compression (APPNOTE.TXT 6.3.10).

Every byte follows from the names and contents of the entries, so that a reader can compare all of
them: nothing outside the entries can be altered unnoticed. Without ZIP64, a bundle has less than
4 GiB. Python runs it: ``python3 FILE``.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

LIMIT = 2**32 - 1
CHUNK = 1 << 20
LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
LOCAL_SIZE = 30
DATE, TIME = (2000 - 1980) << 9 | 1 << 5 | 1, 0
UTF8 = 0x800
MODE = 0o100644 << 16


class BundleError(Exception):
    """A bundle that must not be used.

    Args:
        entry: the first bad entry.
    """

    def __init__(self, entry: str, why: str) -> None:
        super().__init__(f"{entry}: {why}")
        self.entry = entry
        self.why = why


@dataclass(frozen=True)
class Item:
    """An entry with its content, as it is in a file.

    Args:
        offset: of its content, in bytes.
    """

    name: str
    size: int
    crc: int
    sha256: str
    offset: int


def _local(name: str, size: int, crc: int) -> bytes:
    encoded = name.encode()
    fields = (20, UTF8, 0, TIME, DATE, crc, size, size, len(encoded), 0)
    return LOCAL + struct.pack("<5H3L2H", *fields) + encoded


def _central(item: Item) -> bytes:
    encoded = item.name.encode()
    header = item.offset - LOCAL_SIZE - len(encoded)
    fields = (0x0314, 20, UTF8, 0, TIME, DATE, item.crc, item.size, item.size, len(encoded))
    return CENTRAL + struct.pack("<6H3L5H2L", *fields, 0, 0, 0, 0, MODE, header) + encoded


def _end(items: list[Item], start: int, size: int) -> bytes:
    return END + struct.pack("<4H2LH", 0, 0, len(items), len(items), size, start, 0)


def trailer(items: list[Item], start: int) -> bytes:
    """The central directory, and its end."""
    directory = b"".join(map(_central, items))
    return directory + _end(items, start, len(directory))


def measure(path: Path) -> tuple[int, int, str]:
    """Size, CRC-32 and SHA-256 of a file."""
    size, crc, digest = 0, 0, hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            size, crc = size + len(data), zlib.crc32(data, crc)
            digest.update(data)
    return size, crc, digest.hexdigest()


def write(target: BinaryIO, sources: Iterable[tuple[str, Path | bytes]]) -> Iterator[Item]:
    """Write a bundle; yields each entry when it is complete. The caller names the file.

    Raises:
        BundleError: when the file would get too large.
    """
    items: list[Item] = []
    position = 0
    for name, source in sources:
        if isinstance(source, bytes):
            size, crc, digest = len(source), zlib.crc32(source), hashlib.sha256(source).hexdigest()
        else:
            size, crc, digest = measure(source)
        header = _local(name, size, crc)
        if position + len(header) + size > LIMIT or len(items) >= 65535:
            raise BundleError(name, "the bundle would be larger than 4 GiB")
        target.write(header)
        item = Item(name, size, crc, digest, position + len(header))
        if isinstance(source, bytes):
            target.write(source)
        else:
            with source.open("rb") as file:
                while data := file.read(CHUNK):
                    target.write(data)
        items.append(item)
        position = item.offset + size
        yield item
    target.write(trailer(items, position))


def read(file: BinaryIO) -> Iterator[Item]:
    """The entries of a bundle in order, each after its content was read completely.

    Raises:
        BundleError: for the first entry that is cut off or damaged, or anything that is no entry.
    """
    items: list[Item] = []
    position = 0
    last = ""
    while True:
        file.seek(position)
        start = file.read(LOCAL_SIZE)
        if start[:4] != LOCAL:
            break
        if len(start) < LOCAL_SIZE:
            raise BundleError(_after(last), "the file is truncated")
        *_, crc, size, _, length, _ = struct.unpack("<5H3L2H", start[4:])
        encoded = file.read(length)
        try:
            name = encoded.decode()
        except UnicodeDecodeError:
            raise BundleError(_after(last), "the name of an entry is damaged") from None
        if len(encoded) < length or not name.isprintable():
            raise BundleError(_after(last), "the name of an entry is cut off or damaged")
        if start + encoded != _local(name, size, crc):
            raise BundleError(name, "its header is damaged")
        item = _content(file, name, size, crc, position + LOCAL_SIZE + length)
        items.append(item)
        yield item
        position, last = item.offset + size, name
    file.seek(position)
    expected = trailer(items, position)
    if file.read(len(expected) + 1) != expected:
        what = "the file is truncated" if not start else "the directory is damaged or truncated"
        raise BundleError(_after(last), what)


def _after(name: str) -> str:
    return f"after {name}" if name else "the file"


def _content(file: BinaryIO, name: str, size: int, crc: int, offset: int) -> Item:
    actual, remaining, digest = 0, size, hashlib.sha256()
    while remaining:
        data = file.read(min(CHUNK, remaining))
        if not data:
            raise BundleError(name, "the file is truncated")
        actual, remaining = zlib.crc32(data, actual), remaining - len(data)
        digest.update(data)
    if actual != crc:
        raise BundleError(name, "its content is damaged")
    return Item(name, size, crc, digest.hexdigest(), offset)
