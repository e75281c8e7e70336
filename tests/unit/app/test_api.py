"""The API: shapes, statuses, ids."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from foobar import markers, notes
from tests.unit.app.fakes import UUID, FakeLab, body, lost_while_changing, note


def test_note_is_stored_and_returned(client: FlaskClient) -> None:
    created = note(client, text="one\ntwo", id="My-1")
    assert created.status_code == 201
    assert set(body(created)) == {"id", "author", "text", "host", "created"}
    assert body(created)["created"].endswith("Z")
    assert created.headers["X-Written-To"] == "web-01"
    shown = client.get("/api/notes/My-1")
    assert body(shown) == body(created)
    assert shown.headers["X-Read-From"] == "web-02"


def test_list_is_newest_first_and_limited(client: FlaskClient) -> None:
    for number in range(3):
        note(client, text=str(number))
    listed = body(client.get("/api/notes?limit=2"))
    assert [item["text"] for item in listed] == ["2", "1"]


def test_repeated_write_is_applied_once(lab: FakeLab, client: FlaskClient) -> None:
    first, second = note(client, id="a"), note(client, id="a")
    assert (first.status_code, second.status_code) == (201, 200)
    assert body(first) == body(second)
    assert len(lab.primary.rows) == 1


def test_same_id_with_other_content_is_a_conflict(lab: FakeLab, client: FlaskClient) -> None:
    note(client, id="a")
    other = note(client, id="a", text="other")
    assert (other.status_code, body(other)["field"]) == (409, "id")
    assert len(lab.primary.rows) == 1


@pytest.mark.parametrize(
    ("options", "status", "field"),
    [
        ({"json": {"author": "a"}}, 422, "text"),
        ({"json": {"author": "a" * 41, "text": "b"}}, 422, "author"),
        ({"json": {"author": "a", "text": "b", "id": "not ok"}}, 422, "id"),
        ({"json": ["a"]}, 400, None),
        ({"data": "{", "content_type": "application/json"}, 400, None),
        ({"data": b"\xff", "content_type": "application/json"}, 400, None),
        ({"data": "[" * 16000, "content_type": "application/json"}, 400, None),
        ({"data": {"author": "a", "text": "b"}}, 415, None),
        ({"data": b"x" * 16385, "content_type": "application/json"}, 413, None),
    ],
)
def test_invalid_bodies(
    lab: FakeLab, client: FlaskClient, options: dict[str, Any], status: int, field: str | None
) -> None:
    response = client.post("/api/notes", **options)
    assert response.status_code == status
    assert body(response)["error"]
    assert body(response).get("field") == field
    assert not lab.primary.rows


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/notes?limit=0", 422),
        ("/api/notes/none", 404),
        ("/api/notes/a%20b", 422),
        ("/api/nothing", 404),
        ("/api/markers/UPPER", 422),
        ("/api/markers/a?from=elsewhere", 404),
    ],
)
def test_errors_are_json(client: FlaskClient, path: str, status: int) -> None:
    response = client.get(path)
    assert response.status_code == status
    assert body(response)["error"]
    assert body(response)["request_id"] == response.headers["X-Request-ID"]


def test_wrong_method_lists_the_allowed_ones(client: FlaskClient) -> None:
    response = client.delete("/api/notes")
    assert response.status_code == 405
    assert "POST" in response.headers["Allow"]


def test_no_primary_is_503(lab: FakeLab) -> None:
    lab.primary.writable = False
    client = lab.client()
    response = note(client)
    assert (response.status_code, body(response)["outcome"]) == (503, "refused")
    assert int(response.headers["Retry-After"]) > 0
    assert client.get("/api/notes").status_code == 200


def test_unknown_outcome_returns_the_id_for_the_retry(lab: FakeLab, client: FlaskClient) -> None:
    lab.primary.before_insert = lost_while_changing
    response = note(client)
    assert (response.status_code, body(response)["outcome"]) == (503, "unknown")
    lab.primary.before_insert = lambda: None
    assert note(client, id=body(response)["id"]).status_code == 201
    assert list(lab.primary.rows) == [body(response)["id"]]


def test_cookie_has_the_gtids_of_the_write(lab: FakeLab, client: FlaskClient) -> None:
    cookie = note(client).headers["Set-Cookie"]
    assert cookie.startswith("foobar_seen=")
    assert all(part in cookie for part in ("Max-Age=60", "HttpOnly", "SameSite=Lax"))
    assert "Secure" not in cookie
    lab.replica.caught_up = False
    assert client.get("/api/notes").headers["X-Read-From"] == "web-01"


def test_cookie_is_secure_over_https(client: FlaskClient) -> None:
    response = client.post(
        "/api/notes", json={"author": "a", "text": "b"}, headers={"X-Forwarded-Proto": "https"}
    )
    assert "Secure" in response.headers["Set-Cookie"]


@pytest.mark.parametrize("value", ["x", f"{UUID}:1;DROP", f"{UUID}:0"])
def test_forged_cookie_is_ignored(lab: FakeLab, client: FlaskClient, value: str) -> None:
    lab.replica.caught_up = False
    client.set_cookie("foobar_seen", value)
    response = client.get("/api/notes")
    assert (response.status_code, response.headers["X-Read-From"]) == (200, "web-02")


def test_markers_are_not_listed_as_notes(lab: FakeLab, client: FlaskClient) -> None:
    assert client.put("/api/markers/m-1").status_code == 201
    assert client.put("/api/markers/m-1").status_code == 200
    assert body(client.get("/api/markers/m-1"))["host"] == "web-02"
    assert body(client.get("/api/notes")) == []


def test_marker_from_local_shows_replication(lab: FakeLab) -> None:
    lab.replica.markers = {}
    client = lab.client()
    client.put("/api/markers/m-1")
    assert client.get("/api/markers/m-1?from=local").status_code == 404
    assert client.get("/api/markers/m-1?from=web-01").status_code == 200
    lab.replica.markers = lab.primary.markers
    assert client.get("/api/markers/m-1?from=local").headers["X-Read-From"] == "web-02"


def test_only_old_markers_beyond_the_limit_are_pruned(lab: FakeLab, client: FlaskClient) -> None:
    def fill(age: timedelta) -> None:
        moment: datetime = notes.now().replace(tzinfo=None) - age
        lab.primary.markers.clear()
        for number in range(markers.KEPT + 5):
            lab.primary.markers[f"m{number}"] = (
                f"m{number}", "web-01", moment - timedelta(seconds=number),
            )  # fmt: skip

    fill(timedelta(minutes=1))
    client.put("/api/markers/new-1")
    assert len(lab.primary.markers) == markers.KEPT + 6
    fill(timedelta(hours=2))
    client.put("/api/markers/new-2")
    assert len(lab.primary.markers) == markers.KEPT
    assert "new-2" in lab.primary.markers
