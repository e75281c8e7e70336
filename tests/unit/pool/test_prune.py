"""The bound of the package pool: what goes first, and what stays."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import os
from pathlib import Path

import pytest

from provision.core import growth
from provision.core.pool import prune as pruning
from provision.core.pool import run, store
from provision.core.pool.pool import Pool
from provision.core.pool.prune import prune
from provision.core.pool.run import record
from tests.unit.pool.conftest import DEB, Archive

LISTS = "dists/trixie/main/binary-amd64"
SIZE = 4096


def release(*lists: bytes) -> bytes:
    rows = "".join(f" {hashlib.sha256(data).hexdigest()} {len(data)} main/x\n" for data in lists)
    return f"-----BEGIN PGP SIGNED MESSAGE-----\n\nSHA256:\n{rows}".encode()


def packages(*names: str) -> bytes:
    return "".join(f"Package: p\nFilename: pool/main/{name}\n\n" for name in names).encode()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pool with a current list, an older one, and four packages of 4 KiB each."""
    monkeypatch.setattr(pruning, "IN_USE_SECONDS", -10)
    pool = tmp_path / "pool"
    current = lzma.compress(packages("a/a_2+b1.deb", "c/c_1.deb"))
    old = gzip.compress(packages("a/a_1.deb"), mtime=0)
    write(pool, "debian/dists/trixie/InRelease", release(current))
    for data in (current, old):
        write(pool, f"debian/{LISTS}/by-hash/SHA256/{hashlib.sha256(data).hexdigest()}", data)
    for name in ("a/a_1.deb", "a/a_2%252bb1.deb", "c/c_1.deb", "d/d_1.deb"):
        write(pool, f"debian/pool/main/{name}", b"x" * SIZE)
    return pool


def write(pool: Path, name: str, data: bytes) -> None:
    path = pool / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def names(folder: Path) -> set[str]:
    return {name.rpartition("/")[2] for name, _ in store.files(folder) if "/pool/" in name}


def total(folder: Path) -> int:
    return sum(path.stat().st_size for _, path in store.files(folder))


def require(folder: Path, name: str, *paths: str) -> None:
    pool = Pool(folder, used={f"debian/{path}" for path in paths})
    record(pool, name)


def test_nothing_goes_below_the_bound(folder: Path) -> None:
    before = total(folder)
    assert prune(folder, before) == ()
    assert total(folder) == before


def test_what_no_current_list_names_goes_first_the_oldest_first(folder: Path) -> None:
    removed = prune(folder, total(folder) - 1)
    assert [file.path.parent.name for file in removed] == ["SHA256"], "the list that is not current"
    removed = prune(folder, total(folder) - SIZE - 1)
    assert {file.path.name for file in removed} == {"a_1.deb", "d_1.deb"}
    assert names(folder) == {"a_2%252bb1.deb", "c_1.deb"}


def test_what_a_recorded_installation_needs_stays(folder: Path) -> None:
    require(folder, "layers-now", "pool/main/a/a_2%2bb1.deb")
    prune(folder, 0)
    assert names(folder) == {"a_2%252bb1.deb"}
    assert run.missing(folder, "layers-now") == []
    lists = [path for name, path in store.files(folder) if "/dists/" in name]
    assert [path.parent.name for path in lists] == ["trixie", "SHA256"]
    assert lists[1].read_bytes().startswith(b"\xfd7zXZ"), "the current one"


def test_an_installation_of_former_versions_is_forgotten(folder: Path) -> None:
    require(folder, "layers-former", "pool/main/a/a_1.deb")
    prune(folder, 0)
    assert names(folder) == set()
    assert run.missing(folder, "layers-former") is None


def test_an_unreadable_list_protects_the_packages_of_its_archive(folder: Path) -> None:
    write(folder, f"debian/{LISTS}/Packages.xz", b"\xfd7zXZ\x00damaged")
    require(folder, "layers-now", "pool/main/a/a_1.deb")
    prune(folder, 0)
    assert names(folder) == {"a_1.deb"}


def test_what_was_recorded_just_now_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "IN_USE_SECONDS", 3600)
    assert prune(folder, 0) == ()


def test_what_a_killed_download_left_is_removed(folder: Path) -> None:
    for name, age in (("old", 10_000), ("new", 0)):
        write(folder, f"{store.PARTIAL}/{name}", b"part")
        seconds = (folder / store.PARTIAL / name).stat().st_mtime - age
        os.utime(folder / store.PARTIAL / name, (seconds, seconds))
    pruning.IN_USE_SECONDS = 3600
    prune(folder, growth.POOL_BYTES)
    assert [path.name for path in (folder / store.PARTIAL).iterdir()] == ["new"]


def test_a_pool_is_pruned_after_downloads_only(
    pool: Pool, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned: list[Path] = []
    monkeypatch.setattr("provision.core.pool.prune.prune", pruned.append)
    url = f"{store.CANONICAL}/pool/main/a/a_1.deb"
    for expected in ([pool.folder], []):
        pruned.clear()
        again = Pool(pool.folder, archive.url)
        assert again.read(url).read_bytes() == DEB
        again.keep_bound()
        assert pruned == expected


def test_sets_name_stored_files(folder: Path) -> None:
    require(folder, "layers-now", "pool/main/a/a_2%2bb1.deb")
    (path,) = (folder / store.SETS).glob("*.json")
    assert json.loads(path.read_text()) == ["debian/pool/main/a/a_2%2bb1.deb"]
