"""The firewalls of ``secured``: every rule tested by connecting, every change on trial."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from provision.core.errors import LabError
from provision.core.lab import Machine
from provision.engine.apply import apply_unit, inspect_unit
from provision.engine.context import Context
from provision.engine.host import Host
from provision.engine.plan import Unit
from provision.engine.role import Allow
from provision.services.firewall import role as firewall
from provision.services.firewall.resources import Ruleset
from tests.live import reach
from tests.live.conftest import RunningLab, wait_until
from tests.live.secured import admitting, kept_connection, machines, planned

pytestmark = pytest.mark.live

TCP = (22, 53, 80, 443, 3306, 8080, 8404, 9000, 9090, 9093, 9100, 9104, 9113)
UDP = (22, 53, 123, 443, 9100)
PORTS = [(port, "tcp") for port in TCP] + [(port, "udp") for port in UDP]
STRANGER = "198.51.100.7"
"""Of TEST-NET-2 (RFC 5737): an unused address."""


def ask_from(
    lab: RunningLab, machine: str, targets: list[reach.Target], source: str = ""
) -> list[str]:
    """Connect from a machine, or from this computer when there is no machine of that name."""
    if machine not in machines(lab):
        session = lab.session()
        assert session.provider.network_problem(session.lab) == ""
        return reach.ask_all(targets)
    program = Path(reach.__file__).read_text(encoding="utf-8")
    output = lab.out(machine, "python3", "-", json.dumps(targets), source, input=program)
    found: list[str] = json.loads(output)
    return found


def permits(rule: Allow, address: str, port: int, protocol: str) -> bool:
    """Whether a rule permits connections from this address to this port."""
    if (rule.port, rule.protocol) != (port, protocol):
        return False
    return not rule.sources or any(ip_address(address) in ip_network(s) for s in rule.sources)


def unexpected_ports(
    lab: RunningLab, context: Context, source: str, address: str, others: list[Machine]
) -> list[str]:
    """The ports whose state differs from the topology.

    Args:
        lab: the running lab.
        context: its context.
        source: the machine that connects.
        address: source address of the connections.
        others: the machines to connect to.
    """
    targets = [(str(m.address), port, protocol) for m in others for port, protocol in PORTS]
    own = str(machines(lab)[source].address) if source in machines(lab) else address
    output = ask_from(lab, source, targets, "" if address == own else address)
    states = dict(zip(targets, output, strict=True))
    listens = {m.name: lab.out(m.name, "ss", "-Hlntu") for m in others}
    problems = []
    for machine in others:
        rules = firewall.rules(context, machine)
        for port, protocol in PORTS:
            place = rf"(\*|0\.0\.0\.0|\[::\]|{re.escape(str(machine.address))})(%\w+)?:{port}\s"
            served = re.search(rf"(?m)^{protocol}\s.*\s{place}", listens[machine.name])
            expected = "open" if served else "refused"
            if not any(permits(rule, address, port, protocol) for rule in rules):
                expected = "silent"
            state = states[str(machine.address), port, protocol]
            if state != expected:
                problems.append(f"{machine.name}:{port}/{protocol} is {state}, not {expected}")
    return problems


@pytest.mark.parametrize("source", ["the controller", "lb-01", "web-01", "web-02"])
def test_every_port_from_everywhere(secured_lab: RunningLab, source: str) -> None:
    context, every = secured_lab.session().context, machines(secured_lab)
    address = str(every[source].address if source in every else context.lab.gateway)
    others = [m for m in every.values() if m.name != source]
    assert unexpected_ports(secured_lab, context, source, address, others) == [], f"from {source}"


def test_other_networks_reach_only_the_site(secured_lab: RunningLab) -> None:
    """From a foreign address, which web-01 has temporarily."""
    context, every = secured_lab.session().context, machines(secured_lab)
    others = [every["lb-01"], every["web-02"]]
    way = ("route", "add", f"{STRANGER}/32", "via", str(every["web-01"].address))
    secured_lab.out("web-01", "ip", "address", "add", f"{STRANGER}/32", "dev", "lo")
    try:
        for machine in others:
            secured_lab.out(machine.name, "ip", *way)
        assert unexpected_ports(secured_lab, context, "web-01", STRANGER, others) == []
        site = [(str(every["lb-01"].address), port, "tcp") for port in (80, 443)]
        assert ask_from(secured_lab, "web-01", site, STRANGER) == ["open", "open"]
    finally:
        for machine in others:
            secured_lab.run(machine.name, "ip", "route", "del", f"{STRANGER}/32")
        secured_lab.out("web-01", "ip", "address", "del", f"{STRANGER}/32", "dev", "lo")


def test_ipv6_is_closed_too(secured_lab: RunningLab) -> None:
    """The machines have link-local addresses."""
    output = secured_lab.out("web-02", "ip", "-6", "-oneline", "address", "show", "scope", "link")
    address, card = re.search(r"inet6 (\S+)/64", output), re.search(r"\d+: (\w+)", output)
    assert address, output
    assert card
    targets = [(f"{address.group(1)}%{card.group(1)}", port, "tcp") for port in TCP]
    assert set(ask_from(secured_lab, "web-01", targets)) == {"silent"}


def test_ping_answers(secured_lab: RunningLab) -> None:
    web = machines(secured_lab)["web-02"]
    assert secured_lab.run("web-01", "ping", "-c", "1", "-W", "2", str(web.address)).ok


def test_the_task_shows_rules_and_counts(secured_lab: RunningLab) -> None:
    shown = secured_lab.json("firewall.show", "web-01")
    lb = str(machines(secured_lab)["lb-01"].address)
    by_port = {row["port"]: row for row in shown["rules"] if row["sources"] == [lb]}
    assert {80, 443, 9100, 9104, 9113} <= set(by_port)
    assert by_port[443]["connections"] > 0, "health checks"
    before = shown["dropped"][0]["packets"]
    ask_from(
        secured_lab, "the controller", [(str(machines(secured_lab)["web-01"].address), 81, "tcp")]
    )
    assert secured_lab.json("firewall.show", "web-01")["dropped"][0]["packets"] > before


# --- sshd's own rule -----------------------------------------------------------------------------


@contextmanager
def _sshd_stopped(host: Host) -> Iterator[None]:
    """Stop sshd, whose own limit of unauthenticated connections would interfere.

    Established connections stay open. If they break, a timer on the machine starts sshd again.
    """
    start = ("systemctl", "start", "ssh.service")
    name = "lab-test-ssh"
    assert host.run("systemd-run", f"--unit={name}", "--on-active=30", *start).ok
    assert host.run("systemctl", "stop", "ssh.service").ok
    try:
        yield
    finally:
        assert host.run(*start).ok
        host.run("systemctl", "stop", f"{name}.timer")


def test_ssh_has_a_rate_limit(secured_lab: RunningLab) -> None:
    """60 connections at once, then 3 per second; established ones are unaffected."""
    address = str(machines(secured_lab)["web-02"].address)
    forget = ("nft", "flush", "set", "inet", "lab", "ssh_rate")
    with secured_lab.fleet() as fleet:
        host = fleet.host("web-02")

        def refused() -> int:
            listed = host.run("nft", "--json", "list", "counter", "inet", "lab", "ssh_over_limit")
            return int(json.loads(listed.stdout)["nftables"][-1]["counter"]["packets"])

        before = refused()
        with _sshd_stopped(host):
            assert host.run(*forget).ok
            begun = time.monotonic()
            results = Counter(reach.ask_all([(address, 22, "tcp")] * 110))
            took = time.monotonic() - begun
        assert 60 <= results["refused"] <= 61 + 3 * took, results
        assert results["silent"] == 110 - results["refused"], results
        assert refused() - before >= results["silent"]
        assert host.run(*forget).ok
    assert planned(secured_lab) == ""


# --- changes by hand, and of the machine ---------------------------------------------------------


def test_rules_flushed_by_hand_are_detected_and_fixed(secured_lab: RunningLab) -> None:
    secured_lab.out("web-01", "nft", "flush", "ruleset")
    assert "firewall rules" in planned(secured_lab)
    check = secured_lab.invoke("lab.check", "--only", "firewall/web-01", check=False)
    assert check.returncode == 1
    assert "no rules are loaded: all ports are open" in check.stdout
    secured_lab.up()
    assert planned(secured_lab) == ""


def test_a_rule_added_by_hand_is_shown(secured_lab: RunningLab) -> None:
    rule = ("inet", "lab", "input", "tcp", "dport", "8500", "accept")
    secured_lab.out("lb-01", "nft", "insert", "rule", *rule)
    assert "-\t\ttcp dport 8500 accept" in planned(secured_lab)
    secured_lab.up()
    assert "8500" not in secured_lab.out("lb-01", "nft", "list", "chain", "inet", "lab", "input")


def test_rules_are_loaded_at_boot(secured_lab: RunningLab) -> None:
    secured_lab.invoke("lab.kill", "web-02")
    secured_lab.invoke("lab.start", "web-02")
    check = ("lab.check", "--only", "web-02")
    wait_until(lambda: secured_lab.invoke(*check, check=False).returncode == 0, "all is well", 40)
    assert planned(secured_lab) == ""


# --- changes of the topology ---------------------------------------------------------------------


def test_established_connections_survive_a_change(secured_lab: RunningLab, tmp_path: Path) -> None:
    session = secured_lab.session()
    replica = str(machines(secured_lab)["web-02"].address)
    wider = admitting(tmp_path, "192.168.56.0/24")
    with secured_lab.fleet() as fleet, kept_connection(secured_lab, https=True) as kept:
        host = fleet.host("web-01")

        def kept_by_the_replica() -> set[str]:
            output = host.run("ss", "-Htn", "state", "established", "sport = :3306").stdout
            return set(re.findall(rf"{re.escape(replica)}\]?:\d+", output))

        def ssh_rule() -> str:
            return host.run("nft", "list", "chain", "inet", "lab", "input").stdout

        before = kept_by_the_replica()
        secured_lab.up("--topology", wider)
        assert f"ip saddr {session.lab.network} tcp dport 22" in ssh_rule()
        assert before & kept_by_the_replica()
        secured_lab.up("--topology", "secured")
        assert f"ip saddr {session.lab.gateway} tcp dport 22" in ssh_rule()
        assert before & kept_by_the_replica()
    assert (set(kept.statuses), kept.errors, kept.connections) == ({200}, [], 1)


def test_a_firewall_that_would_lock_out_the_controller_is_refused(
    secured_lab: RunningLab, tmp_path: Path
) -> None:
    listing = ("nft", "-s", "-t", "list", "ruleset")
    before = secured_lab.out("lb-01", *listing)
    foreign = admitting(tmp_path, "203.0.113.0/24")
    result = secured_lab.invoke("lab.up", "--topology", foreign, check=False)
    assert result.returncode == 1
    assert "this firewall would lock out the controller: it connects from" in result.stderr
    assert "ssh_from" in result.stderr
    assert secured_lab.out("lb-01", *listing) == before
    secured_lab.up("--topology", "secured")


def test_an_unforeseen_lockout_is_rolled_back(secured_lab: RunningLab) -> None:
    session = secured_lab.session()
    machine = machines(secured_lab)["web-02"]
    gateway = str(session.lab.gateway)
    good = firewall.ruleset(session.context, machine)
    bad = good.replace(f"ip saddr {gateway} tcp dport 22", "ip saddr 203.0.113.1 tcp dport 22")
    assert bad != good
    unit = Unit(
        "firewall", (Ruleset(firewall.RULES, bad, (gateway,), 3),), confirm="firewall-confirm"
    )
    door = (str(machine.address), 22, "tcp")
    with secured_lab.fleet() as fleet:
        host = fleet.host("web-02")
        locked = inspect_unit(host, unit)
        with ThreadPoolExecutor(1) as pool:
            applied = pool.submit(apply_unit, host, locked)
            wait_until(lambda: reach.ask(door) == "silent", "the new rules refuse SSH", 10)
            with pytest.raises(LabError, match="has reverted it and is reachable again"):
                applied.result()
        assert host.run("true").ok, "the connection from before did not survive"
    assert planned(secured_lab) == ""
    with Host("web-02", session.provider.endpoints(session.lab)["web-02"]) as new:
        new.connect()
