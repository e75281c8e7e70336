"""Loading firewall rules on trial: they are rolled back unless the controller confirms them.

The order makes it safe. The loaded rules are saved to a file, and a transient systemd timer is
started that loads them again. Then the new table replaces the old one in one transaction. The
controller confirms over a new connection, which proves that it can still connect. Only then is the
timer stopped and the file for the next boot written. If either side crashes in between, the machine
ends with confirmed rules.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import re
from dataclasses import dataclass

from provision.engine.agent.atomic import write_atomically
from provision.engine.agent.codec import decode, encode
from provision.engine.agent.files import Journal
from provision.engine.agent.filesystem import read_text
from provision.engine.agent.process import AgentError, Log, must, run
from provision.engine.agent.protocol import Confirmation, Probe
from provision.engine.agent.registry import Args, action, collector, operation

LIST = ["nft", "--stateless", "--terse", "list", "table", "inet", "lab"]
REMOVE_TABLE = "table inet lab\ndelete table inet lab\n"
"""Removes the table; succeeds without one."""

RUN = "/run/foobar-lab"
SAVED = f"{RUN}/firewall-saved.nft"
TRIAL = f"{RUN}/firewall-trial.json"
ROLLBACK = "lab-firewall-rollback"
RECORD = "/var/lib/foobar-lab/firewall.json"
"""Holds `ConfirmedRules`."""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class ConfirmedRules:
    """Digests of confirmed rules: as they were written, and as the kernel lists them."""

    source: str = ""
    listing: str = ""


@dataclass(frozen=True)
class RulesOnTrial:
    """Rules that were loaded and not confirmed yet."""

    path: str
    text: str
    listing: str


@dataclass(frozen=True)
class FirewallFacts:
    """The loaded rules.

    Args:
        listing: the table as the kernel lists it; empty when there is none.
        unchanged: whether it is as it was when it was confirmed.
        confirmed: digest of the confirmed rules, as they were written.
        file: text of the file that loads rules at boot.
    """

    listing: str
    unchanged: bool
    confirmed: str
    file: str


def firewall_probe(path: str) -> Probe[FirewallFacts]:
    """The loaded rules; ``path`` is the file that loads them at boot."""
    return Probe("firewall", "firewall", {"path": path}, FirewallFacts)


@collector("firewall")
def collect_firewall(args: Args) -> FirewallFacts:
    """See `firewall_probe`."""
    listing = run(LIST).stdout if os.path.exists("/usr/sbin/nft") else ""
    try:
        record = decode(ConfirmedRules, json.loads(read_text(RECORD) or "{}"))
    except ValueError:
        record = ConfirmedRules()
    unchanged = bool(listing) and record.listing == _digest(listing)
    return FirewallFacts(listing, unchanged, record.source, read_text(args["path"]))


def ssh_peer() -> str:
    """The client address of this agent's SSH connection; empty when it is unknown.

    sudo removes it from the environment, so those of the parent processes are read.
    """
    pid = os.getpid()
    while pid > 1:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                match = re.search(rb"(?:^|\0)SSH_CONNECTION=(\S+) ", file.read())
            if match:
                return match.group(1).decode()
            with open(f"/proc/{pid}/stat") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return ""


def existing_connections(text: str) -> list[str]:
    """Elements of the set ``preexisting``, from the output of ``ss -Htn state established``.

    The kernel tracks connections only once a rule uses their state: an older connection would look
    new when the peer sends first. Each one is accepted by its addresses and ports for an hour, and
    is tracked from its first packet on.
    """
    elements = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 4:
            continue
        local, peer = (
            re.fullmatch(r"\[?(?:::ffff:)?([0-9.]+)\]?(?:%\w+)?:(\d+)", w) for w in words[2:4]
        )
        if local and peer and not local.group(1).startswith("127."):
            source, destination = " . ".join(peer.groups()), " . ".join(local.groups())
            elements.append(f"{source} . {destination} timeout 1h")
    return elements


@action("firewall")
def load_on_trial(args: Args, journal: Journal, log: Log) -> None:
    """Load rules on trial: ``text``, ``path``, ``ssh`` (allowed sources), ``window`` in seconds.

    Raises:
        AgentError: when nft rejects them, or they would lock out the controller; nothing is
            changed then.
    """
    _refuse_lockout(args["ssh"])
    os.makedirs(RUN, exist_ok=True)
    _roll_back()
    must(["nft", "--check", "--file", "-"], input=args["text"])
    saved = REMOVE_TABLE + run(["nft", "list", "table", "inet", "lab"]).stdout
    if not run(["nft", "--check", "--file", "-"], input=saved).ok:
        saved = REMOVE_TABLE + run(LIST).stdout  # without counters and dynamic set elements
    write_atomically(SAVED, saved.encode(), 0o600)
    existing = ", ".join(existing_connections(run(["ss", "-Htn", "state", "established"]).stdout))
    elements = f"add element inet lab preexisting {{ {existing} }}\n" if existing else ""
    log(f"loading firewall rules, rolled back in {args['window']} s unless they are confirmed")
    run(["systemctl", "reset-failed", f"{ROLLBACK}.service"])
    must(
        [
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={ROLLBACK}",
            f"--on-active={args['window']}",
            "--timer-property=AccuracySec=50ms",
            "--description=Roll back firewall rules that were not confirmed",
            "/usr/sbin/nft",
            "-f",
            SAVED,
        ]
    )
    result = run(["nft", "--file", "-"], input=args["text"] + elements)
    if not result.ok:
        _roll_back()
        raise AgentError("nft rejects the rules", result.output)
    trial = RulesOnTrial(args["path"], args["text"], run(LIST).stdout)
    write_atomically(TRIAL, json.dumps(encode(trial)).encode(), 0o600)


def _refuse_lockout(allowed: list[str]) -> None:
    """Check that the controller's address is an allowed source.

    Raises:
        AgentError: when it is not.
    """
    peer = ssh_peer()
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return
    if address.is_loopback or any(address in ipaddress.ip_network(n) for n in allowed):
        return
    raise AgentError(
        f"this firewall would lock out the controller: it connects from {peer}, and SSH would be "
        f"open only for {', '.join(allowed)}; add {peer} to ssh_from in the topology"
    )


def _roll_back() -> None:
    """End a trial that was not confirmed, as the timer does."""
    if run(["systemctl", "is-active", f"{ROLLBACK}.timer"]).stdout.strip() == "active":
        run(["nft", "-f", SAVED])
        run(["systemctl", "stop", f"{ROLLBACK}.timer"])
    with contextlib.suppress(FileNotFoundError):
        os.unlink(TRIAL)


@operation("firewall-confirm")
def confirm(args: Args, log: Log) -> Confirmation:
    """Keep the rules that are on trial, also at boot. Must be called over a new connection."""
    text = read_text(TRIAL)
    if not text:
        return Confirmation(kept=False)
    trial = decode(RulesOnTrial, json.loads(text))
    run(["systemctl", "stop", f"{ROLLBACK}.timer"])
    if run(LIST).stdout != trial.listing:
        return Confirmation(kept=False)
    os.makedirs(os.path.dirname(trial.path), exist_ok=True)
    write_atomically(trial.path, trial.text.encode(), 0o644)
    record = ConfirmedRules(_digest(trial.text), _digest(trial.listing))
    os.makedirs(os.path.dirname(RECORD), exist_ok=True)
    write_atomically(RECORD, json.dumps(encode(record)).encode(), 0o644)
    os.unlink(TRIAL)
    return Confirmation(kept=True)


@action("remove-firewall")
def remove_firewall(args: Args, journal: Journal, log: Log) -> None:
    """Remove the table, its records, and last its file: ``path``."""
    _roll_back()
    must(["nft", "--file", "-"], input=REMOVE_TABLE)
    for path in (RECORD, SAVED, args["path"]):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
