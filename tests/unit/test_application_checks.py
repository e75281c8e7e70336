"""An application of the user's own in checks: what only the guest book has is skipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provision import checks
from provision.checks.contents import static_files
from provision.checks.graph import evaluate, root_causes
from provision.checks.observation import Observation
from provision.checks.paths import paths
from provision.commands.show_checks import check_values, counts
from provision.engine.context import Context
from provision.services.app.application import record_path
from provision.services.tls.https import SiteResponse
from tests.unit.samples import context
from tests.unit.test_application import deployed, flask, lab, own

__all__ = ["flask", "lab"]
"""Fixtures."""


@pytest.fixture
def results(lab: Context) -> dict[str, checks.CheckResult]:
    judged = evaluate(checks.checks(lab), Observation({}))
    return {result.check.name: result for result in judged}


def test_checks_of_the_guest_book_are_skipped_with_a_reason(
    results: dict[str, checks.CheckResult],
) -> None:
    skipped = {n for n, r in results.items() if r.verdict.skipped}
    assert skipped == {"write", "read-back/web-01", "read-back/web-02", "version", "not-found"}
    for name in skipped:
        assert results[name].status == "skipped"
        assert results[name].ok
        assert "guest book" in results[name].verdict.got
    assert check_values([*results.values()])["counts"]["skipped"] >= 5
    causes = root_causes([*results.values()])
    assert skipped.isdisjoint(cause.result.check.name for cause in causes)
    assert "5 skipped" in counts([results[name] for name in skipped])


def test_the_guest_book_skips_nothing() -> None:
    judged = evaluate(checks.checks(context()), Observation({}))
    assert not any(result.verdict.skipped for result in judged)


def test_static_files_are_compared_under_their_url(lab: Context) -> None:
    assert list(static_files(lab)) == ["/static/a%20b.css"]


def test_without_a_static_folder_its_checks_are_skipped(tmp_path: Path, flask: Path) -> None:
    here = deployed(tmp_path, flask, own())
    judged = evaluate(checks.checks(here), Observation({}))
    skipped = {result.check.name for result in judged if result.verdict.skipped}
    assert {"static", "static/web-01", "static/web-02"} <= skipped


def test_the_redirect_to_https_keeps_the_path_of_its_page(tmp_path: Path, flask: Path) -> None:
    here = deployed(tmp_path, flask, own(health="/health"), "secured")
    location = {"location": f"https://{here.lab.site}/health"}
    seen = Observation({}, responses={"redirect": SiteResponse(301, location)})
    judged = {result.check.name: result for result in evaluate(checks.checks(here), seen)}
    assert judged["redirect"].verdict.ok


def test_paths_end_at_the_application(lab: Context) -> None:
    listed = list(paths(lab.lab, to_databases=False))
    assert {path[-1].service for path in listed} == {"foobar"}
    assert len(listed) == 2


def test_records_are_plain_json(lab: Context) -> None:
    values = json.loads(record_path(lab.lab.directory, "7").read_text())
    assert values["application"]["wsgi"] == "app:app"
