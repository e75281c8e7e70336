"""The checks that every lab has, from its machines outwards to a visitor's request."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from provision import registry as roles
from provision.checks.base import Check, Verdict
from provision.checks.observation import Page, Seen, alternates
from provision.core.lab import Machine
from provision.engine.context import Context
from provision.services.tls import role as tls

LAG = 5
"""Seconds that a replica may be behind."""

DISK = 90
"""Percent of a machine's disk that may be used."""


def checks(context: Context) -> Iterator[Check]:
    """Machines and services, databases, web servers, balancers, names, the site."""
    for machine in context.lab.machines:
        yield from _machine(context, machine)
    for machine in context.lab.with_role("mysql"):
        yield from _database(context, machine)
    for machine in context.lab.with_role("nginx"):
        yield from _web(context, machine)
    for machine in context.lab.with_role("haproxy"):
        yield from _balancer(context, machine)
    yield from _shared(context)
    for machine in context.lab.with_role("dns"):
        yield _name(context, machine)
    yield from _site(context)


def _on(context: Context, task: str, machine: str, *words: str) -> str:
    """A task's command line, for this lab and machine."""
    option = "" if context.lab.name == "default" else f" --lab {context.lab.name}"
    rest = f" -- {' '.join(words)}" if words else ""
    return f"invoke {task} {machine}{option}{rest}"


# --- machines and services -----------------------------------------------------------------------


def _machine(context: Context, machine: Machine) -> Iterator[Check]:
    name = machine.name

    def reachable(seen: Seen) -> Verdict:
        got = seen.states.get(name, "absent")
        if seen.errors.get(name):
            got = f"{got}, {seen.errors[name]}"
        elif name in seen.answers:
            return Verdict(True, "running, answers over SSH", "running, answers over SSH")
        return Verdict(False, "running, answers over SSH", got)

    option = "" if context.lab.name == "default" else f" --lab {context.lab.name}"
    yield Check(f"machine/{name}", name, "ssh", f"invoke lab.up{option}", reachable)

    def disk(seen: Seen) -> Verdict:
        answers = seen.answers.get(name, {}).get("command", [])
        used = _percent(answers[0]["out"]) if answers else -1
        got = f"{used} % used" if used >= 0 else "not known"
        return Verdict(0 <= used <= DISK, f"at most {DISK} % of the disk used", got)

    yield Check(f"disk/{name}", name, "disk", _on(context, "lab.ssh", name, "df -h"), disk)
    for place, service in enumerate(roles.services(machine)):
        yield _service(context, name, service, place)


def _percent(text: str) -> int:
    words = text.replace("%", "").split()
    return int(words[-1]) if words and words[-1].isdigit() else -1


def _service(context: Context, name: str, service: str, place: int) -> Check:
    short = service.removesuffix(".service")

    def runs(seen: Seen) -> Verdict:
        answers = seen.answers.get(name, {}).get("service", [])
        if place >= len(answers):
            return Verdict(False, "active, enabled", "not known")
        state = answers[place]
        enabled = state["UnitFileState"] or "not installed"
        got = f"{state['ActiveState']}, {enabled}"
        return Verdict(got == "active, enabled", "active, enabled", got)

    return Check(
        f"service/{name}/{short}",
        name,
        short,
        _on(context, "lab.logs", name) + f" --service {short}",
        runs,
    )


# --- databases -----------------------------------------------------------------------------------


def database(seen: Seen, name: str) -> Mapping[str, Any]:
    """What a machine's MySQL said of itself; ``{"up": False}`` when it said nothing."""
    answers = seen.answers.get(name, {}).get("mysql", [])
    found: Mapping[str, Any] = answers[0] if answers else {"up": False}
    return found


def _database(context: Context, machine: Machine) -> Iterator[Check]:
    from provision.database.status import Status

    name, primary = machine.name, context.state.primary
    logs = _on(context, "lab.logs", name) + " --service mysql"

    def status(seen: Seen) -> Status:
        return Status.read(database(seen, name))

    def role(seen: Seen) -> Verdict:
        expected = "writable" if name == primary else "read only"
        now = status(seen)
        got = "not answering" if not now.up else ("writable" if now.writable else "read only")
        return Verdict(got == expected, expected, got)

    yield Check(f"database/{name}", name, "mysql", logs, role)
    if "nginx" not in machine.roles:

        def marker(seen: Seen) -> Verdict:
            answer = seen.pages.get(f"marker/{name}", Page(error="not asked"))
            expected = "the row written through the front is here"
            got = answer.error or f"status {answer.status}"
            return Verdict(
                answer.status == 200, expected, expected if answer.status == 200 else got
            )

        yield Check(f"marker/{name}", name, "mysql", "invoke db.status", marker)
    if name == primary:
        replicas = [m for m in context.lab.with_role("mysql") if m.name != name]
        if replicas:

            def semisync(seen: Seen) -> Verdict:
                expected = "semi-synchronous: a commit waits for a replica"
                got = expected if status(seen).semisync_active else "fell back to asynchronous"
                return Verdict(got == expected, expected, got if status(seen).up else "not known")

            yield Check(f"semisync/{name}", name, "mysql", "invoke db.status", semisync)
        return

    def replication(seen: Seen) -> Verdict:
        now = status(seen)
        source = str(context.primary.address)
        expected = f"both threads run, from {primary}, at most {LAG} s behind"
        ok = (
            now.up
            and now.io_running == now.sql_running == "Yes"
            and now.source in (source, primary)
            and now.lag is not None
            and now.lag <= LAG
        )
        got = (
            f"IO thread {now.io_running or 'absent'}, SQL thread {now.sql_running or 'absent'}, "
            f"from {now.source or 'nowhere'}, "
            + (f"{now.lag} s behind" if now.lag is not None else "lag not known")
        )
        if now.error:
            got += f": {now.error}"
        return Verdict(ok, expected, expected if ok else got)

    yield Check(f"replication/{name}", name, "mysql", "invoke db.status", replication)


