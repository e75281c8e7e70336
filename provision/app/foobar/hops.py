"""The hops of a request, from its headers; the page draws them.

HAProxy sets X-Via-Balancer and Nginx X-Via-Web, each to its own host name; both append to
X-Forwarded-For. All of it is untrusted: it is truncated here, and escaped by Jinja.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from werkzeug.datastructures import Headers

from foobar.settings import Settings

_MAX_LENGTH = 64


@dataclass(frozen=True)
class RequestHop:
    """One hop; `passed` is false if the request did not pass it."""

    kind: str
    role: str
    name: str
    address: str | None
    passed: bool = True


def shown(value: str | None) -> str | None:
    """Return a header's value, printable and truncated; None if nothing is left."""
    printable = "".join(char for char in value or "" if char.isprintable()).strip()
    if len(printable) > _MAX_LENGTH:
        return printable[: _MAX_LENGTH - 1] + "…"
    return printable or None


def forwarded_for(value: str | None) -> tuple[str, ...]:
    """Return the addresses of an X-Forwarded-For header, nearest last; anything else is dropped."""
    addresses = []
    for part in (value or "")[:1024].split(","):
        try:
            addresses.append(str(ipaddress.ip_address(part.strip())))
        except ValueError:
            continue
    return tuple(addresses)


def of_request(
    headers: Headers, peer: str | None, settings: Settings, *, encrypted: bool = False
) -> tuple[RequestHop, RequestHop, RequestHop, RequestHop]:
    """Return the hops of a request: visitor, balancer, web server, application.

    Args:
        peer: address of gunicorn's client; empty for a Unix socket.
        encrypted: whether gunicorn's client uses TLS.
    """
    balancer = shown(headers.get("X-Via-Balancer"))
    web = shown(headers.get("X-Via-Web"))
    visitor, before_web = _ends(
        forwarded_for(headers.get("X-Forwarded-For")), through_balancer=balancer is not None
    )
    return (
        RequestHop("visitor", "Your browser", "You", visitor or shown(peer)),
        RequestHop(
            "balancer",
            "Load balancer · HAProxy",
            balancer or "not used",
            (before_web or settings.address_of(balancer)) if balancer else None,
            passed=balancer is not None,
        ),
        RequestHop(
            "web",
            "Web server · Nginx",
            web or "not used",
            settings.address_of(web) if web else None,
            passed=web is not None,
        ),
        RequestHop(
            "app",
            "Application · gunicorn, Flask",
            settings.host,
            transport(peer, direct=web is None, encrypted=encrypted),
        ),
    )


def transport(peer: str | None, *, direct: bool, encrypted: bool) -> str:
    """Return how the request reached gunicorn; `direct` without Nginx before it."""
    if not peer:
        return "over a Unix socket"
    scheme = "HTTPS" if encrypted else "HTTP"
    return f"requested directly, over {scheme}" if direct else f"over {scheme}, from {peer}"


def _ends(addresses: tuple[str, ...], *, through_balancer: bool) -> tuple[str | None, str | None]:
    """Return the visitor's and the balancer's address.

    Each proxy appends the address of its client; entries before the last two come from the
    visitor and are not trusted.
    """
    if not addresses:
        return None, None
    if not through_balancer or len(addresses) == 1:
        return addresses[-1], None
    visitor, last = addresses[-2:]
    return visitor, last if last != visitor else None
