"""Releases on real machines: deployed under load, refused, broken, interrupted, rolled back."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.engine.agent.http import http_probe
from provision.engine.agent.protocol import HttpRequest
from provision.services.app import releases
from provision.services.app import role as app
from provision.services.app.interface import SOCKET
from provision.services.haproxy import runtime
from tests.live.conftest import RunningLab
from tests.live.faults.faults import release
from tests.live.faults.workload import Workload, count_writes

pytestmark = pytest.mark.live

FIRST = app.version_of(app.SOURCE)

BROKEN = "raise RuntimeError('this release is broken on purpose')\n"
"""A module that cannot be imported."""

BROKEN_ON_WEB_02 = (
    (app.SOURCE / "foobar" / "status.py").read_text()
    + """
import os
if os.environ["FOOBAR_HOST"] == "web-02":
    raise RuntimeError("this release is broken on web-02")
"""
)
"""A module that can be imported only on the first server."""


@pytest.fixture
def fresh(lab: RunningLab) -> Iterator[RunningLab]:
    """The session's lab; afterwards it runs the first release again."""
    yield lab
    lab.up()
    if releases.current(lab.session().context) != FIRST:
        lab.invoke("app.rollback", "--version", FIRST)


def running(lab: RunningLab) -> dict[str, str]:
    """The release that each application server runs."""
    with lab.fleet() as fleet:
        versions = {}
        for machine in fleet.lab.with_role("app"):
            probe = http_probe("version", HttpRequest("/version", socket=SOCKET))
            response = fleet.host(machine.name).gather([probe])[probe]
            assert response.headers["x-app-version"] == json.loads(response.body)["version"]
            versions[machine.name] = response.headers["x-app-version"]
        return versions


def rotation(lab: RunningLab) -> dict[str, str]:
    """The status of each server for the balancer."""
    with lab.fleet() as fleet:
        return {v.name: v.status for v in runtime.statistics(lab.session().context, fleet)["lb-01"]}


EVERYWHERE = {"web-01": FIRST, "web-02": FIRST}
SERVING = {"web-01": "UP", "web-02": "UP"}


def test_a_deploy_and_a_rollback_without_a_failed_request(fresh: RunningLab) -> None:
    migration = {
        "migrations/0003_second.sql": "CREATE TABLE IF NOT EXISTS second (id INT PRIMARY KEY);\n"
    }
    lab = fresh.session().lab
    assert fresh.url
    workload = Workload(lab, 60)
    workload.start()
    try:
        with release("2.0.0", migration) as folder:
            fresh.invoke("app.deploy", str(folder))
        assert running(fresh) == {"web-01": "2.0.0", "web-02": "2.0.0"}
        fresh.invoke("app.rollback")
    finally:
        workload.stop()
    result = workload.finish()
    assert running(fresh) == EVERYWHERE
    assert result.failures == ()
    # No write was refused; on an overloaded computer the client may time out.
    assert [what for _, what in result.refusals if "TimeoutError" not in what] == []
    assert len(result.acknowledged) > 10
    with fresh.fleet() as fleet:
        assert {(f.missing, f.duplicated) for f in count_writes(fleet, result).values()} == {(0, 0)}
    query = "SELECT number FROM foobar.schema_migrations WHERE number = 3"
    assert fresh.sql("web-01", query) == "3"
    again = fresh.invoke("app.rollback", check=False)
    assert again.returncode == 2
    assert f"no release was deployed before {FIRST}" in again.stderr
    # A version that was deployed before needs no folder.
    fresh.invoke("app.deploy", "--version", "2.0.0")
    listed = fresh.json("app.releases")["releases"]
    # Releases of other tests may be listed too.
    current = {item["release"]: item["current"] for item in listed}
    assert (current[FIRST], current["2.0.0"]) == (False, True)
    assert next(r for r in listed if r["current"])["machines"] == ["web-01", "web-02"]
    assert "unchanged" in fresh.up().stdout
    assert running(fresh) == {"web-01": "2.0.0", "web-02": "2.0.0"}


