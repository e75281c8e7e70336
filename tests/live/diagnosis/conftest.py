"""Helpers of the diagnosis tests: break a lab, read `lab.check --json`, assert one cause, repair.

A test:

    def test_stopped_nginx(repaired: RunningLab) -> None:
        repaired.run("web-01", "systemctl", "stop", "nginx")
        found = diagnose(repaired)
        found.assert_one_cause("web-01", "nginx", check="service/web-01/nginx")
        assert_repaired_by(repaired, "lab.up")
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests import json_schema
from tests.live.conftest import RunningLab

CHECK_SECONDS = 15.0
"""Most seconds that one `lab.check` may take, also under faults."""


@dataclass(frozen=True)
class Diagnosis:
    """What `lab.check` reports.

    Args:
        root_causes: machine, service and check of each root cause.
        failed: names of failed checks; more than one may belong to a root cause.
        skipped: names of checks that depend on a root cause.
        results: the entries of `lab.check --json` by name.
        seconds: that the command took.
    """

    root_causes: list[tuple[str, str, str]]
    failed: list[str]
    skipped: list[str]
    warnings: list[str]
    results: dict[str, dict[str, Any]] = field(repr=False)
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether no check failed; warnings do not count."""
        return not self.failed and not self.skipped

    def text(self) -> str:
        """Everything that did not pass, for assertion messages."""
        bad = [entry for entry in self.results.values() if entry["status"] != "ok"]
        return "\n".join(
            f"{e['status']} {e['check']} ({e['machine']} {e['service']}): {e['got']}"
            f" blocked by {e['blocked_by']}"
            for e in bad
        )

    def assert_one_cause(self, machine: str, service: str, check: str = "") -> dict[str, Any]:
        """Fail unless there is exactly this root cause; returns the entry of its check.

        Args:
            check: name of the check, or its beginning; empty for any.
        """
        assert len(self.root_causes) == 1, f"{self.root_causes}\n{self.text()}"
        got_machine, got_service, got_check = self.root_causes[0]
        assert (got_machine, got_service) == (machine, service), self.text()
        assert got_check.startswith(check), self.text()
        entry = self.results[got_check]
        assert entry["next"].startswith("invoke "), entry
        return entry


def diagnose(lab: RunningLab, only: str = "") -> Diagnosis:
    """Run `lab.check --json`; fails when it takes longer than `CHECK_SECONDS`."""
    started = time.monotonic()
    options = ("--only", only) if only else ()
    result = lab.invoke("lab.check", "--json", *options, check=False, timeout=120)
    seconds = time.monotonic() - started
    document = json_schema.document(result.stdout)
    assert document["data"], document["error"]
    entries: list[dict[str, Any]] = document["data"]["checks"]
    assert seconds <= CHECK_SECONDS, f"lab.check took {seconds:.1f} s"

    def names(status: str) -> list[str]:
        return [entry["check"] for entry in entries if entry["status"] == status]

    diagnosis = Diagnosis(
        [(e["machine"], e["service"], e["check"]) for e in entries if e["root_cause"]],
        names("failed"),
        names("skipped"),
        names("warning"),
        {entry["check"]: entry for entry in entries},
        seconds,
    )
    assert result.returncode == (0 if diagnosis.ok else 1), diagnosis.text()
    return diagnosis


def assert_healthy(lab: RunningLab) -> None:
    """Fail unless all checks pass."""
    diagnosis = diagnose(lab)
    assert diagnosis.ok, diagnosis.text()


def assert_repaired_by(lab: RunningLab, *words: str) -> None:
    """Run a task, such as ``lab.up`` or one that a check suggests; then all checks must pass."""
    lab.invoke(*words)
    assert_healthy(lab)


@contextmanager
def broken(lab: RunningLab, machine: str, break_: str, repair: str = "") -> Iterator[Diagnosis]:
    """Run a shell command as root on a machine, diagnose, and repair in any case.

    Args:
        break_: must succeed.
        repair: afterwards, also when the test fails; `lab.up` follows with the fixture `repaired`.
    """
    lab.out(machine, "sh", "-c", break_)
    try:
        yield diagnose(lab)
    finally:
        if repair:
            lab.run(machine, "sh", "-c", repair)
