"""The hops of a request, from its headers."""

from __future__ import annotations

import pytest
from werkzeug.datastructures import Headers

from foobar import hops
from tests.unit.app.fakes import SETTINGS


def test_through_balancer_and_nginx() -> None:
    headers = Headers(
        {
            "X-Via-Balancer": "lb-01",
            "X-Via-Web": "web-02",
            "X-Forwarded-For": "6.6.6.6, 10.0.0.5, 192.168.56.10",
        }
    )
    visitor, balancer, web, app = hops.of_request(headers, "", SETTINGS)
    assert visitor.address == "10.0.0.5"
    assert (balancer.name, balancer.address, balancer.passed) == ("lb-01", "192.168.56.10", True)
    assert (web.name, web.address) == ("web-02", "192.168.56.12")
    assert app.name == "web-02"


def test_request_directly_to_nginx() -> None:
    headers = Headers({"X-Via-Web": "web-02", "X-Forwarded-For": "10.0.0.5"})
    visitor, balancer, web, _ = hops.of_request(headers, "", SETTINGS)
    assert visitor.address == "10.0.0.5"
    assert not balancer.passed
    assert balancer.address is None
    assert web.passed


def test_request_directly_to_gunicorn() -> None:
    visitor, balancer, web, app = hops.of_request(Headers(), "127.0.0.1", SETTINGS)
    assert visitor.address == "127.0.0.1"
    assert not balancer.passed
    assert not web.passed
    assert app.address == "asked directly over http"


def test_one_forwarded_address_is_the_visitor() -> None:
    headers = Headers({"X-Via-Balancer": "lb-01", "X-Forwarded-For": "10.0.0.5"})
    visitor, balancer, _, _ = hops.of_request(headers, "", SETTINGS)
    assert (visitor.address, balancer.address) == ("10.0.0.5", None)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [(None, None), (" \x1b\x07 ", None), ("lb-01\x1b[0m", "lb-01[0m"), ("x" * 500, "x" * 63 + "…")],
)
def test_header_values_are_truncated_and_printable(raw: str | None, shown: str | None) -> None:
    assert hops.shown(raw) == shown


def test_invalid_forwarded_addresses_are_dropped() -> None:
    assert hops.forwarded_for("<script>, ::1,unknown,10.0.0.5") == ("::1", "10.0.0.5")