@pytest.mark.parametrize(
    ("version", "module"), [("3.1.0", BROKEN), ("3.2.0", BROKEN_ON_WEB_02)], ids=["first", "second"]
)
def test_a_release_that_does_not_become_ready_is_rolled_back_on_every_server(
    fresh: RunningLab, version: str, module: str
) -> None:
    with release(version, {"foobar/status.py": module}) as folder:
        failed = fresh.invoke("app.deploy", str(folder), check=False)
    where = "web-01" if module == BROKEN else "web-02"
    assert failed.returncode == 1
    assert f"{version} does not become ready on {where}" in failed.stderr
    assert f"every server runs {FIRST} again; nothing was recorded" in failed.stderr
    assert running(fresh) == EVERYWHERE
    assert rotation(fresh) == SERVING
    assert "no changes" in fresh.invoke("lab.plan", "--detailed-exitcode").stdout


def test_a_failed_migration_stops_before_any_server_is_updated(fresh: RunningLab) -> None:
    bad = {
        "migrations/0003_second.sql": "CREATE TABLE IF NOT EXISTS second (id INT PRIMARY KEY);\n",
        "migrations/0004_bad.sql": "CREATE TABL nonsense;\n",
    }
    with release("3.3.0", bad) as folder:
        failed = fresh.invoke("app.deploy", str(folder), check=False)
    assert failed.returncode == 1
    assert "no server was updated, and nothing was recorded" in failed.stderr
    assert running(fresh) == EVERYWHERE
    assert rotation(fresh) == SERVING


@pytest.mark.parametrize(
    "step",
    ["checking for migrations", "unpacking", "draining", "switching to", "verifying the release"],
)
def test_lab_up_rolls_back_a_deploy_that_was_killed(fresh: RunningLab, step: str) -> None:
    with release(f"4.0.{step.split()[0]}") as folder:
        child = fresh.start("app.deploy", str(folder))
        child.wait_for_output(step)
        child.signal(signal.SIGKILL)
        child.process.wait(20)
    fresh.up()
    assert running(fresh) == EVERYWHERE
    assert rotation(fresh) == SERVING


def test_an_invalid_release_is_refused_and_changes_nothing(
    fresh: RunningLab, tmp_path: Path
) -> None:
    with release(FIRST) as same, release("5.0.0") as other, release("..") as odd:
        (same / "foobar" / "text.py").write_text("# another content\n")
        (other / "VERSION").unlink()
        for words, messages in (
            ((str(same),), f"has different files under version {FIRST}|already stored as {FIRST}"),
            ((str(other),), "has no version"),
            ((str(odd),), "is not a valid version"),
            ((str(tmp_path),), "is not a release of the guest book"),
            ((str(tmp_path / "none"),), "does not exist"),
            (("--version", "../up"), "is not a valid version"),
        ):
            refused = fresh.invoke("app.deploy", *words, check=False)
            assert refused.returncode in (1, 2)
            assert any(message in refused.stderr for message in messages.split("|")), refused.stderr
    unknown = fresh.invoke("app.rollback", "--version", "0.0.1", check=False)
    assert "no release '0.0.1' was deployed here" in unknown.stderr
    assert running(fresh) == EVERYWHERE


def test_a_machine_that_is_down_is_detected_before_the_first_server_is_updated(
    fresh: RunningLab,
) -> None:
    fresh.invoke("lab.kill", "web-02")
    with release("6.0.0") as folder:
        refused = fresh.invoke("app.deploy", str(folder), check=False)
    assert "web-02 is not running" in refused.stderr
    fresh.up()
    assert running(fresh) == EVERYWHERE


def test_services_and_machines_restart_without_a_failed_read(fresh: RunningLab) -> None:
    workload = Workload(fresh.session().lab, 90)
    assert fresh.url
    workload.start()
    try:
        for what in ("foobar", "nginx", "haproxy", "web-02"):
            fresh.invoke("lab.restart", what)
    finally:
        workload.stop()
    result = workload.finish()
    assert result.failures == ()
    with fresh.fleet() as fleet:
        assert {(f.missing, f.duplicated) for f in count_writes(fleet, result).values()} == {(0, 0)}
    output = fresh.invoke("lab.restart", "mysql").stderr
    assert output.index("web-02") < output.index("web-01   is the primary: writes pause")
    assert fresh.invoke("lab.restart", "nothing", check=False).returncode == 2
    assert rotation(fresh) == SERVING
