"""``--json``: the real output of every command that shows something is valid, errors too."""

from __future__ import annotations

import pytest

from tests import json_schema
from tests.live.conftest import RunningLab

pytestmark = pytest.mark.live

SHOWS = [
    ("lab.status",),
    ("lab.check",),
    ("lab.plan",),
    ("lab.doctor",),
    ("lab.doctor", "--host"),
    ("lab.list",),
    ("lab.snapshots",),
    ("lab.diagram",),
    ("lab.explain",),
    ("lab.explain", "spof"),
    ("lab.logs", "lb-01", "--lines", "3"),
    ("lb.status",),
    ("lb.watch",),
    ("app.releases",),
    ("db.status",),
    ("db.autopromote", "status"),
    ("dns.hosts",),
    ("dns.trace", "/"),
]
"""In every topology."""

SECURED = [
    ("firewall.show",),
    ("tls.show",),
    ("tls.trust",),
    ("monitor.show",),
    ("monitor.qps",),
    ("monitor.alerts",),
]
"""In `secured`."""

ERRORS = [
    (("lab.ssh", "web-01"), None),
    (("lab.logs", "web-99"), 2),
    (("db.promote", "lb-01"), 2),
    (("firewall.show",), 1),
    (("lb.weight", "web-01", "x"), 2),
]
"""In `distributed`: a command and its exit status; None for one without ``--json``."""


def documented(lab: RunningLab, words: tuple[str, ...]) -> None:
    without_lab = words[0] in ("lab.list",)
    command = (*words, "--json")
    if without_lab:
        text = lab.invoke_bare(*command).stdout
    else:
        text = lab.invoke(*command, check=False).stdout
    shown = json_schema.document(text)
    assert shown["kind"] == words[0]
    assert shown["lab"] == ("" if without_lab else lab.name)
    assert shown["data"] is not None, shown["error"]


@pytest.mark.parametrize("words", SHOWS, ids=" ".join)
def test_what_is_shown_is_valid(lab: RunningLab, words: tuple[str, ...]) -> None:
    documented(lab, words)


@pytest.mark.parametrize("words", SECURED, ids=" ".join)
def test_what_is_shown_in_secured_is_valid(secured_lab: RunningLab, words: tuple[str, ...]) -> None:
    documented(secured_lab, words)


@pytest.mark.parametrize(("words", "status"), ERRORS)
def test_errors_are_documents(lab: RunningLab, words: tuple[str, ...], status: int | None) -> None:
    result = lab.invoke(*words, "--json", check=False)
    shown = json_schema.document(result.stdout)
    assert shown["exit_code"] == result.returncode != 0
    assert shown["error"]["what"]
    if status is not None:
        assert result.returncode == status
        assert shown["kind"] == words[0]
        assert (
            f"--lab {lab.name}" in shown["error"]["next"] or "invoke" not in shown["error"]["next"]
        )


def test_a_change_is_a_document_too(lab: RunningLab) -> None:
    weight = lab.json("lb.weight", "web-01", "2")
    assert [s["weight"] for s in weight["balancers"][0]["servers"]] == [2, 1]
    assert lab.json("lb.weight", "web-01", "1")["mode"] == "active-active"
