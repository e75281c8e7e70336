"""The file format of a bundle: every altered, cut, missing or foreign byte is noticed and named."""

from __future__ import annotations

import ast
import hashlib
import io
import random
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision.core.lab import ROOT
from provision.setup.bundle import archive, ed25519, manifest
from provision.setup.bundle.archive import BundleError
from tests.unit.bundle.samples import KEY, PUBLIC, SAMPLE

OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
FILES = {
    "__main__.py": b"print('a bundle')\n",
    "pool/debian/pool/main/a/a_1.deb": random.Random(1).randbytes(5000),
    "wheels/b-1-py3-none-any.whl": random.Random(2).randbytes(3000),
    "images.tar.zst": random.Random(3).randbytes(20_000),
    "empty": b"",
}


def bundle(
    files: dict[str, bytes],
    key: Ed25519PrivateKey = KEY,
    order: tuple[str, ...] = (),
    *,
    listed: dict[str, bytes] = FILES,
    parts: list[tuple[str, bytes]] | None = None,
) -> bytes:
    """A bundle whose manifest lists some files, with these files in it, in this order."""
    entries = {n: (len(d), hashlib.sha256(d).hexdigest()) for n, d in listed.items()}
    public = key.public_key().public_bytes_raw().hex()
    data = replace(SAMPLE, key=public, entries=entries).encoded()
    head = {manifest.MANIFEST: data, manifest.SIGNATURE: key.sign(data).hex().encode()}
    out = io.BytesIO()
    names = order or tuple(files)
    contents = parts if parts is not None else [(name, files[name]) for name in names]
    list(archive.write(out, [*head.items(), *contents]))
    return out.getvalue()


def refusal(tmp_path: Path, data: bytes, key: str = "") -> BundleError:
    path = tmp_path / "bad.bundle"
    path.write_bytes(data)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BundleError) as error:
        manifest.verify(path, key)
    assert path.read_bytes() == data
    assert sorted(tmp_path.rglob("*")) == before, "nothing was changed on the disk"
    return error.value


GOOD = bundle(FILES)


def test_a_good_bundle(tmp_path: Path) -> None:
    path = tmp_path / "good.bundle"
    path.write_bytes(GOOD)
    seen: list[str] = []
    loaded, items = manifest.verify(path, manifest.fingerprint(PUBLIC.hex()), seen.append)
    assert seen == list(FILES)
    assert list(items) == [manifest.MANIFEST, manifest.SIGNATURE, *FILES]
    assert loaded.topologies == ("simple",)
    for name, data in FILES.items():
        manifest.extract(path, items[name], tmp_path / "out" / name)
        assert (tmp_path / "out" / name).read_bytes() == data
    # It is an ordinary ZIP archive that Python runs.
    with zipfile.ZipFile(path) as opened:
        assert opened.testzip() is None
        assert opened.namelist() == [manifest.MANIFEST, manifest.SIGNATURE, *FILES]
    result = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
    assert result.stdout == "a bundle\n"


def entry_at(position: int) -> str:
    """The name of the entry that a byte of `GOOD` belongs to; empty for the directory."""
    last = ""
    for item in archive.read(io.BytesIO(GOOD)):
        last = item.name
        if position < item.offset + item.size:
            return item.name
    return f"after {last}"


@pytest.mark.parametrize("tenth", range(10))
def test_truncated_at_ten_places(tmp_path: Path, tenth: int) -> None:
    position = len(GOOD) * (2 * tenth + 1) // 20
    error = refusal(tmp_path, GOOD[:position])
    assert error.entry.removeprefix("after ") in ("the file", *_neighbours(position))
    assert "truncated" in error.why or "cut off" in error.why


def _neighbours(position: int) -> list[str]:
    names = [manifest.MANIFEST, manifest.SIGNATURE, *FILES]
    name = entry_at(position).removeprefix("after ")
    index = names.index(name)
    return names[max(0, index - 1) : index + 1]


@pytest.mark.parametrize("position", [0, 10, 500, -1, -5, -30, -200, -400])
def test_truncated_in_headers_and_directory(tmp_path: Path, position: int) -> None:
    refusal(tmp_path, GOOD[:position])


@pytest.mark.parametrize("tenth", range(10))
def test_a_flipped_bit_at_ten_places(tmp_path: Path, tenth: int) -> None:
    position = len(GOOD) * (2 * tenth + 1) // 20
    data = bytearray(GOOD)
    data[position] ^= 1 << (tenth % 8)
    error = refusal(tmp_path, bytes(data))
    assert error.entry.removeprefix("after ") in _neighbours(position)


def test_a_flipped_bit_anywhere(tmp_path: Path) -> None:
    """A small bundle, bit by bit in every byte: headers, contents, directory, end."""
    path = tmp_path / "small.bundle"
    data = bytearray(GOOD)
    positions = [*range(0, 1200), *range(len(data) - 700, len(data))]
    for position in positions[::29]:
        data[position] ^= 1 << position % 8
        path.write_bytes(data)
        with pytest.raises(BundleError):
            manifest.verify(path)
        data[position] ^= 1 << position % 8


