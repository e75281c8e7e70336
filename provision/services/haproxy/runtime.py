"""Asking the running HAProxy how its servers are, telling it what to do, and waiting for it."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from provision.checks import server_stats
from provision.core.errors import LabError
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.services.haproxy import role as haproxy

POLL = 0.2
"""Seconds between two looks of a wait."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class ServerView:
    """One server as one balancer sees it.

    Args:
        name: the server.
        status: HAProxy's word: ``UP``, ``DOWN``, ``DRAIN``, ``MAINT`` …
        check: the last health check's result, such as ``L7OK``.
        weight: as it counts now.
        sessions: open now.
        rate: sessions in the last second.
        total: sessions since HAProxy started.
        errors: failed connections and answers.
        retries: requests sent to another server or again.
        backup: whether it only serves when those before it do not.
    """

    name: str
    status: str
    check: str
    weight: int
    sessions: int
    rate: int
    total: int
    errors: int
    retries: int
    backup: bool

    @property
    def up(self) -> bool:
        """Whether it gets requests, or would if the ones before it failed."""
        return self.status.startswith(("UP", "no check"))


def _int(text: str) -> int:
    return int(text) if text.isdigit() else 0


def views(text: str, *, passive: bool = False) -> tuple[ServerView, ...]:
    """The servers in the answer to ``show stat`` (management guide, 9.1).

    Args:
        text: the answer.
        passive: whether all but the first wait for its failure.
    """
    return tuple(
        ServerView(
            name=name,
            status=row["status"],
            check=row["check_status"].strip("* "),
            weight=_int(row["weight"]),
            sessions=_int(row["scur"]),
            rate=_int(row["rate"]),
            total=_int(row["stot"]),
            errors=_int(row["econ"]) + _int(row["eresp"]),
            retries=_int(row["wretr"]) + _int(row["wredis"]),
            backup=passive and place > 0,
        )
        for place, (name, row) in enumerate(server_stats(text).items())
    )


def connections(text: str, frontend: str) -> int:
    """How many clients a frontend has, in the answer to ``show stat``."""
    rows = csv.DictReader(text.removeprefix("# ").splitlines())
    sides = (row for row in rows if (row["pxname"], row["svname"]) == (frontend, "FRONTEND"))
    return sum(_int(row["scur"]) for row in sides)


def old_workers(text: str) -> tuple[int, ...]:
    """The processes of before a reload that have not ended.

    Args:
        text: the master's answer to ``show proc`` (management guide, 9.4.1): sections of lines
            that begin with a process id.
    """
    found, old = [], False
    for line in text.splitlines():
        if line.startswith("#"):
            old = line.strip() == "# old workers"
        elif old and (word := line.split(" ")[0]).isdigit():
            found.append(int(word))
    return tuple(found)


def runtime(host: Host, *lines: str, socket: str = haproxy.SOCKET) -> list[str]:
    """Commands to HAProxy's runtime socket, and its answers.

    Raises:
        LabError: when the socket does not answer.
    """
    asked = [{"path": socket, "line": line} for line in lines]
    texts = [str(answer["text"]) for answer in host.gather({"socket": asked})["socket"]]
    for text in texts:
        if text.startswith("!"):
            raise LabError(
                f"{host.name}: HAProxy's runtime socket does not answer ({text[1:]})",
                f"invoke lab.logs {host.name} --service haproxy",
            )
    return texts


def _balancers(context: Context) -> list[str]:
    return [machine.name for machine in context.lab.with_role("haproxy")]


def look(context: Context, fleet: Fleet) -> dict[str, tuple[ServerView, ...]]:
    """Every balancer's view of its servers."""
    passive = context.balance.mode == "active-passive"

    def one(host: Host) -> tuple[ServerView, ...]:
        return views(runtime(host, "show stat")[0], passive=passive)

    return fleet.each(one, _balancers(context))


def tell(context: Context, fleet: Fleet, lines: Sequence[str]) -> None:
    """The same commands to every balancer; they are of the kind that is answered with nothing.

    Raises:
        LabError: with what HAProxy answered instead.
    """

    def one(host: Host) -> None:
        for line, text in zip(lines, runtime(host, *lines), strict=True):
            if text.strip():
                raise LabError(f"{host.name}: HAProxy refuses '{line}': {text.strip()}")

    fleet.each(one, _balancers(context))


def in_use(host: Host, server: str) -> tuple[int, int]:
    """What may still reach a server that gets nothing new from a balancer.

    Returns:
        Its open sessions; and the clients of HAProxy's processes of before a reload, which know
        nothing of the server's state now and may each send one more request there.
    """
    stat = {"path": haproxy.SOCKET, "line": "show stat"}
    processes = {"path": haproxy.MASTER, "line": "show proc"}
    answers = host.gather({"socket": [stat, processes]})["socket"]
    sessions = sum(v.sessions for v in views(answers[0]["text"]) if v.name == server)
    old = old_workers(answers[1]["text"])
    if not old:
        return sessions, 0
    asked = [{"path": haproxy.MASTER, "line": f"@!{pid} show stat"} for pid in old]
    told = [answer["text"] for answer in host.gather({"socket": asked})["socket"]]
    # A process that has ended meanwhile answers with something else.
    return sessions, sum(connections(t, haproxy.FRONTEND) for t in told if t.startswith("# pxname"))


def wait_until_idle(
    context: Context, fleet: Fleet, server: str, deadline: float, say: Tell
) -> None:
    """Wait until no balancer has an open session on a server that is drained.

    Args:
        context: the lab.
        fleet: its machines.
        server: which one.
        deadline: seconds.
        say: told how many are left, when that changes.

    Raises:
        LabError: when some are left after ``deadline`` seconds.
    """
    end, said = time.monotonic() + deadline, ""
    while True:
        seen = fleet.each(lambda host: in_use(host, server), _balancers(context)).values()
        sessions, before = sum(one for one, _ in seen), sum(other for _, other in seen)
        left = [f"{sessions} sessions on {server} have not ended"] if sessions else []
        if before:
            left.append(f"{before} connections of before HAProxy's reload are still open")
        if not left:
            return
        if time.monotonic() >= end:
            raise LabError(
                f"{' and '.join(left)} after {deadline:g} s; {server} gets no new ones",
                f"invoke lb.drain {server} waits on; invoke lb.ready {server} takes it back",
            )
        if (text := " and ".join(left)) != said:
            say(text)
            said = text
        time.sleep(POLL)


def wait_until_up(context: Context, fleet: Fleet, server: str, deadline: float = 20.0) -> None:
    """Wait until every balancer has found a server healthy.

    Raises:
        LabError: at the deadline, with the last health check's result.
    """
    end = time.monotonic() + deadline
    while True:
        seen = [v for each in look(context, fleet).values() for v in each if v.name == server]
        if seen and all(v.up for v in seen):
            return
        if time.monotonic() >= end:
            words = ", ".join(f"{v.status} {v.check}" for v in seen) or "not there"
            raise LabError(
                f"the balancer does not find {server} healthy after {deadline:g} s ({words}); it "
                "gets requests as soon as it is",
                f"invoke lab.logs {server} --service foobar",
            )
        time.sleep(POLL)
