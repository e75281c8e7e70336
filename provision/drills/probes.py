"""Judge the probes of a drill in a running lab."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from provision import checks
from provision.checks.base import CheckResult
from provision.checks.observe import observe
from provision.core.errors import HostError, LabError
from provision.core.timeouts import DOWN_INTERVAL, SLOW_START
from provision.core.waiting import Timeout, timeout_factor, wait_until
from provision.database.failover import control as failover
from provision.drills.drill import DrillProbe, Expectation
from provision.drills.lint import matching_checks
from provision.engine.context import Context
from provision.engine.fleet import Fleet
from provision.operations.session import Session
from provision.services.tls.https import SiteResponse, request
from provision.teaching.load import Load

COMMAND_SECONDS = 30.0
REQUEST_SECONDS = 4.0

SHELL = ("sh", "-c", 'eval "$(cat)"')
"""Runs a script from stdin: it is in no file, no argument and no shell history."""

BALANCE_TOLERANCE = 10
"""Shares are equal when they differ by at most one in ten responses, or by one response."""

BALANCE_SAMPLES = 4
"""Samples after which shares that still differ are unequal: other visitors get responses too."""

BALANCE_SECONDS = (SLOW_START + 2 * DOWN_INTERVAL) / 1000
"""Shares that differ are sampled for that long: a server that has just returned gets fewer requests
(slowstart), beginning with its second good health check."""

BALANCE_PAUSE = 0.2
"""Seconds between two samples."""


@dataclass(frozen=True)
class ProbeResult:
    """Whether a probe holds, and what was seen.

    Args:
        got: one line for the author of a drill; `public` is what learners see of it.
    """

    probe: DrillProbe
    held: bool
    got: str = ""

    @property
    def public(self) -> str:
        """What a learner may see of it: only what a request to the site shows to anybody."""
        return "" if self.held or not (self.probe.get or self.probe.load) else self.got


@dataclass
class Judge:
    """Judges probes; the checks of the lab are evaluated once per call.

    Args:
        fleet: of the running machines.
    """

    session: Session
    fleet: Fleet

    @property
    def context(self) -> Context:
        """Of the lab, with a primary that automatic failover has chosen."""
        return failover.adopt(self.session.context, self.fleet)

    def checks(self) -> tuple[CheckResult, ...]:
        """The results of all checks."""
        context = self.context
        observation = observe(context, self.fleet, self.session.machine_states())
        return checks.judge(context, observation)

    def judge(self, probes: Sequence[DrillProbe]) -> tuple[ProbeResult, ...]:
        """The results in the same order; ``after`` is ignored."""
        checked = self.checks() if any(probe.check for probe in probes) else ()
        return tuple(self._judge(probe, checked) for probe in probes)

    def holds(self, probe: DrillProbe) -> bool:
        """Whether one probe holds now."""
        return self.judge([probe])[0].held

    def settle(
        self, probes: Sequence[DrillProbe], seconds: float, *, held: bool = True
    ) -> tuple[ProbeResult, ...]:
        """The results when all probes hold (or when none does), at the latest after some seconds.

        A service needs a moment after a change: a health check, a replica that connects.

        Args:
            held: False waits until every probe was seen not to hold.
        """
        results = dict(enumerate(self.judge(probes)))

        def settled() -> bool:
            waiting = [number for number, result in results.items() if result.held != held]
            if not waiting:
                return True
            again = self.judge([probes[number] for number in waiting])
            results.update(zip(waiting, again, strict=True))
            return all(result.held == held for result in results.values())

        if probes:
            with contextlib.suppress(Timeout):
                wait_until(settled, seconds * timeout_factor(), "the probes", interval=0.5)
            if held:  # one that held before may have failed meanwhile
                return self.judge(probes)
        return tuple(results[number] for number in range(len(probes)))

    def _judge(self, probe: DrillProbe, checked: Iterable[CheckResult]) -> ProbeResult:
        try:
            if probe.check:
                return _judge_checks(probe, checked)
            if probe.run:
                return self._run(probe)
            if probe.load is not None:
                return self._load(probe)
            return self._get(probe)
        except LabError as error:
            return ProbeResult(probe, False, error.what.splitlines()[0])

    def _run(self, probe: DrillProbe) -> ProbeResult:
        started = time.monotonic()
        host = self.fleet.host(probe.machine)
        try:
            result = host.run(*SHELL, input=probe.run, timeout=COMMAND_SECONDS)
        except HostError:
            host.close()  # the next probe connects again
            raise
        problem = _in_time(probe.expect, time.monotonic() - started)
        if result.status != probe.expect.exit:
            problem = f"exit status {result.status}, expected {probe.expect.exit}"
        return _matched(probe, problem, result.output)

    def _load(self, probe: DrillProbe) -> ProbeResult:
        assert probe.load is not None
        self._require_network()
        load = Load(self.session.lab, probe.load.path)
        summary = load.burst(probe.load.requests, probe.load.concurrent)
        problem = _in_time(probe.expect, summary.slowest)
        if summary.failed:
            answers = ", ".join(f"{count} × {status}" for status, count in summary.statuses.items())
            problem = f"{summary.failed} of {summary.requests} requests failed ({answers})"
        good = f"{summary.requests} requests, none failed"
        return ProbeResult(probe, not problem, problem or good)

    def _get(self, probe: DrillProbe) -> ProbeResult:
        self._require_network()
        lab = self.session.lab
        address = str(lab.machine(probe.machine).address) if probe.machine else ""
        begun = time.monotonic()
        for sample in itertools.count(1):
            responses: list[SiteResponse] = []
            for _ in range(probe.times):
                started = time.monotonic()
                response = request(lab, probe.get, address=address, timeout=REQUEST_SECONDS)
                late = _in_time(probe.expect, time.monotonic() - started)
                if problem := late or response_problem(probe.expect, response):
                    return ProbeResult(probe, False, problem)
                responses.append(response)
            problem = servers_problem(probe.expect, responses)
            if not problem:
                break
            if not probe.expect.balanced or (
                sample >= BALANCE_SAMPLES and time.monotonic() - begun > BALANCE_SECONDS
            ):
                return ProbeResult(probe, False, problem)
            time.sleep(BALANCE_PAUSE)
        return ProbeResult(probe, True, f"status {probe.expect.status}")

    def _require_network(self) -> None:
        problem = self.session.provider.network_problem(self.session.lab)
        if problem:
            raise LabError(problem, "invoke lab.up")


def _judge_checks(probe: DrillProbe, checked: Iterable[CheckResult]) -> ProbeResult:
    by_name = {result.check.name: result for result in checked}
    names = matching_checks(probe.check, by_name)
    if not names:
        return ProbeResult(probe, False, f"there is no check {probe.check}")
    failed = [by_name[name] for name in names if not by_name[name].verdict.ok]
    if failed:
        text = "; ".join(f"{r.check.name}: {r.verdict.got}" for r in failed)
        return ProbeResult(probe, False, text)
    return ProbeResult(probe, True, by_name[names[0]].verdict.got)


def response_problem(expect: Expectation, response: SiteResponse) -> str:
    """What is wrong with one response; empty when nothing is."""
    if not response.status:
        return response.error or "no response"
    if response.status != expect.status:
        return f"status {response.status}, expected {expect.status}"
    for name, pattern in expect.headers.items():
        if not re.search(pattern, response.header(name), re.MULTILINE):
            return f"{name}: {response.header(name) or 'missing'}"
    return _text_problem(expect, response.body)


def servers_problem(expect: Expectation, responses: Sequence[SiteResponse]) -> str:
    """What is wrong with the servers that responded; empty when nothing is."""
    if not expect.servers:
        return ""
    counts = Counter(response.header("x-served-by") for response in responses)
    shares = ", ".join(f"{name or 'no server'} {count}" for name, count in sorted(counts.items()))
    if set(counts) != set(expect.servers):
        return f"answered by {shares}"
    if expect.balanced:
        tolerance = max(1, len(responses) // BALANCE_TOLERANCE)
        if max(counts.values()) - min(counts.values()) > tolerance:
            return f"unequal shares: {shares}"
    return ""


def _text_problem(expect: Expectation, text: str) -> str:
    if expect.output and not re.search(expect.output, text, re.MULTILINE):
        return f"without {expect.output!r}: {_excerpt(text)}"
    if expect.absent and (match := re.search(expect.absent, text, re.MULTILINE)):
        return f"has {match.group()!r}"
    return ""


def _matched(probe: DrillProbe, problem: str, text: str) -> ProbeResult:
    if problem:
        excerpt = _excerpt(text)
        return ProbeResult(probe, False, f"{problem}: {excerpt}" if excerpt else problem)
    problem = _text_problem(probe.expect, text)
    return ProbeResult(probe, not problem, problem or _excerpt(text))


def _in_time(expect: Expectation, seconds: float) -> str:
    if expect.seconds and seconds > expect.seconds * timeout_factor():
        return f"took {seconds:.1f} s, expected at most {expect.seconds:g} s"
    return ""


def _excerpt(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""