def test_missing_added_and_swapped_entries(tmp_path: Path) -> None:
    names = tuple(FILES)
    for gone in names:
        left = {name: data for name, data in FILES.items() if name != gone}
        assert refusal(tmp_path, bundle(left)).entry == gone
    added = refusal(tmp_path, bundle({**FILES, "more": b"x"}))
    assert (added.entry, added.why) == ("more", "it is not in the manifest")
    early = {"more": b"x", **FILES}
    assert refusal(tmp_path, bundle(early)).entry == "more"
    order = (names[0], names[2], names[1], *names[3:])
    assert refusal(tmp_path, bundle(FILES, order=order)).entry == names[1]
    contents = {**FILES, names[1]: FILES[names[2]], names[2]: FILES[names[1]]}
    assert refusal(tmp_path, bundle(contents)).entry == names[1]
    assert "after empty" in str(refusal(tmp_path, GOOD + b"x"))


def test_another_key(tmp_path: Path) -> None:
    expected = manifest.fingerprint(PUBLIC.hex())
    foreign = refusal(tmp_path, bundle(FILES, OTHER), expected)
    assert foreign.entry == manifest.SIGNATURE
    assert expected in foreign.why
    # A manifest that was changed, or signed by a key that it does not name.
    data = GOOD.replace(b'"simple"', b'"scaled"')
    assert refusal(tmp_path, data).entry == manifest.MANIFEST  # its CRC-32
    assert refusal(tmp_path, b"PK no bundle").entry == "the file"


BAD_NAMES = [
    "../../etc/passwd",
    "/etc/passwd",
    "a/../../b",
    "a/./b",
    "a\\b",
    "",
    "a//b",
    "a/",
    "C:/b",
    "a:stream",
    "a/nul.txt",
    "a/b.",
    "a/b\0c",
    "a\nb",
    "wheels/é",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_would_leave_the_folder(name: str, tmp_path: Path) -> None:
    """Signed all the same: the manifest is refused, and so is an entry that it does not list."""
    with pytest.raises(BundleError, match="name"):
        manifest.load(replace(SAMPLE, entries={name: (1, "")}).encoded())
    error = refusal(tmp_path, bundle({**FILES, name: b"x"}))
    assert error.entry in (name, "after empty")


@pytest.mark.parametrize("kind", [0o120777, 0o060600, 0o020600, 0o040755, 0o104755])
def test_links_devices_and_modes(tmp_path: Path, kind: int) -> None:
    """An entry is a plain file: anything else in the archive's directory is refused."""
    mode = struct.pack("<L", archive.MODE)
    start = GOOD.index(archive.CENTRAL)
    position = GOOD.index(mode, start)
    data = GOOD[:position] + struct.pack("<L", kind << 16) + GOOD[position + 4 :]
    assert "directory" in refusal(tmp_path, data).why


@pytest.mark.parametrize("tenth", range(10))
@pytest.mark.parametrize("change", ["missing", "added", "swapped", "renamed", "twice"])
def test_changed_entries(tmp_path: Path, change: str, tenth: int) -> None:
    """At ten places of a bundle with many entries; the first bad one is named."""
    names = [f"pool/{number:02}" for number in range(30)]
    files = {name: name.encode() * 50 for name in names}
    place = 3 * tenth + 1
    changed, expected = list(names), names[place]
    if change == "missing":
        del changed[place]
    elif change == "added":
        changed.insert(place, "pool/more")
        expected = "pool/more"
    elif change == "swapped":
        changed[place], changed[place + 1] = changed[place + 1], changed[place]
    elif change == "renamed":
        changed[place] = "pool/other"
        expected = "pool/other"
    else:
        changed.insert(place, names[0])
    contents = {**files, "pool/more": b"x", "pool/other": files[names[place]]}
    data = bundle(files, listed=files, parts=[(name, contents[name]) for name in changed])
    assert refusal(tmp_path, data).entry == expected


def test_memory_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "large.bundle"
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(256 << 20)
    size, _, digest = archive.measure(large)
    data = replace(SAMPLE, entries={"pool/large": (size, digest)}).encoded()
    head = [(manifest.MANIFEST, data), (manifest.SIGNATURE, KEY.sign(data).hex().encode())]
    with path.open("wb") as out:
        for _ in archive.write(out, [*head, ("pool/large", large)]):
            pass
    tracemalloc.start()
    _, items = manifest.verify(path)
    manifest.extract(path, items["pool/large"], tmp_path / "out")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20
    assert (tmp_path / "out").stat().st_size == size


def test_verification_needs_the_standard_library_only() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import provision.setup.bundle.{}; "
    code += "print([n for n in sys.modules if n.split('.')[0] not in sys.stdlib_module_names])"
    for module in ("install", "start", "manifest"):
        argv = [sys.executable, "-I", "-S", "-c", code.format(module), str(ROOT)]
        result = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        others = set(ast.literal_eval(result.stdout)) - {"__main__"}
        assert all(name.split(".")[0] == "provision" for name in others), others


def test_signatures_agree_with_the_library() -> None:
    for size in (0, 1, 100, 5000):
        message = random.Random(size).randbytes(size)
        signature = KEY.sign(message)
        assert ed25519.verify(PUBLIC, message, signature)
        assert not ed25519.verify(PUBLIC, message + b"x", signature)
        assert not ed25519.verify(OTHER.public_key().public_bytes_raw(), message, signature)
        for position in (0, 31, 32, 63):
            bad = bytearray(signature)
            bad[position] ^= 0x40
            assert not ed25519.verify(PUBLIC, message, bytes(bad))
    assert not ed25519.verify(PUBLIC[:-1], b"", KEY.sign(b""))
    # RFC 8032, section 7.1, test 1.
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    expected = (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b"
    )
    assert ed25519.verify(bytes.fromhex(public), b"", bytes.fromhex(expected))
