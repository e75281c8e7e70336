"""Taking servers out and in, weights, mode and algorithm: at once at run time, and for good.

What an operator decides is recorded first. Then it is written into HAProxy's configuration and
told to the running process, with a reload only where the process cannot be told; so the next
reload, reboot and lab.up keep it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from provision.core import state
from provision.core.errors import LabError, UsageError
from provision.core.lab import Machine
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.engine.host import Host
from provision.engine.plan import Unit, UnitPlan, plan, questions
from provision.services.app import role as app
from provision.services.haproxy import role as haproxy
from provision.services.haproxy import runtime as balancer
from provision.services.haproxy.runtime_state import orders
from provision.services.nginx import role as nginx
from provision.topology import ALGORITHMS, MODES

Say = Callable[[str, str], None]
"""Told which machine is doing what."""


# --- decisions -----------------------------------------------------------------------------------


def server(context: Context, name: str) -> str:
    """A server of the backend by name.

    Raises:
        UsageError: when there is none, with those there are.
    """
    if not context.lab.with_role("haproxy"):
        raise UsageError("this lab has no balancer", "lab.up --topology distributed has one")
    names = [m.name for m in context.lab.with_role("nginx")]
    if name not in names:
        behind = name in {m.name for m in context.lab.with_role("app")}
        why = ": web servers pass it over by themselves when it does not answer" if behind else ""
        raise UsageError(
            f"the balancer has no server {name!r}{why}", f"choose from {', '.join(names)}"
        )
    return name


def drain(
    context: Context,
    fleet: Fleet,
    name: str,
    deadline: float,
    say: balancer.Tell = lambda _text: None,
) -> Context:
    """Take a server out of rotation and wait until its sessions have ended.

    Args:
        context: the lab.
        fleet: its machines.
        name: the server.
        deadline: seconds to wait for open sessions.
        say: told how many are left.

    Returns:
        The lab with the decision.

    Raises:
        UsageError: when no other server would be left to serve.
        LabError: when sessions are left at the deadline; the server stays drained.
    """
    server(context, name)
    out = {key for key, word in context.state.admin.items() if word != "ready"}
    if not serving(context, fleet) - {name} - out:
        raise UsageError(
            f"no other server would be left to serve when {name} is drained",
            "invoke lb.status shows who is up; invoke lb.ready SERVER brings one back",
        )
    now = decide(context, fleet, admin={**context.state.admin, name: "drain"})
    balancer.wait_until_idle(now, fleet, name, deadline, say)
    return now


def serving(context: Context, fleet: Fleet) -> set[str]:
    """The servers that every balancer finds up (or, as a backup, ready to be)."""
    seen = [{v.name for v in each if v.up} for each in balancer.look(context, fleet).values()]
    return set.intersection(*seen) if seen else set()


def ready(context: Context, fleet: Fleet, name: str) -> Context:
    """Bring a server back into rotation."""
    server(context, name)
    rest = {key: value for key, value in context.state.admin.items() if key != name}
    return decide(context, fleet, admin=rest)


def weight(context: Context, fleet: Fleet, name: str, value: int) -> Context:
    """Give a server another weight, 1 to 256 (0 is what drain is for)."""
    server(context, name)
    if not 1 <= value <= 256:
        raise UsageError(
            f"a weight of {value}", f"1 to 256; to send it nothing: invoke lb.drain {name}"
        )
    weights = {k: v for k, v in context.state.weights.items() if k != name}
    if value != haproxy.WEIGHT:
        weights[name] = value
    return decide(context, fleet, weights=weights)


def mode(context: Context, fleet: Fleet, word: str) -> Context:
    """Let all servers serve, or the first while the others wait."""
    return decide(context, fleet, mode=_one_of("mode", word, MODES))


def algorithm(context: Context, fleet: Fleet, word: str) -> Context:
    """Spread requests by another of HAProxy's algorithms."""
    return decide(context, fleet, algorithm=_one_of("algorithm", word, ALGORITHMS))


def _one_of(what: str, word: str, words: tuple[str, ...]) -> str:
    if word not in words:
        raise UsageError(f"there is no {what} {word!r}", f"choose from {', '.join(words)}")
    return word


def recorded(context: Context) -> tuple[str, ...]:
    """What operators have decided and lab.up keeps, where the topology says otherwise."""
    lab, known = context.lab, context.state
    names = {m.name for m in lab.with_role("nginx")}
    found = [f"{name}: {word}" for name, word in sorted(known.admin.items()) if name in names]
    found += [
        f"{name}: weight {value} instead of {haproxy.WEIGHT}"
        for name, value in sorted(known.weights.items())
        if name in names
    ]
    plain, now = lab.topology.balance, context.balance
    if now.mode != plain.mode:
        found.append(f"mode {now.mode} instead of {plain.mode}")
    if now.algorithm != plain.algorithm:
        found.append(f"algorithm {now.algorithm} instead of {plain.algorithm}")
    return tuple(found)


# --- carrying them out ---------------------------------------------------------------------------


