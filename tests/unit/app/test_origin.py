"""Changes from another site's page are refused; programs are not browsers."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from werkzeug.datastructures import Headers

from foobar.origin import is_foreign
from tests.unit.app.fakes import FakeLab


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({}, False),
        ({"Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Origin": "http://www.foobar.com"}, False),
        ({"Origin": "https://www.foobar.com:8443"}, False),
        ({"Origin": "http://foobar.com"}, True),
        ({"Origin": "http://www.foobar.com.evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": "http://[broken"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"}, True),
    ],
)
def test_origin(headers: dict[str, str], foreign: bool) -> None:
    assert is_foreign(Headers(headers), "www.foobar.com:8080") is foreign


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/notes"), ("POST", "/api/notes"), ("PUT", "/api/markers/a")]
)
def test_foreign_changes_change_nothing(
    lab: FakeLab, client: FlaskClient, method: str, path: str
) -> None:
    response = client.open(path, method=method, headers={"Origin": "http://evil.example"})
    assert response.status_code == 403
    assert not lab.primary.rows
    assert not lab.primary.markers


def test_foreign_pages_may_link_here(client: FlaskClient) -> None:
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
