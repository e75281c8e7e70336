"""Judges of copies: static files, pages, headers and the running release."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from provision.checks.contents import (
    difference_of_text,
    headers_problem,
    judge_release,
    judge_static,
    page_problem,
    release_digest,
    security_problem,
    static_files,
)
from provision.engine.agent.contents import Content
from provision.engine.agent.files import PathFacts
from provision.engine.agent.http import HttpResponse
from tests.unit.samples import context

CSS = "/static/foobar.css"
EMPTY = hashlib.sha256(b"").hexdigest()
RIGHT = Content(200, 3, hashlib.sha256(b"css").hexdigest(), {"x-served-by": "web-01"})
EXPECTED = {CSS: RIGHT.digest}


def test_expected_contents_of_the_release() -> None:
    files = static_files(context())
    assert files["/favicon.ico"] == files["/static/logo.svg"]
    assert CSS in files
    assert len(release_digest(context())) == 64


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (RIGHT, ""),
        (replace(RIGHT, size=0, digest=EMPTY), "an empty file"),
        (replace(RIGHT, digest="0"), "other content"),
        (replace(RIGHT, status=404), "status 404"),
        (Content(error="timed out"), "timed out"),
        (None, "not requested"),
    ],
)
def test_static_files(content: Content | None, problem: str) -> None:
    verdict = judge_static(EXPECTED, {CSS: content} if content else {})
    assert verdict.ok == (not problem)
    assert problem in verdict.got


def test_headers_and_pages() -> None:
    assert headers_problem("web-01", {CSS: RIGHT}) == ""
    assert "web-01" in headers_problem("web-02", {CSS: RIGHT})
    page = Content(404, 3, hashlib.sha256(b"404").hexdigest())
    assert difference_of_text("the page for 404", page, "404") == ""
    assert "an empty file" in difference_of_text("p", Content(404, 0, EMPTY), "404")
    assert page_problem(None, "x") == page_problem(PathFacts("file", content="x"), "x") == ""
    assert "empty" in page_problem(PathFacts("file"), "x")
    headers = {
        "content-security-policy": "x",
        "x-content-type-options": "nosniff",
        "referrer-policy": "x",
    }
    assert security_problem(HttpResponse(200, headers)) == ""
    assert "referrer-policy" in security_problem(
        HttpResponse(200, {**headers, "referrer-policy": ""})
    )
    assert security_problem(None) == security_problem(HttpResponse(error="refused")) == ""


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"version": "1.0.0", "digest": "abc"}, ""),
        ({"version": "0.9.0", "digest": "abc"}, "0.9.0"),
        ({"version": "1.0.0", "digest": "abd"}, "other files"),
        ({"version": "1.0.0"}, "other files"),
        ([], "JSON"),
    ],
)
def test_running_release(body: object, problem: str) -> None:
    verdict = judge_release(HttpResponse(200, {}, json.dumps(body)), "1.0.0", "abc")
    assert verdict.ok == (not problem)
    assert problem in verdict.got


def test_releases_that_do_not_answer_or_report_no_digest() -> None:
    assert not judge_release(None, "1.0.0", "abc").ok
    assert not judge_release(HttpResponse(error="refused"), "1.0.0", "abc").ok
    assert judge_release(HttpResponse(200, {}, '{"version": "1.0.0"}'), "1.0.0", "").ok
