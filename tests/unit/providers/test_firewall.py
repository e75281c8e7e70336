"""Hosts with Docker, ufw or firewalld: which chains get a rule, as recorded from nft."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from provision.providers.lxc import firewall
from provision.providers.lxc.firewall import Chain

RULES = json.loads((Path(__file__).parent / "recorded" / "nft-hosts.json").read_text())["nftables"]


def test_chains_that_drop_are_found_and_dockers_own_chain_stands_for_its_forward_chain() -> None:
    assert firewall.dropping(RULES) == (
        Chain("ip", "filter", "INPUT", "input"),
        Chain("ip", "filter", "DOCKER-USER", "forward"),
        Chain("inet", "firewalld", "filter_FORWARD", "forward"),
    )


def test_a_lab_may_forward_and_ask_for_names_and_nothing_else() -> None:
    forward = Chain("ip", "filter", "DOCKER-USER", "forward")
    assert firewall.openings(forward, "lab-x", "lab_x") == [
        'insert rule ip filter DOCKER-USER iifname "lab-x" accept comment "lab_x"\n',
        'insert rule ip filter DOCKER-USER oifname "lab-x" accept comment "lab_x"\n',
    ]
    entry = Chain("ip", "filter", "INPUT", "input")
    assert firewall.openings(entry, "lab-x", "lab_x") == [
        'insert rule ip filter INPUT iifname "lab-x" udp dport 53 accept comment "lab_x"\n',
        'insert rule ip filter INPUT iifname "lab-x" tcp dport 53 accept comment "lab_x"\n',
    ]


def test_a_labs_rules_are_found_by_their_comment() -> None:
    ours = {"rule": {"handle": 7, "comment": "lab_x"}}
    rules: list[dict[str, Any]] = [ours, {"rule": {"handle": 8}}, {"table": {}}]
    assert [rule["handle"] for rule in firewall.commented(rules, "lab_x")] == [7]