# --- web servers ---------------------------------------------------------------------------------


def _curl(context: Context, machine: Machine) -> str:
    """How a web server is asked by hand, from the front."""
    if not context.lab.topology.https:
        return f"curl -si http://{machine.address}/healthz"
    return f"curl -si --cacert {tls.CA} https://{machine.name}/healthz"


def _web(context: Context, machine: Machine) -> Iterator[Check]:
    name, front = machine.name, context.lab.front.name
    curl = _on(context, "lab.ssh", front, _curl(context, machine))

    def direct(seen: Seen) -> Verdict:
        answer = seen.http(front, f"healthz/{name}")
        served = answer["headers"].get("x-served-by", "")
        expected = f"200 from {name}"
        got = f"{answer['status']} from {served or 'nobody'}"
        return Verdict(got == expected, expected, answer["error"] or got)

    yield Check(f"web/{name}", name, "foobar", curl, direct)
    if "mysql" not in machine.roles:
        return

    def marker(seen: Seen) -> Verdict:
        expected = "the row written through the front is here"
        if seen.pages["marker"].status not in (200, 201):
            return Verdict(False, expected, "it could not be written: see check marker")
        answer = seen.http(name, "marker")
        if answer["status"] == 200:
            return Verdict(True, expected, expected)
        got = answer["error"] or f"not after {answer.get('seconds', 0)} s: {answer['status']}"
        return Verdict(False, expected, got)

    yield Check(f"marker/{name}", name, "mysql", "invoke db.status", marker)


# --- the balancer --------------------------------------------------------------------------------


def server_stats(text: str) -> dict[str, dict[str, str]]:
    """The server rows of HAProxy's ``show stat`` by server name (management guide, 9.1).

    A server whose weight in the configuration is 0, which is how a drain is kept there, is called
    ``UP`` by HAProxy after a reload; it is ``DRAIN`` here, as it is when it was told so.
    """
    rows = csv.DictReader(text.removeprefix("# ").splitlines())
    return {
        row["svname"]: row | ({"status": "DRAIN"} if _weightless(row) else {})
        for row in rows
        if row["svname"] not in ("FRONTEND", "BACKEND") and row["pxname"] == "web"
    }


def _weightless(row: Mapping[str, str]) -> bool:
    return row["status"].startswith("UP") and row["weight"] == "0"


def balancer_view(seen: Seen, balancer: str) -> dict[str, dict[str, str]]:
    """What a balancer says of its servers; nothing when it did not answer."""
    answers = seen.answers.get(balancer, {}).get("socket", [])
    text = answers[0]["text"] if answers else "!"
    return {} if text.startswith("!") else server_stats(text)


def _balancer(context: Context, machine: Machine) -> Iterator[Check]:
    logs = _on(context, "lab.logs", machine.name) + " --service haproxy"
    for web in context.lab.with_role("nginx"):
        yield Check(
            f"balancer/{machine.name}/{web.name}",
            web.name,
            "nginx",
            logs,
            _server_up(context, machine.name, web.name),
        )


def _server_up(context: Context, balancer: str, server: str) -> Callable[[Seen], Verdict]:
    admin = context.state.admin.get(server, "ready")
    expected = {"drain": "DRAIN", "maint": "MAINT"}.get(admin, "UP, check L7OK")

    def up(seen: Seen) -> Verdict:
        row = balancer_view(seen, balancer).get(server)
        if row is None:
            return Verdict(False, expected, f"{balancer} does not know it, or does not answer")
        if admin != "ready":
            return Verdict(row["status"].startswith(expected), expected, row["status"])
        got = f"{row['status']}, check {row['check_status'].strip('* ')}"
        return Verdict(got == expected, expected, got)

    return up


# --- the shared address ---------------------------------------------------------------------------


