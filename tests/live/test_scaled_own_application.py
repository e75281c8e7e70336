"""A user's own application in the topology ``scaled``: tiers of their own, TLS to gunicorn."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from provision.services.app import releases
from tests.live import applications
from tests.live.conftest import RunningLab, wait_until
from tests.live.test_own_application import GUEST_BOOK, OPTIONS, by_host, checks, visitors

pytestmark = pytest.mark.live

SERVERS = {"app-01", "app-02"}


def test_deployed_promoted_under_and_rolled_back(scaled: RunningLab, tmp_path: Path) -> None:
    folder = applications.flask(tmp_path / "flask")
    before = scaled.session().context.state.primary
    other = next(m.name for m in scaled.session().lab.with_role("mysql") if m.name != before)
    try:
        scaled.invoke(
            "app.deploy", str(folder), "--version", "78.1", *OPTIONS, "--env", "GREETING=hi"
        )
        assert set(by_host(scaled, "/")) == SERVERS
        databases = {page["database"] for page in by_host(scaled, "/replica").values()}
        assert databases <= {before, other}
        style = scaled.get("/static/style.css")
        assert (style.status_code, style.text) == (200, "body { margin: 0 }\n")
        statuses = checks(scaled)
        assert {check["status"] for check in statuses.values()} <= {"ok", "warning", "skipped"}
        assert "only the guest book" in statuses["write"]["got"]
        assert "no changes" in scaled.invoke("lab.plan", "--detailed-exitcode").stdout

        count = scaled.get("/").json()["visits"]
        with visitors(scaled, "/health") as failed:
            scaled.invoke("db.promote", other)
            assert [scaled.get("/").status_code for _ in range(4)] == [200] * 4
        assert scaled.get("/").json()["visits"] == count + 5
        assert failed == []

        (folder / "VERSION").write_text("78.2\n")
        with visitors(scaled, "/health") as failed:
            scaled.invoke("app.deploy", str(folder), *OPTIONS, "--env", "GREETING=hi")
            assert {page["release"] for page in by_host(scaled, "/").values()} == {"78.2"}
            scaled.invoke("app.rollback")
        assert {page["release"] for page in by_host(scaled, "/").values()} == {"78.1"}
        assert failed == []
    finally:
        if releases.current(scaled.session().context) != GUEST_BOOK:
            scaled.invoke("app.rollback", "--version", GUEST_BOOK)
        if scaled.session().context.state.primary != before:
            scaled.invoke("db.promote", before)
    assert scaled.get("/version").json()["version"] == GUEST_BOOK
    # After a promotion, the replica is eligible for the next one when it has caught up.
    healthy = partial(scaled.invoke, "lab.check", check=False)
    wait_until(lambda: healthy().returncode == 0, "all checks to pass", 30)
