"""Cross-site changes are refused; clients that are not browsers are accepted."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from werkzeug.datastructures import Headers

from foobar.origin import is_cross_site
from tests.unit.app.fakes import FakeLab


@pytest.mark.parametrize(
    ("headers", "cross_site"),
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
def test_origin(headers: dict[str, str], cross_site: bool) -> None:
    assert is_cross_site(Headers(headers), "www.foobar.com:8080") is cross_site


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/notes"), ("POST", "/api/notes"), ("PUT", "/api/markers/a")]
)
def test_cross_site_changes_are_refused(
    lab: FakeLab, client: FlaskClient, method: str, path: str
) -> None:
    response = client.open(path, method=method, headers={"Origin": "http://evil.example"})
    assert response.status_code == 403
    assert not lab.primary.rows
    assert not lab.primary.markers


def test_cross_site_links_are_accepted(client: FlaskClient) -> None:
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
