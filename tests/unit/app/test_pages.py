"""The pages: content, escaping and errors."""

from __future__ import annotations

import logging
import re
from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from foobar import notes, pages
from tests.unit.app.fakes import FakeLab, lost_while_changing, note

THROUGH_ALL = {
    "X-Via-Balancer": "lb-01",
    "X-Via-Web": "web-02",
    "X-Forwarded-For": "10.0.0.5, 192.168.56.10",
}


def test_page_shows_the_hops(client: FlaskClient) -> None:
    page = client.get("/", headers=THROUGH_ALL)
    assert page.status_code == 200
    for words in ("lb-01", "192.168.56.10", "10.0.0.5", "read from web-02 · replica",
                  "writes go to web-01 · primary"):  # fmt: skip
        assert words in page.text
    assert "not on the path" not in page.text


def test_missing_hops_are_shown(client: FlaskClient) -> None:
    assert client.get("/").text.count('<p class="address">not on the path</p>') == 2


def test_headers_and_notes_are_escaped(client: FlaskClient) -> None:
    note(client, author="<b>x</b>", text="<script>alert('x')</script>")
    text = client.get("/", headers={"X-Via-Balancer": "<img src=x>"}).text
    assert "<script>alert" not in text
    assert "<b>x</b>" not in text
    assert "<img src=x>" not in text
    assert "&lt;script&gt;" in text
    assert "&lt;img src=x&gt;" in text


def test_form_redirects_and_stores_the_note(lab: FakeLab, client: FlaskClient) -> None:
    response = client.post("/notes", data={"author": "Ada", "text": "from the form"})
    assert (response.status_code, response.headers["Location"]) == (303, "/")
    assert response.headers["X-Written-To"] == "web-01"
    assert "from the form" in client.get("/").text


def test_freshness_is_shown(lab: FakeLab, client: FlaskClient) -> None:
    client.post("/notes", data={"author": "Ada", "text": "hello"})
    assert "so it was read" in client.get("/").text
    lab.replica.caught_up = False
    page = client.get("/")
    assert "the primary <b>web-01</b> was read" in page.text
    assert page.headers["X-Read-From"] == "web-01"


def test_form_error_keeps_the_input(lab: FakeLab, client: FlaskClient) -> None:
    response = client.post("/notes", data={"author": "", "text": 'kept "words"'})
    assert response.status_code == 422
    assert "Author is empty." in response.text
    assert "kept &#34;words&#34;" in response.text
    assert not lab.primary.rows


def _form_id(text: str) -> str:
    match = re.search(r'name="id" value="([^"]+)"', text)
    assert match
    return match[1]


def test_form_sent_twice_is_one_note(lab: FakeLab, client: FlaskClient) -> None:
    data = {"author": "Ada", "text": "hello", "id": _form_id(client.get("/").text)}
    assert [client.post("/notes", data=data).status_code for _ in "ab"] == [303, 303]
    assert len(lab.primary.rows) == 1
    changed = client.post("/notes", data=data | {"text": "other"})
    assert changed.status_code == 409
    assert _form_id(changed.text) != data["id"]


def test_unknown_outcome_keeps_the_id_in_the_form(lab: FakeLab, client: FlaskClient) -> None:
    lab.primary.before_insert = lost_while_changing
    response = client.post("/notes", data={"author": "Ada", "text": "hello", "id": "mine"})
    assert response.status_code == 503
    assert _form_id(response.text) == "mine"
    assert "only once" in response.text


def test_no_primary_keeps_reading(lab: FakeLab) -> None:
    lab.primary.writable = False
    client = lab.client()
    assert "No primary" in client.get("/").text
    refused = client.post("/notes", data={"author": "Ada", "text": "my words"})
    assert refused.status_code == 503
    assert refused.headers["Retry-After"]
    assert "my words" in refused.text


def test_no_database_is_a_page(lab: FakeLab) -> None:
    lab.primary.up = lab.replica.up = False
    page = lab.client().get("/", headers=THROUGH_ALL)
    assert page.status_code == 503
    assert "No database can be read" in page.text
    assert "lb-01" in page.text
    assert "X-Read-From" not in page.headers


def test_other_content_types_are_refused(client: FlaskClient) -> None:
    assert client.post("/notes", data="x", content_type="text/plain").status_code == 415
    assert client.post("/notes", data={"text": "x" * 17000}).status_code == 413


def test_reloading_a_refused_form_redirects(client: FlaskClient) -> None:
    assert client.get("/notes").headers["Location"] == "/"


def test_unknown_path_is_a_page(client: FlaskClient) -> None:
    response = client.get("/nothing/<script>")
    assert response.status_code == 404
    assert response.mimetype == "text/html"
    assert "<script>" not in response.text


@pytest.mark.parametrize("path", ["/", "/api/notes"])
def test_bug_is_logged_and_not_shown(
    lab: FakeLab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    def bug(*_: object) -> None:
        raise KeyError("inner-secret")

    monkeypatch.setattr(notes, "recent", bug)
    response = lab.client().get(path, headers={"X-Request-ID": "abcdef-123456"})
    assert response.status_code == 500
    assert "abcdef-123456" in response.text
    assert "inner-secret" not in response.text
    record = next(r for r in caplog.records if r.levelno == logging.ERROR)
    assert "abcdef-123456" in record.getMessage()
    assert record.exc_info


@pytest.mark.parametrize("path", ["/", "/api/notes", "/nothing", "/healthz", "/version"])
def test_every_response_has_the_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-App-Host"] == "web-02"
    assert headers["X-App-Version"]
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"


def test_page_complies_with_the_content_security_policy(client: FlaskClient) -> None:
    note(client)
    text = client.get("/").text
    assert " style=" not in text
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", text, re.DOTALL)
    assert [(' src="/static/live.js' in where, body) for where, body in scripts] == [(True, "")]
    assert "http://" not in text.replace("http://www.w3.org", "")


@pytest.mark.parametrize("sent", ["short", "x" * 65, "with space 12345", "<script>12345"])
def test_invalid_request_ids_are_replaced(client: FlaskClient, sent: str) -> None:
    assert client.get("/", headers={"X-Request-ID": sent}).headers["X-Request-ID"] != sent


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "just now"), (59, "just now"), (60, "1 minute ago"), (7200, "2 hours ago"),
     (90000, "1 day ago")],
)  # fmt: skip
def test_age(seconds: int, words: str) -> None:
    moment = notes.now()
    assert pages.age(moment - timedelta(seconds=seconds), moment) == words
