"""The package pool of this host, with the mirror and the proxies of its apt configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from provision.core.pool import store
from provision.core.pool.pool import Pool
from provision.providers.image_recipe import Recipe, apt_settings, mirror

_PROXY = re.compile(r'Acquire::(?P<scheme>https?)::Proxy(?:::(?P<host>[^ ]+))? "(?P<value>[^"]*)";')


def open_pool(recipe: Recipe | None = None) -> Pool:
    """The pool of this host; LAB_OFFLINE=1 never asks an archive."""
    settings = recipe.apt if recipe is not None else apt_settings()
    proxies, direct = parse_proxies(settings)
    return Pool(
        store.default_folder(),
        recipe.mirror if recipe is not None else mirror(),
        proxies,
        direct,
        offline=os.environ.get("LAB_OFFLINE", "") not in ("", "0"),
    )


def parse_proxies(settings: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The proxies by scheme in lines of apt.conf, and the hosts that are reached directly."""
    proxies: dict[str, str] = {}
    direct = []
    for match in filter(None, map(_PROXY.fullmatch, settings)):
        if match["host"] and match["value"] == "DIRECT":
            direct.append(match["host"])
        elif not match["host"] and match["value"] not in ("", "DIRECT"):
            proxies[match["scheme"]] = match["value"]
    return proxies, tuple(direct)
