"""HAProxy's runtime API on every balancer: statistics, server states, and waiting for them."""

from __future__ import annotations

from provision.core.errors import LabError
from provision.core.report import Log
from provision.core.waiting import Timeout, wait_until
from provision.engine.agent.http import socket_probe
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.services.haproxy.interface import (
    BACKEND,
    FRONTEND,
    MASTER_SOCKET,
    SOCKET,
    STATIC_BACKEND,
)
from provision.services.haproxy.runtime_state import state_commands
from provision.services.haproxy.statistics import (
    CSV_PREFIX,
    ServerStatistics,
    frontend_sessions,
    open_sessions,
    parse_old_workers,
    parse_servers,
)

POLL_SECONDS = 0.2


def run_commands(host: Host, *commands: str, socket: str = SOCKET) -> list[str]:
    """The responses to commands on one of HAProxy's sockets.

    Raises:
        LabError: when the socket does not respond.
    """
    probes = [socket_probe(socket, command) for command in commands]
    results = host.gather(probes)
    replies = [results[probe] for probe in probes]
    for reply in replies:
        if reply.error:
            raise LabError(
                f"{host.name}: HAProxy does not respond on {socket} ({reply.error})",
                f"invoke lab.logs {host.name} --service haproxy",
            )
    return [reply.text for reply in replies]


def _balancers(context: Context) -> list[str]:
    return [machine.name for machine in context.lab.with_role("haproxy")]


def statistics(context: Context, fleet: Fleet) -> dict[str, tuple[ServerStatistics, ...]]:
    """The statistics of all servers, by balancer."""
    active_passive = context.balance.mode == "active-passive"

    def show_stat(host: Host) -> tuple[ServerStatistics, ...]:
        return parse_servers(run_commands(host, "show stat")[0], active_passive=active_passive)

    return fleet.each(show_stat, _balancers(context))


def set_server_state(context: Context, fleet: Fleet, server: str, state: str) -> None:
    """Set a server's state on every balancer: ``drain``, ``maint`` or ``weight N``.

    Raises:
        LabError: with HAProxy's error message.
    """
    commands = [
        command
        for backend in (BACKEND, STATIC_BACKEND)
        for command in state_commands(backend, server, state)
    ]

    def set_state(host: Host) -> None:
        for command, text in zip(commands, run_commands(host, *commands), strict=True):
            if text.strip():
                raise LabError(f"{host.name}: HAProxy refuses '{command}': {text.strip()}")

    fleet.each(set_state, _balancers(context))


def open_connections(host: Host, server: str) -> tuple[int, int]:
    """What may still send requests to a drained server.

    Returns:
        The server's open sessions; and the clients of HAProxy's old workers, which do not know of
        the drain, so that each client may send one more request there.
    """
    (stat,) = run_commands(host, "show stat")
    (processes,) = run_commands(host, "show proc", socket=MASTER_SOCKET)
    sessions = open_sessions(stat, server)
    commands = [f"@!{pid} show stat" for pid in parse_old_workers(processes)]
    texts = run_commands(host, *commands, socket=MASTER_SOCKET) if commands else []
    # The response for a worker that has exited since is an error message.
    statistics = [text for text in texts if text.startswith(CSV_PREFIX)]
    return sessions, sum(frontend_sessions(text, FRONTEND) for text in statistics)


def wait_until_idle(context: Context, fleet: Fleet, server: str, deadline: float, log: Log) -> None:
    """Wait until no balancer has an open session on a drained server, at most ``deadline`` seconds.

    Raises:
        LabError: when sessions are open at the deadline.
    """
    remaining = ""

    def idle() -> bool:
        nonlocal remaining
        counts = fleet.each(lambda host: open_connections(host, server), _balancers(context))
        sessions, old = (sum(column) for column in zip(*counts.values(), strict=True))
        parts = [f"{sessions} open sessions on {server}"] if sessions else []
        if old:
            parts.append(f"{old} open connections of HAProxy processes from before a reload")
        text = " and ".join(parts)
        if text and text != remaining:
            log(text)
        remaining = text
        return not parts

    try:
        wait_until(idle, deadline, f"the sessions on {server} to end", interval=POLL_SECONDS)
    except Timeout:
        raise LabError(
            f"{remaining} after {deadline:g} s; {server} gets no new requests",
            f"invoke lb.drain {server} waits again; invoke lb.ready {server} ends the drain",
        ) from None


def wait_until_up(context: Context, fleet: Fleet, server: str, deadline: float = 20.0) -> None:
    """Wait until a server is up on every balancer, at most ``deadline`` seconds.

    Raises:
        LabError: at the deadline, with the last health check's result.
    """
    states: list[ServerStatistics] = []

    def up() -> bool:
        reports = statistics(context, fleet).values()
        states[:] = [s for servers in reports for s in servers if s.name == server]
        return bool(states) and all(s.up for s in states)

    try:
        wait_until(up, deadline, f"{server} to be up", interval=POLL_SECONDS)
    except Timeout:
        text = ", ".join(f"{s.status} {s.check}" for s in states) or "not in the backend"
        raise LabError(
            f"{server} is not healthy for the balancer after {deadline:g} s ({text}); it gets "
            "requests as soon as it is",
            f"invoke lab.logs {server} --service foobar",
        ) from None
