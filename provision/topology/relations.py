"""Rules between the machines of a topology: which role needs which other role, where."""

from __future__ import annotations

from collections.abc import Callable

from provision.core.suggestions import listed, suggestion
from provision.topology.checker import Checker
from provision.topology.document import TopologyDraft
from provision.topology.machines import MachineDraft


def check_relations(check: Checker, draft: TopologyDraft) -> None:
    """Apply every rule."""
    if draft.machines:
        for rule in RULES:
            rule(check, draft)


def with_role(draft: TopologyDraft, role: str) -> list[MachineDraft]:
    """The machines that have a role."""
    return [machine for machine in draft.machines if role in machine.roles]


def roles_complete(draft: TopologyDraft) -> bool:
    """Whether all roles of all machines are valid, so that a role not among them is absent."""
    return all(machine.roles_complete for machine in draft.machines)


def _role_error(check: Checker, machine: MachineDraft, what: str) -> None:
    check.error(machine.line, f"machines.{machine.name}.roles", what)


def check_balancers(check: Checker, draft: TopologyDraft) -> None:
    """Several balancers share an address; none is a web server."""
    balancers = with_role(draft, "haproxy")
    if len(balancers) > 1 and "virtual_address" not in draft.lines:
        names = listed(machine.name for machine in balancers)
        what = f"several balancers ({names}) need a shared address"
        hint = "add 'virtual_address: 192.168.56.100' at the top level"
        _role_error(check, balancers[1], f"{what}: {hint}")
    for machine in balancers:
        if "nginx" in machine.roles:
            _role_error(
                check, machine, "haproxy and nginx both listen on port 80: use two machines"
            )


def check_layers(check: Checker, draft: TopologyDraft) -> None:
    """Every layer has the layer behind it."""
    if not roles_complete(draft):
        return
    layers = ("haproxy", "nginx", "app", "mysql")
    balancers, web, app, mysql = (with_role(draft, role) for role in layers)
    if balancers and not web:
        _role_error(check, balancers[0], "haproxy has no backend: no machine has the role nginx")
    elif not web:
        line = draft.lines["machines"]
        check.error(line, "machines", "no machine serves the site: no machine has the role nginx")
    if web and not app:
        _role_error(check, web[0], "nginx has no upstream: no machine has the role app")
    if app and not mysql:
        _role_error(check, app[0], "app has no database: no machine has the role mysql")


def check_primary(check: Checker, draft: TopologyDraft) -> None:
    """The primary is a database machine, and is set if there is one."""
    databases = [machine.name for machine in with_role(draft, "mysql")]
    if draft.primary is None:
        if databases and "primary" not in draft.lines:
            check.error(draft.line, "primary", f"missing key; expected 'primary: {databases[0]}'")
        return
    line, name = draft.lines["primary"], draft.primary
    machine = next((m for m in draft.machines if m.name == name), None)
    choices = f" (machines with mysql: {listed(databases)})" if databases else ""
    if machine is None:
        similar = suggestion(name, [m.name for m in draft.machines])
        check.error(line, "primary", f"unknown machine {name!r}{similar}{choices}")
    elif databases and "mysql" not in machine.roles and machine.roles_complete:
        check.error(line, "primary", f"{name} does not have the role mysql{choices}")
    elif not databases and roles_complete(draft):
        check.error(line, "primary", "no machine has the role mysql: remove 'primary'")


def check_virtual_address(check: Checker, draft: TopologyDraft) -> None:
    """Balancers hold the virtual address with keepalived; no machine has it as its own."""
    line = draft.lines.get("virtual_address")
    for machine in draft.machines:
        balances, holds = "haproxy" in machine.roles, "keepalived" in machine.roles
        if holds and line is None:
            _role_error(check, machine, "keepalived needs a 'virtual_address' at the top level")
        elif holds and not balances and machine.roles_complete:
            _role_error(check, machine, "keepalived needs haproxy on the same machine")
        elif balances and line and not holds and machine.roles_complete:
            _role_error(check, machine, "haproxy with a virtual address needs keepalived")
    if line is None:
        return
    owners = [m.name for m in draft.machines if m.address and m.address == draft.virtual_address]
    if owners:
        what = f"duplicate address {draft.virtual_address}, already used by {owners[0]}"
        check.error(line, "virtual_address", what)
    if roles_complete(draft) and not with_role(draft, "haproxy"):
        check.error(line, "virtual_address", "no machine has the role haproxy")


def check_https(check: Checker, draft: TopologyDraft) -> None:
    """TLS ends at a balancer."""
    if draft.https and roles_complete(draft) and not with_role(draft, "haproxy"):
        what = "no machine has the role haproxy, which terminates TLS"
        check.error(draft.lines["https"], "https", what)


def check_automatic_failover(check: Checker, draft: TopologyDraft) -> None:
    """A majority decides: two databases, and a balancer on a third machine as witness."""
    if not draft.autopromote or not roles_complete(draft):
        return
    databases = [machine.name for machine in with_role(draft, "mysql")]
    witnesses = [m for m in with_role(draft, "haproxy") if m.name not in databases]
    if len(databases) != 2 or not witnesses:
        check.error(
            draft.lines["autopromote"],
            "autopromote",
            "needs two databases and a balancer on a third machine, as a majority of three "
            f"(machines with mysql: {listed(databases) or 'none'})",
        )


RULES: tuple[Callable[[Checker, TopologyDraft], None], ...] = (
    check_balancers,
    check_layers,
    check_primary,
    check_virtual_address,
    check_https,
    check_automatic_failover,
)
