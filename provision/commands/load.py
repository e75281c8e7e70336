"""`lab.load`: a bounded load on the site, with a live summary."""

from __future__ import annotations

import os
import sys
from typing import Any

from provision.commands import document, usage
from provision.commands.base import number, open_session, publish, task, url_path
from provision.commands.results import drills as results
from provision.core.errors import LabError
from provision.core.exit_status import ExitStatus
from provision.teaching.load import MAX_RATE, MAX_SECONDS, Load, LoadSummary


@task(
    result=results.LoadValues,
    help={
        "rate": f"requests per second, up to {MAX_RATE} (default: 20)",
        "seconds": f"duration, up to {MAX_SECONDS} (default: 10)",
        "writes": "percent of the requests that write a row (default: 0)",
        "path": "what is requested (default: /)",
    },
)
def load(
    c: Any,
    rate: str = "20",
    seconds: str = "10",
    writes: str = "0",
    path: str = "/",
    lab: str = "",
) -> None:
    """Send load; exit with 1 if a request fails."""
    per_second = number(rate, "--rate", 0.1, MAX_RATE)
    duration = number(seconds, "--seconds", 1, MAX_SECONDS)
    percent = round(number(writes, "--writes", 0, 100))
    requested = url_path(path)
    session = open_session(lab)
    problem = session.provider.network_problem(session.lab)
    if problem:
        raise LabError(f"lab {session.lab.name} is not running ({problem})", "invoke lab.up")
    live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not document.requested()
    interrupted = False

    def show(summary: LoadSummary) -> None:
        if live:
            text = line(summary)[: usage.screen_width() - 1]  # one line, which the next replaces
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    made = Load(session.lab, requested, percent)
    try:
        summary = made.at_rate(per_second, duration, show)
    except KeyboardInterrupt:
        summary, interrupted = made.summary(), True
    if live:
        print(file=sys.stderr)
    if not publish(load_values(summary)):
        print("\n".join(lines(summary)))
    if interrupted:
        raise KeyboardInterrupt
    if summary.failed or not summary.requests:
        raise SystemExit(ExitStatus.FAILED)


def load_values(summary: LoadSummary) -> results.LoadValues:
    """A summary as JSON values."""
    return results.LoadValues(
        requests=summary.requests,
        write_requests=summary.writes,
        failed=summary.failed,
        seconds=round(summary.seconds, 2),
        requests_per_second=round(summary.rate, 1),
        median_seconds=round(summary.median, 4),
        p95_seconds=round(summary.p95, 4),
        p99_seconds=round(summary.p99, 4),
        slowest_seconds=round(summary.slowest, 4),
        statuses=dict(summary.statuses),
        servers=dict(summary.servers),
        reasons=list(summary.errors),
    )


def line(summary: LoadSummary) -> str:
    """A summary in one line."""
    return (
        f"{summary.seconds:5.1f} s  {summary.requests} requests  {summary.rate:.1f}/s  "
        f"{summary.failed} failed  median {summary.median * 1000:.0f} ms  "
        f"p99 {summary.p99 * 1000:.0f} ms"
    )


def lines(summary: LoadSummary) -> list[str]:
    """A summary in some lines."""
    rows = [
        f"requests  {summary.requests} in {summary.seconds:.1f} s ({summary.rate:.1f}/s), "
        f"{summary.writes} of them writes",
        f"failed    {summary.failed}",
        f"latency   median {summary.median * 1000:.0f} ms, p95 {summary.p95 * 1000:.0f} ms, "
        f"p99 {summary.p99 * 1000:.0f} ms, slowest {summary.slowest * 1000:.0f} ms",
        "statuses  " + _counts(summary.statuses),
        "servers   " + (_counts(summary.servers) or "unknown"),
    ]
    return rows + [f"error     {error}" for error in summary.errors]


def _counts(counts: Any) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items())
