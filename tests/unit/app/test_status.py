"""/healthz and /version."""

from __future__ import annotations

from flask.testing import FlaskClient

from provision.engine.resources import Tree
from provision.engine.resources.files import tree_files
from tests.unit.app.conftest import APP
from tests.unit.app.fakes import FakeLab, body


def test_healthy(client: FlaskClient) -> None:
    response = client.get("/healthz")
    assert response.status_code == 200
    assert body(response)["status"] == "ok"
    assert body(response)["host"] == "web-02"
    assert body(response)["read"] == {"server": "web-02"}
    assert body(response)["write"] == {"server": "web-01"}
    assert body(response)["databases"]["web-02"] == {"state": "replica"}


def test_no_primary_is_reported_but_healthy(lab: FakeLab) -> None:
    lab.primary.up = False
    response = lab.client().get("/healthz")
    assert response.status_code == 200
    assert body(response)["write"]["server"] is None
    assert body(response)["databases"]["web-01"]["state"] == "down"


def test_split_brain_is_reported(lab: FakeLab) -> None:
    lab.replica.writable = True
    response = lab.client().get("/healthz")
    assert response.status_code == 200
    assert body(response)["write"]["server"] is None
    assert "split brain" in body(response)["write"]["error"]


def test_local_database_down_is_healthy(lab: FakeLab) -> None:
    lab.replica.up = False
    response = lab.client().get("/healthz")
    assert (response.status_code, body(response)["read"]["server"]) == (200, "web-01")


def test_no_database_is_unhealthy(lab: FakeLab) -> None:
    lab.primary.up = lab.replica.up = False
    response = lab.client().get("/healthz")
    assert response.status_code == 503
    assert body(response)["status"] == "unfit"
    assert body(response)["error"]


def test_version(client: FlaskClient) -> None:
    assert body(client.get("/version")) == {
        "version": (APP / "VERSION").read_text().strip(),
        "host": "web-02",
        "release": APP.name,
        "digest": Tree("", tree_files(APP)).digest,
    }
