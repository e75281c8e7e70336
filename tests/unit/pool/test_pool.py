"""The package pool: what it records, what it refuses to record, and what it replays."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from provision.core.pool import run, store
from provision.core.pool.pool import Pool, PoolError
from provision.core.pool.server import serving
from tests.unit.pool.conftest import BY_HASH, DEB, LIST, Archive


def canonical(path: str) -> str:
    return f"{store.CANONICAL}/{path}"


def test_one_name_for_every_mirror() -> None:
    urls = (
        "http://debian.invalid/debian/pool/main/a/a_1.deb",
        "http://ftp.uk.debian.org/debian/pool/main/a/a_1.deb",
        "https://mirror.example:8443/pub/debian/pool/main/a/a_1.deb",
    )
    assert {entry.name for entry in map(store.parse_url, urls) if entry} == {
        "debian/pool/main/a/a_1.deb"
    }
    other = store.parse_url("http://apt.example.org/vendor/dists/x/InRelease")
    assert other is not None
    assert other.archive == "apt.example.org_vendor"


@pytest.mark.parametrize(
    "url",
    [
        "http://debian.invalid/debian/pool/../../etc/passwd",
        "http://debian.invalid/",
        "file:///debian/pool/a",
        "http://10.0.0.1/admin",
        "/debian/pool/main/a/a_1.deb",
        "http://debian.invalid/debian/pool/a b",
    ],
)
def test_nothing_but_archives_is_read(pool: Pool, archive: Archive, url: str) -> None:
    with pytest.raises(PoolError) as error:
        pool.read(url)
    assert error.value.status == 404
    assert archive.requests == []


def test_recorded_once_and_replayed_without_a_network(pool: Pool, archive: Archive) -> None:
    for path, data in archive.files.items():
        assert pool.read(canonical(path)).read_bytes() == data
    asked = len(archive.requests)
    offline = Pool(pool.folder, archive.url, offline=True)
    for path, data in archive.files.items():
        assert offline.read(f"http://other.example/debian/{path}").read_bytes() == data
    assert len(archive.requests) == asked
    with pytest.raises(PoolError, match=r"not in the package pool, and .* does not respond"):
        offline.read(canonical("pool/main/b/b_1.deb"))


@pytest.mark.parametrize("path", ["dists/trixie/InRelease", "pool/main/a/a_1.deb", BY_HASH])
@pytest.mark.parametrize("how", ["portal", "short"])
def test_what_a_portal_or_a_broken_line_sends_is_not_recorded(
    pool: Pool, archive: Archive, path: str, how: str
) -> None:
    good = dict(archive.files)
    if how == "short":
        archive.short = True
    else:
        archive.files[path] = b"<html>Please log in</html>"
    with pytest.raises(PoolError):
        pool.read(canonical(path))
    assert list(store.files(pool.folder)) == []
    archive.files, archive.short = good, False
    assert pool.read(canonical(path)).read_bytes() == good[path]
    assert not any((pool.folder / ".partial").iterdir())


def test_lists_stay_until_the_archive_has_newer_packages(pool: Pool, archive: Archive) -> None:
    pool.read(canonical("dists/trixie/InRelease"))
    run.record(pool, "set")
    archive.files["dists/trixie/InRelease"] = LIST + b"newer\n"
    assert pool.read(canonical("dists/trixie/InRelease")).read_bytes() == LIST
    # A package of the recorded list is gone from the archive.
    time.sleep(0.01)
    with pytest.raises(PoolError) as error:
        pool.read(canonical("pool/main/a/a_0.deb"))
    assert error.value.status == 404
    assert run.missing(pool.folder, "set") is None, "what was complete is not any more"
    assert pool.read(canonical("dists/trixie/InRelease")).read_bytes() == LIST + b"newer\n"
    # Without a network the recorded list serves on.
    time.sleep(0.01)
    pool.refresh()
    offline = Pool(pool.folder, archive.url, offline=True)
    assert offline.read(canonical("dists/trixie/InRelease")).read_bytes() == LIST + b"newer\n"


def test_a_dead_archive_is_asked_once(tmp_path: Path) -> None:
    pool = Pool(tmp_path / "pool", "http://127.0.0.1:9/debian")
    for name in ("a", "b"):
        with pytest.raises(PoolError) as error:
            pool.read(f"http://127.0.0.1:9/debian/pool/main/{name}.deb")
        assert error.value.status == 504
    assert "a moment ago" in str(error.value)


def test_expired_lists_are_accepted_only_when_they_are_recorded(
    pool: Pool, archive: Archive
) -> None:
    assert pool.apt_options() == ()
    for date, options in (("2099", ()), ("2001", ("Acquire::Check-Valid-Until=false",))):
        text = f"Valid-Until: Sat, 01 Nov {date} 10:00:00 UTC\nSHA256:\n".encode()
        archive.files["dists/sid/InRelease"] = LIST.split(b"SHA256:")[0] + text
        (pool.folder / "debian/dists/sid/InRelease").unlink(missing_ok=True)
        pool.read(canonical("dists/sid/InRelease"))
        assert pool.apt_options() == options


def test_the_proxy_answers_as_apt_expects(pool: Pool, archive: Archive) -> None:
    with serving(pool) as proxy:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
        url = canonical("pool/main/a/a_1.deb")
        with opener.open(url, timeout=10) as response:
            assert response.read() == DEB
            modified = response.headers["Last-Modified"]
        assert modified == "Sat, 01 Nov 2025 10:00:00 GMT"
        request = urllib.request.Request(url, headers={"If-Modified-Since": modified})
        with pytest.raises(urllib.error.HTTPError) as unchanged:
            opener.open(request, timeout=10)
        assert unchanged.value.code == 304
        unchanged.value.close()
        with pytest.raises(urllib.error.HTTPError) as absent:
            opener.open(canonical("pool/main/z/z_1.deb"), timeout=10)
        assert absent.value.code == 404
        absent.value.close()


def test_a_program_runs_with_the_pool_and_its_files_are_recorded(
    pool: Pool, archive: Archive
) -> None:
    url = canonical("pool/main/a/a_1.deb")
    code = (
        "import os, sys, urllib.request as u; "
        "o = u.build_opener(u.ProxyHandler({'http': os.environ['LAB_POOL_PROXY']})); "
        f"sys.exit(0 if o.open({url!r}).read().startswith(b'!<arch>') else 5)"
    )
    argv = run.command(pool, "layers-x", ["python3", "-c", code])
    assert os.spawnv(os.P_WAIT, argv[0], argv) == 0
    path = pool.folder / store.SETS / "layers-x.json"
    assert json.loads(path.read_text()) == ["debian/pool/main/a/a_1.deb"]
    assert run.missing(pool.folder, "layers-x") == []
    (pool.folder / "debian/pool/main/a/a_1.deb").unlink()
    assert run.missing(pool.folder, "layers-x") == ["debian/pool/main/a/a_1.deb"]
    # A program that fails records nothing, and its status is the command's.
    argv = run.command(pool, "failed", ["sh", "-c", "exit 71"])
    assert os.spawnv(os.P_WAIT, argv[0], argv) == 71
    assert run.missing(pool.folder, "failed") is None
