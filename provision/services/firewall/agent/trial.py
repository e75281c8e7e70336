"""On the machine: rules are loaded on trial, and taken back unless the controller confirms them.

The order is what makes it safe: the rules that are loaded now are kept as a file; a transient timer
of systemd is armed that loads them again; then the new table replaces the old one in one
transaction. The controller confirms over a new connection: that it can be made is the proof. Only
then is the timer stopped and the file for the next boot written. Whoever dies in between, the
machine ends with rules that were confirmed.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import re
from typing import Any

from provision.engine.agent.core import ACTIONS, PROBES, Failed, Job, Say, finish, must, run, start
from provision.engine.agent.files import Journal, place_file

LIST = ["nft", "--stateless", "--terse", "list", "table", "inet", "lab"]
NOTHING = "table inet lab\ndelete table inet lab\n"
"""Removes the table, whether it is there or not."""

RUN = "/run/foobar-lab"
BEFORE = f"{RUN}/firewall-before.nft"
TRIAL = f"{RUN}/firewall-trial.json"
UNDO = "lab-firewall-undo"
RECORD = "/var/lib/foobar-lab/firewall.json"
"""Digests of the rules that were confirmed, as they were written and as the kernel lists them."""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _record() -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(_read(RECORD) or "{}")
    except ValueError:
        return {}
    return found


def firewall_probe(each: list[dict[str, Any]]) -> Job:
    """The loaded rules: ``path`` of their file."""
    process = start(LIST) if os.path.exists("/usr/sbin/nft") else None
    yield
    listing = finish(process).out if process else ""
    record = _record()
    return [
        {
            "listing": listing,
            "unchanged": bool(listing) and record.get("listing") == _digest(listing),
            "confirmed": record.get("source", ""),
            "file": _read(one["path"]),
        }
        for one in each
    ]


def ssh_peer() -> str:
    """The address that this agent's SSH connection comes from; empty when it cannot be told.

    sudo hides it from its child, so the environments of the processes above are read.
    """
    pid = os.getpid()
    while pid > 1:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                found = re.search(rb"(?:^|\0)SSH_CONNECTION=(\S+) ", file.read())
            if found:
                return found.group(1).decode()
            with open(f"/proc/{pid}/stat") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return ""


def carried(text: str) -> list[str]:
    """The elements of the set ``carried`` for connections that exist now.

    The kernel tracks connections only once a rule asks for their state: a connection that is older
    would look new when the other side speaks first. Each one is let through by name for an hour;
    by its first packet it is tracked like any other.

    Args:
        text: the answer of ``ss -Htn state established``.
    """
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 4:
            continue
        local, peer = (
            re.fullmatch(r"\[?(?:::ffff:)?([0-9.]+)\]?(?:%\w+)?:(\d+)", w) for w in words[2:4]
        )
        if local and peer and not local.group(1).startswith("127."):
            there, here = " . ".join(peer.groups()), " . ".join(local.groups())
            found.append(f"{there} . {here} timeout 1h")
    return found


def firewall(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Load rules on trial: ``text``, ``path``, ``ssh`` (who may log in), ``window`` in seconds.

    Raises:
        Failed: when nft refuses them, or they would cut this connection's other end off; nothing
            is changed then.
    """
    _not_locked_out(args["ssh"])
    os.makedirs(RUN, exist_ok=True)
    _take_back_now()
    must(["nft", "--check", "--file", "-"], input=args["text"])
    now = run(["nft", "list", "table", "inet", "lab"]).out
    before = NOTHING + now
    if run(["nft", "--check", "--file", "-"], input=before).status != 0:
        before = NOTHING + run(LIST).out  # without what the kernel counts and remembers
    place_file(BEFORE, before.encode(), 0, 0, 0o600)
    open_now = carried(run(["ss", "-Htn", "state", "established"]).out)
    elements = f"add element inet lab carried {{ {', '.join(open_now)} }}\n" if open_now else ""
    say(f"new firewall rules, taken back in {args['window']} s unless they are confirmed")
    run(["systemctl", "reset-failed", f"{UNDO}.service"])
    must(
        [
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={UNDO}",
            f"--on-active={args['window']}",
            "--timer-property=AccuracySec=50ms",
            "--description=Put the firewall's old rules back",
            "/usr/sbin/nft",
            "-f",
            BEFORE,
        ]
    )
    done = run(["nft", "--file", "-"], input=args["text"] + elements)
    if done.status != 0:
        _take_back_now()
        raise Failed("nft refuses the rules", done.out + done.err)
    trial = {"path": args["path"], "text": args["text"], "listing": run(LIST).out}
    place_file(TRIAL, json.dumps(trial).encode(), 0, 0, 0o600)


def _not_locked_out(allowed: list[str]) -> None:
    peer = ssh_peer()
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return
    if address.is_loopback or any(address in ipaddress.ip_network(n) for n in allowed):
        return
    raise Failed(
        f"this firewall would lock out the controller: it comes from {peer}, and SSH would be open "
        f"for {', '.join(allowed)} alone; name {peer} in the topology's ssh_from"
    )


def _take_back_now() -> None:
    """End a trial that nobody confirmed: with its rules taken back, as the timer would have."""
    if run(["systemctl", "is-active", f"{UNDO}.timer"]).out.strip() == "active":
        run(["nft", "-f", BEFORE])
        run(["systemctl", "stop", f"{UNDO}.timer"])
    with contextlib.suppress(FileNotFoundError):
        os.unlink(TRIAL)


def confirm(args: dict[str, Any], say: Say) -> dict[str, Any]:
    """Keep the rules that are on trial, now and at boot. To be called over a new connection.

    Returns:
        ``{"kept": True}``, or False when they were taken back meanwhile.
    """
    text = _read(TRIAL)
    if not text:
        return {"kept": False}
    trial = json.loads(text)
    run(["systemctl", "stop", f"{UNDO}.timer"])
    if run(LIST).out != trial["listing"]:
        return {"kept": False}
    os.makedirs(os.path.dirname(trial["path"]), exist_ok=True)
    place_file(trial["path"], trial["text"].encode(), 0, 0, 0o644)
    record = {"source": _digest(trial["text"]), "listing": _digest(trial["listing"])}
    os.makedirs(os.path.dirname(RECORD), exist_ok=True)
    place_file(RECORD, json.dumps(record).encode(), 0, 0, 0o644)
    os.unlink(TRIAL)
    return {"kept": True}


def no_firewall(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Remove the table, what is recorded of it, and last its file: ``path``."""
    _take_back_now()
    must(["nft", "--file", "-"], input=NOTHING)
    for path in (RECORD, BEFORE, args["path"]):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


PROBES["firewall"] = firewall_probe
ACTIONS.update(firewall=firewall, no_firewall=no_firewall)
