"""Checks of load balancing: backend servers, distribution of requests, the virtual address."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from provision.checks.base import Check, Verdict, equals
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.engine.agent.commands import command_probe
from provision.engine.agent.http import socket_probe
from provision.engine.agent.process import ProcessResult
from provision.engine.agent.protocol import Probe
from provision.engine.context import Context
from provision.services.haproxy.interface import SOCKET
from provision.services.haproxy.statistics import server_rows
from provision.services.keepalived.interface import network_interface
from provision.services.tls.https import SiteResponse

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
    """Checks of every backend server on every balancer, then of requests."""
    lab = context.lab
    for balancer in lab.with_role("haproxy"):
        for web in lab.with_role("nginx"):
            yield _backend_server(context, balancer.name, web.name)
    if lab.with_role("keepalived"):
        yield _virtual_address(context)
    if lab.with_role("haproxy"):
        yield Check(
            "round-robin",
            lab.front.name,
            "haproxy",
            "invoke lab.status",
            lambda observation: judge_distribution(context, observation),
        )


def backend_servers(observation: Observation, balancer: str) -> dict[str, dict[str, str]]:
    """The statistics of a balancer's backend servers; empty when unknown."""
    reply = observation.result(balancer, STATISTICS)
    return server_rows(reply.text) if reply and not reply.error else {}


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
        return equals(expected, f"{row['status']}, check {row['check_status'].strip('* ')}")

    hint = f"invoke lab.logs {balancer} --service haproxy"
    return Check(f"balancer/{balancer}/{server}", server, "nginx", hint, judge)


def _virtual_address(context: Context) -> Check:
    names = [machine.name for machine in context.lab.with_role("keepalived")]
    address = context.lab.address

    def judge(observation: Observation) -> Verdict:
        holders = [name for name in names if holds_address(context, observation, name)]
        expected = f"one of {', '.join(names)} holds {address}"
        return Verdict(len(holders) == 1, expected, f"held by {' and '.join(holders) or 'none'}")

    hint = f"invoke lab.logs {names[0]} --service keepalived"
    return Check("virtual-address", names[0], "keepalived", hint, judge)


def alternates(pages: Sequence[SiteResponse], servers: int) -> bool:
    """Whether responses come from all servers in turn, in a constant order."""
    names = [page.header("x-served-by") for page in pages]
    first = names[:servers]
    repeated = first * (len(names) // servers)
    return len(set(first)) == servers and all(names) and names == repeated


def judge_distribution(context: Context, observation: Observation) -> Verdict:
    """Whether responses come from the servers that mode, algorithm and drains select."""
    balance = context.balance
    webs = [machine.name for machine in context.lab.with_role("nginx")]
    in_rotation = [name for name in webs if context.state.admin.get(name, "ready") == "ready"]
    if balance.mode == "active-passive":
        in_rotation = in_rotation[:1]
    servers = [page.header("x-served-by") or "none" for page in observation.pages]
    got = " ".join(servers[-2 * len(webs) :]) or "not requested"
    if balance.algorithm == "source" and balance.mode == "active-active":
        ok = len(set(servers)) == 1 and servers[0] in in_rotation
        return Verdict(ok, f"always the same one of {', '.join(in_rotation)}", got)
    equal_weights = balance.algorithm in ("roundrobin", "static-rr") and not context.state.weights
    if equal_weights and len(in_rotation) == len(webs):
        ok = any(alternates(pages, len(webs)) for pages in observation.rounds)
        return Verdict(ok, f"{', '.join(in_rotation)} in turn", got)
    ok = bool(servers) and set(servers) <= set(in_rotation)
    return Verdict(ok, f"only {' and '.join(in_rotation)}", got)