def _shared(context: Context) -> Iterator[Check]:
    lab = context.lab
    holders = lab.with_role("keepalived")
    if not holders:
        return
    names = [m.name for m in holders]

    def one(seen: Seen) -> Verdict:
        has = [name for name in names if seen.holds(name, lab.address)]
        expected = f"one of {', '.join(names)} has {lab.address}"
        got = f"{' and '.join(has) or 'nobody'} {'have' if len(has) > 1 else 'has'} it"
        return Verdict(len(has) == 1, expected, got)

    logs = _on(context, "lab.logs", names[0]) + " --service keepalived"
    yield Check("virtual-address", names[0], "keepalived", logs, one)


# --- names ---------------------------------------------------------------------------------------


def _name(context: Context, machine: Machine) -> Check:
    site, name = context.lab.site, machine.name
    expected = f"{site} is {context.lab.address}"

    def named(seen: Seen) -> Verdict:
        got = f"{site} is {seen.named.get(name, 'not asked')}"
        return Verdict(got == expected, expected, got)

    return Check(f"dns/{name}", name, "dnsmasq", "invoke dns.trace", named)


# --- the site ------------------------------------------------------------------------------------


def _site(context: Context) -> Iterator[Check]:
    lab = context.lab
    front = lab.front
    logs = _on(context, "lab.logs", front.name)
    service = "haproxy" if "haproxy" in front.roles else "nginx"

    def page(seen: Seen) -> Verdict:
        pages = [page for each in seen.rounds for page in each]
        bad = [p for p in pages if p.status != 200 or not p.header("x-read-from")]
        expected = "200, read from a database, every time"
        if pages and not bad:
            return Verdict(True, expected, f"{len(pages)} of {len(pages)}")
        got = (bad[0].error or f"status {bad[0].status}") if bad else "not asked"
        return Verdict(False, expected, f"{len(bad)} of {len(pages)} failed: {got}")

    yield Check("site", front.name, service, logs, page)

    def shared(seen: Seen) -> Verdict:
        return spread(context, seen)

    if lab.with_role("haproxy"):
        yield Check("round-robin", front.name, "haproxy", "invoke lab.status", shared)

    def files(seen: Seen) -> Verdict:
        answer = seen.pages["static"]
        expected = "200 from Nginx itself"
        by = "the application" if answer.header("x-app-host") else "Nginx itself"
        return Verdict(
            answer.status == 200 and by == "Nginx itself",
            expected,
            answer.error or f"{answer.status} from {by}",
        )

    yield Check("static", front.name, "nginx", logs, files)

    def missing(seen: Seen) -> Verdict:
        answer = seen.pages["missing"]
        return Verdict(answer.status == 404, "404", answer.error or str(answer.status))

    yield Check("not-found", front.name, "nginx", logs, missing)

    def versions(seen: Seen) -> Verdict:
        found = {
            web.name: seen.http(front.name, f"version/{web.name}")["headers"].get(
                "x-app-version", "none"
            )
            for web in lab.with_role("nginx")
        }
        got = ", ".join(f"{name} {version}" for name, version in found.items())
        # A server that does not answer is the business of its own check.
        same = len({version for version in found.values() if version != "none"}) == 1
        return Verdict(same, "the same release everywhere", got)

    yield Check("version", front.name, "foobar", "invoke lab.status", versions)

    def marker(seen: Seen) -> Verdict:
        answer = seen.pages["marker"]
        expected = f"a row is written, to {context.state.primary}"
        written = answer.header("x-written-to")
        ok = answer.status in (200, 201) and written == context.state.primary
        got = answer.error or f"status {answer.status}, written to {written or 'nothing'}"
        return Verdict(ok, expected, expected if ok else got)

    yield Check("marker", context.state.primary, "mysql", "invoke db.status", marker)


def spread(context: Context, seen: Seen) -> Verdict:
    """Whether answers come from the servers that should give them."""
    balance = context.balance
    webs = [m.name for m in context.lab.with_role("nginx")]
    out = {name for name, admin in context.state.admin.items() if admin != "ready"}
    serving = [name for name in webs if name not in out]
    if balance.mode == "active-passive":
        serving = serving[:1]
    pages = [page for each in seen.rounds for page in each]
    got = [page.header("x-served-by") or "nobody" for page in pages]
    shown = " ".join(got[-2 * len(webs) :]) or "nothing asked"
    if balance.algorithm == "source" and balance.mode == "active-active":
        ok = len(set(got)) == 1 and got[0] in serving
        return Verdict(ok, f"one of {', '.join(serving)}, always the same", shown)
    plain = balance.algorithm in ("roundrobin", "static-rr") and not context.state.weights
    if plain and len(serving) == len(webs):
        ok = any(alternates(each, len(webs)) for each in seen.rounds)
        return Verdict(ok, f"{', '.join(serving)} in turn", shown)
    return Verdict(
        bool(got) and set(got) <= set(serving), f"only {' and '.join(serving)} answer", shown
    )
