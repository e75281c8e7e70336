"""Hosts with Docker, ufw or firewalld: which chains get a rule, on a recorded ruleset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from provision.providers.lxc import host_firewall
from provision.providers.lxc.host_firewall import DroppingChain

RULES = json.loads((Path(__file__).parent / "recorded" / "nft-hosts.json").read_text())["nftables"]


def test_dropping_chains_with_docker_user_instead_of_dockers_forward_chain() -> None:
    assert host_firewall.dropping_chains(RULES) == (
        DroppingChain("ip", "filter", "INPUT", "input"),
        DroppingChain("ip", "filter", "DOCKER-USER", "forward"),
        DroppingChain("inet", "firewalld", "filter_FORWARD", "forward"),
    )


def test_only_forwarded_packets_and_dns_queries_are_accepted() -> None:
    forward = DroppingChain("ip", "filter", "DOCKER-USER", "forward")
    assert host_firewall.accept_rules(forward, "lab-x", "lab_x") == [
        'insert rule ip filter DOCKER-USER iifname "lab-x" accept comment "lab_x"\n',
        'insert rule ip filter DOCKER-USER oifname "lab-x" accept comment "lab_x"\n',
    ]
    entry = DroppingChain("ip", "filter", "INPUT", "input")
    assert host_firewall.accept_rules(entry, "lab-x", "lab_x") == [
        'insert rule ip filter INPUT iifname "lab-x" udp dport 53 accept comment "lab_x"\n',
        'insert rule ip filter INPUT iifname "lab-x" tcp dport 53 accept comment "lab_x"\n',
    ]


def test_rules_are_found_by_their_comment() -> None:
    ours = {"rule": {"handle": 7, "comment": "lab_x"}}
    rules: list[dict[str, Any]] = [ours, {"rule": {"handle": 8}}, {"table": {}}]
    assert [rule["handle"] for rule in host_firewall.rules_with_comment(rules, "lab_x")] == [7]
