"""The firewall's rules: as values, as text for nft, and their drift on a machine."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from provision.core.lab import ROOT
from provision.services.firewall import role as firewall
from provision.services.firewall.agent.trial import FirewallFacts, existing_connections
from provision.services.firewall.resources import Ruleset
from tests.unit.samples import context

GOLDEN = ROOT / "tests" / "golden" / "firewall"
SECURED = context("secured")
LB, WEB1, WEB2 = (str(m.address) for m in SECURED.lab.machines)


def opened(machine: str) -> set[tuple[int, tuple[str, ...]]]:
    rules = firewall.rules(SECURED, SECURED.lab.machine(machine))
    return {(rule.port, rule.sources) for rule in rules}


def test_the_balancer_opens_only_80_and_443_for_everybody() -> None:
    assert {port for port, sources in opened("lb-01") if not sources} == {80, 443}


@pytest.mark.parametrize("machine", ["web-01", "web-02"])
def test_a_web_server_serves_only_the_balancer(machine: str) -> None:
    rules = opened(machine)
    assert {(80, (LB,)), (443, (LB,))} <= rules
    assert all(sources for _, sources in rules), "a port is open for everybody"


@pytest.mark.parametrize(("machine", "peer"), [("web-01", WEB2), ("web-02", WEB1)])
def test_a_database_serves_its_peers(machine: str, peer: str) -> None:
    assert [s for port, s in opened(machine) if port == 3306] == [(peer,)]


def test_the_balancers_statistics_are_local() -> None:
    assert opened("lb-01") == {
        (22, (str(SECURED.lab.gateway),)),
        (53, (str(SECURED.lab.network),)),
        (80, ()),
        (443, ()),
    }


@pytest.mark.parametrize("machine", ["web-01", "web-02"])
def test_exporters_are_only_for_monitoring(machine: str) -> None:
    numbers = {(port, sources) for port, sources in opened(machine) if 9100 <= port < 9200}
    assert numbers == {(9100, (LB,)), (9104, (LB,)), (9113, (LB,))}


def test_the_balancer_has_no_database() -> None:
    assert 3306 not in {port for port, _ in opened("lb-01")}


@pytest.mark.parametrize("machine", ["lb-01", "web-01", "web-02"])
def test_ssh_is_only_for_the_controller(machine: str) -> None:
    assert (22, (str(SECURED.lab.gateway),)) in opened(machine)


def test_ssh_from_replaces_the_controller() -> None:
    lab = SECURED.lab
    networks = (IPv4Network("10.0.0.0/8"), IPv4Network("192.168.56.7/32"))
    wider = replace(lab, topology=replace(lab.topology, ssh_from=networks))
    assert firewall.controllers(replace(SECURED, lab=wider)) == ("10.0.0.0/8", "192.168.56.7")


def test_without_a_balancer_a_web_server_serves_everybody() -> None:
    simple = context("simple")
    rules = firewall.rules(simple, simple.lab.front)
    assert [r.sources for r in rules if r.port == 80] == [()]


@pytest.mark.parametrize("machine", ["lb-01", "web-01", "web-02"])
def test_the_rules_are_as_recorded(machine: str) -> None:
    text = firewall.ruleset(SECURED, SECURED.lab.machine(machine))
    file = GOLDEN / f"{machine}.nft"
    if os.environ.get("REGENERATE"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("machine", ["lb-01", "web-01", "web-02"])
def test_all_other_ports_are_dropped(machine: str) -> None:
    text = firewall.ruleset(SECURED, SECURED.lab.machine(machine))
    assert "hook input priority filter; policy drop;" in text
    assert "hook forward priority filter; policy drop;" in text
    assert text.index("established,related") < text.index("dport")


# --- probe results -------------------------------------------------------------------------------

RULES = Ruleset("/etc/x.nft", "# banner\ntable inet lab {\n\tone\n}\n", ("192.168.56.1",), 10)
CONFIRMED = FirewallFacts(
    listing="table inet lab {\n\tone, as the kernel lists it\n}\n",
    unchanged=True,
    confirmed=hashlib.sha256(RULES.text.encode()).hexdigest(),
    file=RULES.text,
)


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (CONFIRMED, []),
        (replace(CONFIRMED, listing="", unchanged=False), ["state"]),
        (replace(CONFIRMED, unchanged=False), ["content"]),
        (replace(CONFIRMED, confirmed="other"), ["content"]),
        (replace(CONFIRMED, file=""), ["at boot"]),
        (replace(CONFIRMED, file="other"), ["at boot"]),
        (FirewallFacts("", False, "", ""), ["state", "at boot"]),
    ],
)
def test_drift_is_detected(facts: FirewallFacts, keys: list[str]) -> None:
    assert [d.key for d in RULES.differences(facts)] == keys


def test_rules_that_were_changed_by_hand_are_shown() -> None:
    (difference,) = RULES.differences(replace(CONFIRMED, unchanged=False))
    assert difference.before == CONFIRMED.listing
    assert difference.after == "table inet lab {\n\tone\n}\n"


def test_existing_connections_become_set_elements() -> None:
    sockets = (
        "0      0      192.168.63.11:80                 192.168.63.10:36230\n"
        "0      0      [::ffff:192.168.63.11]:3306      [::ffff:192.168.63.12]:48348\n"
        "0      0      192.168.63.11%eth0:22            192.168.63.1:41802\n"
        "0      0      127.0.0.1:3306                   127.0.0.1:50000\n"
        "0      0      [fe80::1]:22                     [fe80::2]:1\n"
        "nonsense\n"
    )
    assert existing_connections(sockets) == [
        "192.168.63.10 . 36230 . 192.168.63.11 . 80 timeout 1h",
        "192.168.63.12 . 48348 . 192.168.63.11 . 3306 timeout 1h",
        "192.168.63.1 . 41802 . 192.168.63.11 . 22 timeout 1h",
    ]
