"""No stale data: read-your-writes without semi-sync, and a server without a source."""

from __future__ import annotations

import gzip
import time
import uuid
from collections.abc import Iterator

import pytest
import requests

from provision.core.lab import ROOT
from tests.live.conftest import RunningLab, wait_until

pytestmark = pytest.mark.live


@pytest.fixture
def session(lab: RunningLab) -> Iterator[requests.Session]:
    """A visitor with cookies."""
    with requests.Session() as http:
        http.trust_env = False
        http.verify = str(ROOT / ".lab" / lab.name / "ca.pem")
        yield http


def write(lab: RunningLab, http: requests.Session) -> str:
    """Store a note; returns its id."""
    note = uuid.uuid4().hex
    body = {"id": note, "author": "consistency", "text": "hello"}
    response = http.post(f"{lab.url}/api/notes", json=body, timeout=15)
    assert response.status_code == 201, response.text
    return note


def test_a_session_is_served_its_own_write_or_told_to_wait(
    repaired: RunningLab, session: requests.Session
) -> None:
    """The replica receives nothing, the primary acknowledges alone, and then it is lost."""
    replica = "web-02"
    repaired.sql(replica, "STOP REPLICA IO_THREAD")
    note = write(repaired, session)
    url = f"{repaired.url}/api/notes/{note}"
    for _ in range(8):
        response = session.get(url, timeout=10)
        assert response.status_code == 200, response.text
        assert response.headers["X-Read-From"] == "web-01"
    repaired.out("web-01", "systemctl", "stop", "mysql")
    try:
        statuses = []
        end = time.monotonic() + 8
        while time.monotonic() < end:
            response = session.get(url, timeout=10)
            statuses.append(response.status_code)
            assert response.status_code == 503, f"{response.status_code}: {response.text}"
            assert response.headers["Retry-After"]
            time.sleep(0.2)
        assert len(statuses) >= 2  # the balancer tries the other servers first
        others = requests.get(f"{repaired.url}/api/notes", timeout=10)
        assert others.status_code == 200, "a visitor without a write is still served"
    finally:
        repaired.out("web-01", "systemctl", "start", "mysql")
        repaired.sql(replica, "START REPLICA")
    wait_until(lambda: session.get(url, timeout=10).status_code == 200, "the note to be read", 30)


def test_a_primary_that_returns_after_a_promotion_is_not_read_from(repaired: RunningLab) -> None:
    """It is read-only and has no source; the application beside it reads the new primary."""
    now = repaired.session()
    now.provider.kill(now.lab, "web-01")
    repaired.invoke("db.promote", "web-02", "--old-primary-is-dead")
    try:
        with requests.Session() as http:
            note = write(repaired, http)
        repaired.invoke("lab.start", "web-01")
        balanced: dict[str, set[str]] = {}
        end = time.monotonic() + 15
        while time.monotonic() < end:
            # Without the cookie: a visitor who has written nothing must not see old data either.
            response = requests.get(f"{repaired.url}/api/notes/{note}", timeout=10)
            assert response.status_code == 200, response.text
            seen = balanced.setdefault(response.headers["X-Served-By"], set())
            seen.add(response.headers["X-Read-From"])
            time.sleep(0.05)
        assert balanced.get("web-01") == {"web-02"}, balanced
        assert balanced["web-02"] == {"web-02"}
        assert "detached" in repaired.get("/").text
    finally:
        repaired.up()
        repaired.invoke("db.promote", "web-01")


def test_lab_up_saves_what_only_the_old_primary_had_and_rejoins_it(repaired: RunningLab) -> None:
    """A write that no replica received; then the primary loses power, and another is promoted."""
    before = set((ROOT / ".lab" / repaired.name / "errant").glob("*.sql.gz"))
    repaired.sql("web-02", "STOP REPLICA IO_THREAD")
    with requests.Session() as http:
        note = write(repaired, http)
    now = repaired.session()
    now.provider.kill(now.lab, "web-01")
    repaired.invoke("db.promote", "web-02", "--old-primary-is-dead")
    try:
        up = repaired.up()
        assert "web-01: 1 errant transaction (" in up.stdout, up.stdout
        (saved,) = set((ROOT / ".lab" / repaired.name / "errant").glob("*.sql.gz")) - before
        assert note.encode() in gzip.decompress(saved.read_bytes())
        assert "0 changed" in repaired.up().stdout or "unchanged" in repaired.up().stdout
    finally:
        repaired.up()
        repaired.invoke("db.promote", "web-01")
