"""Checks of load balancing: backend servers, the virtual address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from provision.checks import prerequisites as requires
from provision.checks.base import Check, Verdict
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.engine.agent.commands import command_probe
from provision.engine.agent.http import socket_probe
from provision.engine.agent.process import ProcessResult
from provision.engine.agent.protocol import Probe
from provision.engine.context import Context
from provision.services.haproxy.interface import SOCKET
from provision.services.haproxy.statistics import ServerStatistics, parse_servers, server_rows
from provision.services.keepalived.interface import network_interface

STATISTICS = socket_probe(SOCKET, "show stat")


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """HAProxy's statistics, and whether the machine holds the virtual address."""
    if "haproxy" in machine.roles:
        yield STATISTICS
    if "keepalived" in machine.roles:
        yield address_probe(context)


def address_probe(context: Context) -> Probe[ProcessResult]:
    """The virtual address on the machine's network interface; no output when it is not there."""
    selector = ["dev", network_interface(context), "to", str(context.lab.address)]
    argv = ["ip", "-4", "-oneline", "address", "show", *selector]
    return command_probe(argv, "virtual address")


def checks(context: Context) -> Iterator[Check]:
    """Checks of every backend server on every balancer, then of the virtual address."""
    lab = context.lab
    for balancer in lab.with_role("haproxy"):
        for web in lab.with_role("nginx"):
            yield _backend_server(context, balancer.name, web.name)
    if lab.with_role("keepalived"):
        yield _virtual_address(context)


def backend_servers(observation: Observation, balancer: str) -> dict[str, dict[str, str]]:
    """The statistics of a balancer's backend servers; empty when unknown."""
    reply = observation.result(balancer, STATISTICS)
    return server_rows(reply.text) if reply and not reply.error else {}


def server_statistics(
    context: Context, observation: Observation, balancer: str
) -> tuple[ServerStatistics, ...]:
    """A balancer's backend servers; empty when unknown."""
    reply = observation.result(balancer, STATISTICS)
    if not reply or reply.error:
        return ()
    return parse_servers(reply.text, active_passive=context.balance.mode == "active-passive")


def holds_address(context: Context, observation: Observation, machine: str) -> bool:
    """Whether a machine holds the virtual address."""
    result = observation.result(machine, address_probe(context))
    return result is not None and f" {context.lab.address}/" in result.stdout


def _backend_server(context: Context, balancer: str, server: str) -> Check:
    admin = context.state.admin.get(server, "ready")
    expected = {"drain": "DRAIN", "maint": "MAINT"}.get(admin, "UP, check L7OK")

    def judge(observation: Observation) -> Verdict:
        row = backend_servers(observation, balancer).get(server)
        if row is None:
            return Verdict(False, expected, f"{balancer} does not report it")
        if admin != "ready":
            return Verdict(row["status"].startswith(expected), expected, row["status"])
        got = f"{row['status']}, check {row['check_status'].strip('* ')}"
        detail = row.get("last_chk", "")
        return Verdict(got == expected, expected, got, detail, cause=f"haproxy: {server} is {got}")

    hint = f"invoke lab.logs {balancer} --service haproxy"
    web = context.lab.machine(server)
    prerequisites = (
        *requires.service(balancer, "haproxy"),
        f"answer/{balancer}/haproxy",
        *requires.web_server(context, web),
        f"web/{server}",
        f"tls/{server}",
        f"flapping/{server}",
    )
    # A server that responds to direct requests is down for this balancer alone.
    return Check(f"balancer/{balancer}/{server}", balancer, "haproxy", hint, judge, prerequisites)


def _virtual_address(context: Context) -> Check:
    names = [machine.name for machine in context.lab.with_role("keepalived")]
    address = context.lab.address

    def judge(observation: Observation) -> Verdict:
        holders = [name for name in names if holds_address(context, observation, name)]
        expected = f"one of {', '.join(names)} holds {address}"
        return Verdict(len(holders) == 1, expected, f"held by {' and '.join(holders) or 'none'}")

    hint = f"invoke lab.logs {names[0]} --service keepalived"
    prerequisites = [p for name in names for p in requires.service(name, "keepalived")]
    prerequisites += [p for name in names for p in requires.service(name, "haproxy")]
    return Check("virtual-address", names[0], "keepalived", hint, judge, tuple(prerequisites))