def decide(context: Context, fleet: Fleet, **changes: object) -> Context:
    """Record a decision, write it into every balancer's configuration, and tell the process.

    Args:
        context: the lab before.
        fleet: its machines.
        changes: fields of `State`.

    Returns:
        The lab with the decision.

    Raises:
        LabError: when a balancer does not take it up; it stays recorded, and lab.up tries again.
    """
    for machine in context.lab.with_role("haproxy"):
        fleet.host(machine.name)
    now = Context(context.lab, state.change(context.lab.directory, **changes), context.rolling)

    def one(host: Host) -> None:
        _take_up(host, context, now)

    fleet.each(one, [m.name for m in context.lab.with_role("haproxy")])
    return now


def can_be_told(before: Context, after: Context) -> bool:
    """Whether a running HAProxy can be told of a change, so that it needs no reload.

    Mode and algorithm are read at a start alone. With static-rr a server's weight cannot change
    either (configuration manual, "balance"; the socket then only accepts 0 % and 100 % of the
    weight it was started with), so there only taking servers out works without a reload.
    """
    if haproxy.balancing(before) != haproxy.balancing(after):
        return False
    new = set(haproxy.states(after)) - set(haproxy.states(before))
    return haproxy.balancing(after) != "static-rr" or all(word == "drain" for _, word in new)


def _take_up(host: Host, before: Context, after: Context) -> None:
    """Bring one balancer's units from one decision to the next."""
    machine = after.lab.machine(host.name)
    had = _unit_plan(host, _unit(before, machine, "haproxy"))
    wants = _unit_plan(host, _unit(after, machine, "haproxy"))
    if not wants.empty:
        request = wants.request()
        if can_be_told(before, after) and not had.due:
            # It does what its file says and will do what it is told next: the stamp may say that
            # it has loaded the new file. A reload that was owed before stays owed.
            request |= {"activate": "", "due": False}
        _apply(host, "haproxy", request)
    servers = _unit_plan(host, _unit(after, machine, "haproxy-servers"))
    if not servers.empty:
        _apply(host, "haproxy-servers", servers.request())


def _unit(context: Context, machine: Machine, name: str) -> Unit:
    return next(unit for unit in haproxy.units(context, machine) if unit.name == name)


def _unit_plan(host: Host, unit: Unit) -> UnitPlan:
    return plan(host.name, [unit], host.gather(questions([unit]).asked)).units[0]


def _apply(host: Host, name: str, request: dict[str, object]) -> None:
    answer = host.call("unit", request)
    if not answer["ok"]:
        raise LabError(
            f"{host.name}: {name} failed at step {answer['step']!r}: {answer['error']}",
            "the decision is recorded: invoke lab.up tries again",
            output=answer["output"],
        )


# --- for work on a server ------------------------------------------------------------------------


class Busy(LabError):  # noqa: N818 (a state, not a fault)
    """A server's sessions did not end in time, so nothing was done to it."""


class Drained:
    """A server taken out of rotation at run time for as long as the body runs, then healthy again.

    Nothing of it is recorded: should the controller die, the next lab.up takes the server back.
    Where no other server is up, or there is no balancer, it stays in: better a short gap than
    none at all. A server whose body failed stays out until it is mended.

    An application server of its own is taken out by the web servers themselves, when they see it
    failing. Nginx tells nobody whom it passes over, but it does so for a stated time, which is
    waited for: if the next server went down within it, there would be none to ask.

    Raises:
        Busy: on entering, when its sessions do not end in time.
        LabError: on leaving, when the balancer does not find it healthy.

    Args:
        context: the lab.
        fleet: its machines.
        machine: the server; one that serves nobody is left alone.
        say: told what happens.
        deadline: seconds to wait for open sessions.
    """

    def __init__(
        self, context: Context, fleet: Fleet, machine: Machine, say: Say, deadline: float = 30.0
    ) -> None:
        self._context, self._fleet, self._name = context, fleet, machine.name
        self._say, self._deadline = say, deadline
        self._serves = machine in context.lab.with_role("nginx") and bool(
            context.lab.with_role("haproxy")
        )
        self._behind = machine in context.lab.with_role("app") and app.address(machine) != ""

    def __enter__(self) -> None:
        if not self._serves:
            return
        if not serving(self._context, self._fleet) - {self._name}:
            self._say(self._name, "stays in rotation: no other server is up")
            return
        self._say(self._name, "draining")
        self._tell("drain")
        try:
            balancer.wait_until_idle(
                self._context,
                self._fleet,
                self._name,
                self._deadline,
                lambda text: self._say(self._name, text),
            )
        except LabError as error:
            self._tell(self._recorded)
            raise Busy(f"{error.what}; nothing was done to it, it is back in rotation") from None

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            return
        self.put_back()
        if self._behind:
            self._say(self._name, "waiting until web servers ask it again")
            time.sleep(2 * nginx.PASSED_OVER)

    def put_back(self) -> None:
        """Give the server the state that is recorded of it, and wait until it serves.

        Raises:
            LabError: when the balancer does not find it healthy.
        """
        if not self._serves:
            return
        self._tell(self._recorded)
        if self._recorded not in ("drain", "maint"):
            self._say(self._name, "waiting for the balancer's health check")
            balancer.wait_until_up(self._context, self._fleet, self._name)

    @property
    def _recorded(self) -> str:
        return dict(haproxy.states(self._context))[self._name]

    def _tell(self, word: str) -> None:
        balancer.tell(self._context, self._fleet, orders(haproxy.BACKEND, self._name, word))
