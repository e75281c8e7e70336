"""Which Incus server a lab is on: the local one, or a remote of the program ``incus``."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from provision.core.errors import ProviderError, UsageError
from provision.core.suggestions import suggestion
from provision.setup import incus_server
from provision.setup.incus_server import ADD as ADD
from provision.setup.incus_server import Remote as Remote


def requested(environ: Mapping[str, str] = os.environ) -> Remote:
    """The server that the environment asks for.

    LAB_INCUS is the name of a remote, or the path of a Unix socket; without it, the local server.
    LAB_INCUS_PROJECT is a project; without it, the remote's own.

    Raises:
        UsageError: when the remote is unknown or has another protocol.
        ProviderError: when the configuration cannot be read.
    """
    text = environ.get("LAB_INCUS", "").strip()
    project = environ.get("LAB_INCUS_PROJECT", "").strip()
    if not text or "/" in text:
        socket = text or incus_server.default_socket(environ)
        if "://" in socket:
            raise UsageError(
                f"LAB_INCUS is {socket}, and not the name of a remote or the path of a socket",
                f"{ADD}, then LAB_INCUS=NAME",
            )
        return Remote("", socket, project or "default")
    folder = incus_server.configuration(environ)
    remotes = _remotes(folder)
    if text not in remotes:
        known = ", ".join(remotes) or "none"
        raise UsageError(
            f"unknown Incus remote {text!r}{suggestion(text, remotes)}",
            f"{folder} has: {known}; another one: {ADD.replace('NAME', text)}",
        )
    remote = remotes[text]
    address = str(remote.get("addr", ""))
    if path := incus_server.socket_of(address):
        return Remote("", path, project or str(remote.get("project") or "default"))
    if remote.get("protocol", "incus") != "incus" or not address.startswith("https://"):
        raise UsageError(
            f"the Incus remote {text} ({address}) is no server that can run machines",
            "choose another one: incus remote list",
        )
    return Remote(text, address, project or str(remote.get("project") or "default"), str(folder))


def tls_context(remote: Remote) -> ssl.SSLContext:
    """TLS with the client's certificate, and only the pinned certificate of the server.

    Raises:
        ProviderError: when a file is missing or damaged.
    """
    try:
        return incus_server.tls_context(remote)
    except OSError as error:
        problem = incus_server.unreadable_certificates(remote, error)
        raise ProviderError(problem.what, problem.hint) from None


def _remotes(folder: Path) -> dict[str, Mapping[str, Any]]:
    path = folder / "config.yml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return {str(name): dict(value) for name, value in (data.get("remotes") or {}).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ProviderError(
            f"{path} cannot be read: {reason}", f"repair it, or move it away and: {ADD}"
        ) from None
