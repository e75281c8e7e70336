"""How requests are distributed: what each HAProxy reports, and which servers responded.

Other visitors take turns too, so that consecutive responses prove nothing. Algorithm and weights
come from HAProxy's statistics; the responses only have to come from all servers in rotation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from provision.checks import prerequisites as requires
from provision.checks.balancer import STATISTICS
from provision.checks.base import UNKNOWN, Check, Verdict, passed_if
from provision.checks.observation import Observation
from provision.engine.context import Context
from provision.services.haproxy.interface import WEIGHT
from provision.services.haproxy.role import balance_keyword
from provision.services.haproxy.statistics import BackendStatistics, parse_backend, parse_servers
from provision.services.tls.https import SiteResponse

FIRST_SAMPLE = 8
"""Requests after which an even distribution is accepted."""

LARGEST_SAMPLE = 60
"""Requests for a verdict of an uneven distribution."""

SMALLEST_SHARE = 0.5
"""Of equal weights, each server gets more than this part of its fair share. Two servers that get
turns at random do in 60 requests, except once in some ten thousand samples."""


def in_rotation(context: Context) -> tuple[str, ...]:
    """The web servers that get requests, as recorded."""
    webs = [machine.name for machine in context.lab.with_role("nginx")]
    ready = [name for name in webs if context.state.admin.get(name, "ready") == "ready"]
    weighted = [name for name in ready if context.state.weights.get(name, WEIGHT) > 0]
    return tuple(weighted[:1] if context.balance.mode == "active-passive" else weighted)


def equal_shares(context: Context) -> bool:
    """Whether every server in rotation gets as many requests as the others."""
    return (
        context.balance.mode == "active-active"
        and context.balance.algorithm in ("roundrobin", "static-rr")
        and not context.state.weights
    )


def sample_is_complete(context: Context, pages: Sequence[SiteResponse]) -> bool:
    """Whether further requests for pages would not change the verdict."""
    if len(pages) >= LARGEST_SAMPLE or any(page.status != 200 for page in pages):
        return True
    return len(pages) >= FIRST_SAMPLE and judge_pages(context, pages).ok


def judge_pages(context: Context, pages: Sequence[SiteResponse]) -> Verdict:
    """Whether responses come from the servers that mode, algorithm and drains select."""
    servers = in_rotation(context)
    counts = Counter(page.header("x-served-by") or "none" for page in pages)
    got = ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "not requested"
    if context.balance.algorithm == "source" and context.balance.mode == "active-active":
        ok = len(counts) == 1 and set(counts) <= set(servers)
        return Verdict(ok, f"always the same one of {', '.join(servers)}", got)
    if not equal_shares(context):
        ok = bool(counts) and set(counts) <= set(servers)
        return Verdict(ok, f"only {' and '.join(servers)}", got)
    least = SMALLEST_SHARE * len(pages) / max(1, len(servers))
    ok = set(counts) == set(servers) and min(counts.values()) > least
    return Verdict(ok, f"{', '.join(servers)} about equally", got, cause=f"unequal shares: {got}")


def judge_sample(
    context: Context, pages: Sequence[SiteResponse], returned: Sequence[str] = ()
) -> Verdict:
    """The same, without comparing the shares of a sample that ended for lack of time.

    Args:
        returned: servers that a balancer is still in slow start with; nor are shares compared then.
    """
    verdict = judge_pages(context, pages)
    served = {page.header("x-served-by") for page in pages}
    complete = len(pages) >= LARGEST_SAMPLE and not returned
    if verdict.ok or complete or not served:
        return verdict
    if equal_shares(context) and served <= set(in_rotation(context)):
        why = f"slow start of {', '.join(returned)}" if returned else "too few to compare"
        return Verdict(True, verdict.expected, f"{verdict.got}; {why}")
    return verdict


def just_returned(context: Context, observation: Observation) -> list[str]:
    """The servers that a balancer is in slow start with."""
    names = set()
    for machine in context.lab.with_role("haproxy"):
        reply = observation.result(machine.name, STATISTICS)
        servers = parse_servers(reply.text) if reply else ()
        names |= {server.name for server in servers if server.starting}
    return sorted(names)


def judge_backend(context: Context, backend: BackendStatistics | None) -> Verdict:
    """Whether one HAProxy has the recorded algorithm, servers and weights."""
    webs = [machine.name for machine in context.lab.with_role("nginx")]
    drained = {name for name in webs if context.state.admin.get(name, "ready") != "ready"}
    weights = {name: context.state.weights.get(name, WEIGHT) for name in webs}
    expected = _describe(balance_keyword(context), weights, drained)
    if backend is None:
        return Verdict(False, expected, UNKNOWN)
    got = _describe(backend.algorithm, backend.weights, drained)
    verdict = passed_if(got == expected, expected, got)
    return Verdict(verdict.ok, expected, verdict.got, cause=f"haproxy balances otherwise: {got}")


def _describe(algorithm: str, weights: Mapping[str, int], drained: set[str]) -> str:
    # A drained server's own check shows whether it is drained; its weight is then 0 or not.
    shown = [
        f"{name} {'drained' if name in drained else weight}" for name, weight in weights.items()
    ]
    return f"{algorithm}; weights {', '.join(sorted(shown)) or 'of no server'}"


def checks(context: Context) -> Iterator[Check]:
    """One check per balancer, and one of the responses to the controller."""
    balancers = context.lab.with_role("haproxy")
    for machine in balancers:
        yield _configured(context, machine.name)
    if balancers:
        front = context.lab.front.name
        yield Check(
            "round-robin",
            front,
            "haproxy",
            "invoke lb.status",
            lambda observation: judge_sample(
                context, observation.pages, just_returned(context, observation)
            ),
            (*requires.site(context), "site"),
        )


def _configured(context: Context, name: str) -> Check:
    def judge(observation: Observation) -> Verdict:
        reply = observation.result(name, STATISTICS)
        return judge_backend(context, parse_backend(reply.text) if reply else None)

    prerequisites = (*requires.service(name, "haproxy"), f"answer/{name}/haproxy")
    return Check(f"balance/{name}", name, "haproxy", "invoke lab.up", judge, prerequisites)
