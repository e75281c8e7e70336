"""Duplicate addresses: ARP frames, and which machine is at fault."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace

import pytest

from provision.checks.addresses import Conflict, checks, conflicts, probe
from provision.checks.graph import evaluate
from provision.checks.observation import Observation
from provision.engine.agent.arp import ArpReplies, parse_reply, request_frame
from provision.engine.agent.protocol import Results
from tests.unit.samples import context

MAC = bytes.fromhex("02c0a8380b01")
HERE = context("distributed")
OWN = {"lb-01": "aa:00", "web-01": "aa:01", "web-02": "aa:02"}


def reply(address: bytes = bytes([192, 168, 56, 11]), operation: int = 2) -> bytes:
    frame = request_frame(MAC, "192.168.56.10")
    return frame[:20] + struct.pack("!H", operation) + frame[22:28] + address + frame[32:]


def test_an_arp_probe_is_a_broadcast_without_a_sender_address() -> None:
    frame = request_frame(MAC, "192.168.56.11")
    assert len(frame) == 42
    assert frame[:12] == b"\xff" * 6 + MAC
    assert frame[28:32] == bytes(4)
    assert frame[38:] == bytes([192, 168, 56, 11])


def test_replies_are_parsed_and_other_frames_ignored() -> None:
    assert parse_reply(reply()) == ("192.168.56.11", "02:c0:a8:38:0b:01")
    assert parse_reply(reply(operation=1)) is None
    assert parse_reply(reply()[:30]) is None
    assert parse_reply(b"\x00" * 60) is None


@pytest.mark.parametrize(
    ("own", "answered", "found"),
    [
        (OWN, {"lb-01": {"aa:00"}, "web-01": {"aa:01"}}, []),
        (OWN, {"web-01": {"aa:01", "aa:00"}}, [Conflict("lb-01", "web-01")]),
        (OWN, {"web-01": {"aa:01", "ff:ff"}}, [Conflict("web-01", "web-01", "ff:ff")]),
        (OWN, {"web-01": {"ff:ff"}}, [Conflict("web-01", "web-01", "ff:ff")]),
        # web-01 does not respond: one unknown device is itself.
        ({"lb-01": "aa:00"}, {"web-01": {"aa:01"}}, []),
        ({"lb-01": "aa:00"}, {"web-01": {"aa:01", "aa:00"}}, [Conflict("lb-01", "web-01")]),
        (
            {"lb-01": "aa:00"},
            {"web-01": {"aa:01", "ff:ff"}},
            [Conflict("web-01", "web-01", "ff:ff")],
        ),
        ({}, {"web-01": set()}, []),
        # Proxy ARP, of a router and of a machine.
        (OWN, {"web-01": {"aa:01", "ff:ff"}, "web-02": {"aa:02", "ff:ff"}}, []),
        (OWN, {"web-01": {"aa:01", "aa:00"}, "web-02": {"aa:02", "aa:00"}}, []),
        (OWN, {"lb-01": {"aa:00"}, "web-01": {"aa:01", "aa:00"}}, [Conflict("lb-01", "web-01")]),
    ],
)
def test_conflicts_name_the_machine_at_fault(
    own: Mapping[str, str], answered: Mapping[str, set[str]], found: list[Conflict]
) -> None:
    assert list(conflicts(own, answered)) == found


def observed(**macs: tuple[str, ...]) -> Observation:
    """ARP replies received by all machines, by owner of the address; ``_`` stands for ``-``."""
    results = {}
    for machine in HERE.lab.machines:
        heard = {
            str(HERE.lab.machine(name.replace("_", "-")).address): found
            for name, found in macs.items()
        }
        value = ArpReplies("eth0", OWN[machine.name], heard)
        name = probe(HERE, machine).name
        results[machine.name] = Results.of(machine.name, {name: value})
    return Observation({}, results)


def test_the_check_of_the_machine_at_fault_fails_with_its_repair() -> None:
    results = evaluate(checks(HERE), observed(web_01=("aa:01", "aa:02"), lb_01=("aa:00",)))
    failed = [r for r in results if not r.ok]
    assert [(r.check.name, r.check.service) for r in failed] == [("address/web-02", "network")]
    assert failed[0].verdict.cause == "network: it answers for the address of web-01"
    assert failed[0].check.hint == (
        "invoke lab.ssh web-02 -- sudo ip address del 192.168.56.11/24 dev eth0"
    )


def test_machines_without_results_have_no_conflict() -> None:
    seen = replace(observed(web_01=("aa:01",)), results={})
    assert all(r.ok for r in evaluate(checks(HERE), seen))
