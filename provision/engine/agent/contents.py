"""What a web server responds to several requests, as digests: for comparison with other copies."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from provision.engine.agent.codec import decode, encode
from provision.engine.agent.http import exchange
from provision.engine.agent.protocol import HttpRequest, Probe
from provision.engine.agent.registry import Args, batch_collector


@dataclass(frozen=True)
class Content:
    """One response.

    Args:
        status: 0 without a response.
        size: of the body, in bytes.
        digest: SHA-256 of the body, in hex.
        headers: names in lower case.
        error: why there was no response.
    """

    status: int = 0
    size: int = 0
    digest: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Contents:
    """The responses of one server, by path."""

    by_path: Mapping[str, Content] = field(default_factory=dict)


def contents_probe(name: str, request: HttpRequest, paths: Sequence[str]) -> Probe[Contents]:
    """The responses of a server to requests for these paths.

    Args:
        name: of the probe.
        request: its path does not matter.
    """
    args = {"request": encode(request), "paths": list(paths)}
    return Probe("contents", f"contents {name}", args, Contents)


@batch_collector("contents")
def collect_contents(batch: Sequence[Args]) -> list[Contents]:
    """See `contents_probe`; servers at once, the requests to one server one after the other."""
    with ThreadPoolExecutor(len(batch)) as pool:
        return list(pool.map(_collect, batch))


def _collect(args: Args) -> Contents:
    request = decode(HttpRequest, args["request"])
    found: dict[str, Content] = {}
    for path in args["paths"]:
        found[path] = _content(request, path)
        if found[path].error:
            break  # a server that hangs is not waited for again
    return Contents(found)


def _content(request: HttpRequest, path: str) -> Content:
    response, body = exchange(replace(request, path=path))
    digest = hashlib.sha256(body).hexdigest()
    return Content(response.status, len(body), digest, response.headers, response.error)
