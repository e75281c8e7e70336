"""On the machine: what a TLS server shows and whether it is verified, the clock, sshd's users."""

from __future__ import annotations

import os
import socket
import ssl
import time
from typing import Any

from provision.engine.agent.core import ACTIONS, PROBES, Failed, Job, Say, must
from provision.engine.agent.files import Journal


def shown(one: dict[str, Any]) -> dict[str, Any]:
    """One handshake: ``address``, ``port``, ``ca`` (a file), ``name`` that must be certified."""
    try:
        context = ssl.create_default_context(cafile=one["ca"])
        where = (one["address"], one["port"])
        with (
            socket.create_connection(where, timeout=one.get("timeout", 3.0)) as plain,
            context.wrap_socket(plain, server_hostname=one["name"]) as secure,
        ):
            cert = secure.getpeercert() or {}
            end = ssl.cert_time_to_seconds(str(cert["notAfter"]))
            return {"error": "", "version": secure.version() or "", "ends": end}
    except (OSError, ValueError, KeyError) as error:
        return {"error": str(error) or repr(error), "version": "", "ends": 0.0}


def tls_probe(each: list[dict[str, Any]]) -> Job:
    """Ask TLS servers, one after the other."""
    yield
    return [shown(one) for one in each]


def clock_probe(each: list[dict[str, Any]]) -> Job:
    """The machine's clock, in seconds since 1970."""
    yield
    return [{"now": time.time()} for _ in each]


def refuse(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Say what only a person can mend: ``why``.

    Raises:
        Failed: always.
    """
    raise Failed(args["why"])


def sshd_admits(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Whether sshd's files, as they are now, let this agent's user in with a key.

    Raises:
        Failed: when they do not: they would cut the controller off.
    """
    user = os.environ.get("SUDO_USER", "root")
    argv = ["sshd", "-T", "-C", f"user={user},host=localhost,addr=127.0.0.1"]
    said: dict[str, list[str]] = {}
    for line in must(argv).out.splitlines():
        key, _, value = line.partition(" ")
        said.setdefault(key, []).extend(value.split())
    users = said.get("allowusers")
    if (users and user not in users) or user in said.get("denyusers", []):
        raise Failed(
            f"sshd would lock out the controller: it logs in as {user}, and sshd would admit "
            f"{', '.join(users or ['others'])} alone"
        )
    if said.get("pubkeyauthentication") != ["yes"]:
        raise Failed("sshd would lock out the controller: keys would not be accepted")


PROBES.update(tls=tls_probe, clock=clock_probe)
ACTIONS.update({"refuse": refuse, "sshd-admits": sshd_admits})
