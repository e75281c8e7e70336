"""The hops of a request, from its headers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from werkzeug.datastructures import Headers

from foobar import hops
from foobar.settings import Server
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
    assert app.address == "requested directly, over HTTP"


MACHINES = replace(
    SETTINGS, host="app-01", machines=(Server("lb-01", "10.0.0.10"), Server("web-02", "10.0.0.22"))
)


@pytest.mark.parametrize(
    ("peer", "encrypted", "words"),
    [
        ("", False, "over a Unix socket"),
        ("10.0.0.22", False, "over HTTP, from 10.0.0.22"),
        ("10.0.0.22", True, "over HTTPS, from 10.0.0.22"),
    ],
)
def test_the_transport_to_the_application_is_the_true_one(
    peer: str, encrypted: bool, words: str
) -> None:
    headers = Headers({"X-Via-Balancer": "lb-01", "X-Via-Web": "web-02"})
    *_, app = hops.of_request(headers, peer, MACHINES, encrypted=encrypted)
    assert app.address == words


def test_addresses_of_known_machines_are_shown() -> None:
    """Nginx passes on the visitor's address only."""
    headers = Headers(
        {"X-Via-Balancer": "lb-01", "X-Via-Web": "web-02", "X-Forwarded-For": "10.0.0.5"}
    )
    _, balancer, web, _ = hops.of_request(headers, "", MACHINES)
    assert (balancer.address, web.address) == ("10.0.0.10", "10.0.0.22")


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
