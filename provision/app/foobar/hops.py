"""The way of one request, told from its headers; the page draws it.

HAProxy sets X-Via-Balancer and Nginx X-Via-Web, each to its own host name; both append to
X-Forwarded-For. All of it is untrusted text: it is cut, and Jinja escapes it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from werkzeug.datastructures import Headers

from foobar.settings import Settings

_LONGEST = 64


@dataclass(frozen=True)
class Hop:
    """One station; `passed` is False when the request did not come through it."""

    kind: str
    role: str
    name: str
    address: str | None
    passed: bool = True


def shown(value: str | None) -> str | None:
    """Return a header's value fit to be shown: printable, cut; None when nothing is left.

    Args:
        value: the header's value, or None.
    """
    printable = "".join(each for each in value or "" if each.isprintable()).strip()
    if len(printable) > _LONGEST:
        return printable[: _LONGEST - 1] + "…"
    return printable or None


def forwarded_for(value: str | None) -> tuple[str, ...]:
    """Return the addresses of an X-Forwarded-For header, nearest last; other words are dropped.

    Args:
        value: the header's value, or None.
    """
    found = []
    for part in (value or "")[:1024].split(","):
        try:
            found.append(str(ipaddress.ip_address(part.strip())))
        except ValueError:
            continue
    return tuple(found)


def of_request(headers: Headers, peer: str | None, settings: Settings) -> tuple[Hop, Hop, Hop, Hop]:
    """Return the stations of a request: visitor, balancer, web server, application.

    Args:
        headers: the request's headers.
        peer: address of whoever opened the connection to gunicorn; empty for a Unix socket.
        settings: names and addresses of the known machines.
    """
    balancer = shown(headers.get("X-Via-Balancer"))
    web = shown(headers.get("X-Via-Web"))
    scheme = (shown(headers.get("X-Forwarded-Proto")) or "http").lower()
    visitor, before_web = _ends(
        forwarded_for(headers.get("X-Forwarded-For")), through_balancer=balancer is not None
    )
    return (
        Hop("visitor", "Your browser", "You", visitor or shown(peer)),
        Hop(
            "balancer",
            "Load balancer · HAProxy",
            balancer or "not used",
            before_web if balancer else None,
            passed=balancer is not None,
        ),
        Hop(
            "web",
            "Web server · Nginx",
            web or "not used",
            settings.address_of(web) if web else None,
            passed=web is not None,
        ),
        Hop(
            "app",
            "Application · gunicorn, Flask",
            settings.host,
            "behind a Unix socket" if web else f"asked directly over {scheme}",
        ),
    )


def _ends(addresses: tuple[str, ...], *, through_balancer: bool) -> tuple[str | None, str | None]:
    """Return the visitor's and the balancer's address.

    Each proxy appends the address it was asked from, so what stands before the last two entries
    is what the visitor claims.
    """
    if not addresses:
        return None, None
    if not through_balancer or len(addresses) == 1:
        return addresses[-1], None
    visitor, last = addresses[-2:]
    return visitor, last if last != visitor else None
