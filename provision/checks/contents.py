"""Checks that every copy is the same: static files, error pages, headers, the application's code.

Each server is asked directly, and what it responds is compared with the release and the templates
by digest. An empty response with status 200 is a failure.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from provision.checks import prerequisites as requires
from provision.checks.answers import NO_FILE, TIMEOUT, app_probe
from provision.checks.application import version_probe
from provision.checks.base import UNKNOWN, Check, Verdict
from provision.checks.observation import Observation
from provision.core.lab import Machine
from provision.engine.agent.contents import Content, Contents, contents_probe
from provision.engine.agent.files import PathFacts, path_probe
from provision.engine.agent.http import HttpResponse
from provision.engine.agent.protocol import HttpRequest, Probe
from provision.engine.context import Context
from provision.engine.resources import Tree
from provision.services.app.agent.running import RunningRelease, running_probe
from provision.services.app.interface import SERVICE, application
from provision.services.app.role import (
    release_files,
    release_folder,
    release_links,
    version_of,
)
from provision.services.nginx.role import ERROR_PAGES
from provision.services.tls import interface as tls

LARGEST_SAMPLE = 40
"""Static files of a release that are requested from every web server."""

DIGEST_MODULE = "foobar/digest.py"
"""A release with this file reports the digest of its files."""

MISSING = "/static/no-such-file"
NOT_FOUND = "404.html"
BAD_GATEWAY = "502.html"

SECURITY_HEADERS = ("content-security-policy", "x-content-type-options", "referrer-policy")


def static_files(context: Context) -> Mapping[str, str]:
    """SHA-256 by URL path of the recorded release's static files, the first `LARGEST_SAMPLE`."""
    app = application(context)
    if not app.static:
        return {}
    folder = f"{app.static}/"
    files = release_files(release_folder(context))
    static = [(path, data) for path, _, data in files if path.startswith(folder)]
    digests = {
        f"/static/{quote(os.fsencode(path.removeprefix(folder)))}": hashlib.sha256(data).hexdigest()
        for path, data in static[:LARGEST_SAMPLE]
    }
    if app.is_guest_book and "/static/logo.svg" in digests:
        digests["/favicon.ico"] = digests["/static/logo.svg"]
    return digests


def missing_path(context: Context) -> str:
    """A path of static files that Nginx does not find, whichever application runs."""
    return MISSING if application(context).static else NO_FILE


def release_digest(context: Context) -> str:
    """The digest that /version reports; empty for a release that does not report any."""
    files = release_files(release_folder(context))
    if not any(path == DIGEST_MODULE for path, _, _ in files):
        return ""
    return Tree("", files, links=release_links(release_folder(context))).digest


def copies_probe(context: Context, web: Machine) -> Probe[Contents]:
    """What one web server responds to requests for static files and for one that is missing."""
    https = context.lab.topology.https
    request = HttpRequest(
        "/",
        address=str(web.address),
        port=443 if https else 80,
        host=context.lab.site,
        ca=tls.CA if https else "",
        timeout=TIMEOUT,
    )
    return contents_probe(web.name, request, [*static_files(context), missing_path(context)])


def probes(context: Context, machine: Machine) -> Iterator[Probe[Any]]:
    """Requests of the front machine to every web server; the page that cannot be requested."""
    if machine == context.lab.front:
        for web in context.lab.with_role("nginx"):
            yield copies_probe(context, web)
    if "nginx" in machine.roles:
        yield path_probe(f"{ERROR_PAGES}/{BAD_GATEWAY}")
    if "app" in machine.roles and not application(context).is_guest_book:
        yield running_probe(SERVICE)


def checks(context: Context) -> Iterator[Check]:
    """Checks of each web server and application server."""
    for web in context.lab.with_role("nginx"):
        yield _static(context, web)
        yield _content(context, web)
    for machine in context.lab.with_role("app"):
        yield _release(context, machine)


def _contents(context: Context, observation: Observation, web: Machine) -> Contents:
    probe = copies_probe(context, web)
    return observation.result(context.lab.front.name, probe) or Contents()


def difference(response: Content | None, status: int, digest: str) -> str:
    """How a response differs from the expected one; empty when it does not."""
    if response is None:
        return "not requested"
    if response.error:
        return response.error
    if response.status != status:
        return f"status {response.status}, expected {status}"
    if response.digest != digest:
        return f"{'other content' if response.size else 'an empty file'} ({response.size} bytes)"
    return ""


# --- web servers ---------------------------------------------------------------------------------


def _static(context: Context, web: Machine) -> Check:
    name = web.name
    service = "foobar" if "app" in web.roles else "nginx"

    def judge(observation: Observation) -> Verdict:
        expected = static_files(context)
        contents = _contents(context, observation, web).by_path
        return judge_static(expected, contents)

    prerequisites = (
        *requires.service(name, "nginx"),
        *requires.machine(context.lab.front.name),
        *(f"drift/{name}/{other}" for other in ("foobar", "system")),
        f"answer/{name}/nginx",
    )
    return Check(f"static/{name}", name, service, "invoke lab.up", judge, prerequisites)


def judge_static(expected: Mapping[str, str], contents: Mapping[str, Content]) -> Verdict:
    """Static files as the release has them.

    Args:
        expected: SHA-256 by path.
    """
    text = f"{len(expected)} static files as in the release"
    problems = {
        path: problem
        for path, digest in expected.items()
        if (problem := difference(contents.get(path), 200, digest))
    }
    if not problems:
        return Verdict(True, text, text)
    lines = [f"{path}: {problem}" for path, problem in problems.items()]
    return Verdict(False, text, lines[0], "\n".join(lines[1:]), cause=f"static file {lines[0]}")


def _content(context: Context, web: Machine) -> Check:
    name, front = web.name, context.lab.front.name

    def judge(observation: Observation) -> Verdict:
        contents = _contents(context, observation, web).by_path
        version = observation.result(front, version_probe(context, web))
        page = observation.result(name, path_probe(f"{ERROR_PAGES}/{BAD_GATEWAY}"))
        not_found = context.render(f"nginx/{NOT_FOUND}.j2", web)
        bad_gateway = context.render(f"nginx/{BAD_GATEWAY}.j2", web)
        problem = (
            headers_problem(name, contents)
            or difference_of_text(
                "the page for 404", contents.get(missing_path(context)), not_found
            )
            or page_problem(page, bad_gateway)
            or security_problem(version)
        )
        headers = ", security headers" if application(context).is_guest_book else ""
        expected = f"its error pages, X-Served-By: {name}{headers}"
        return Verdict(not problem, expected, problem or expected, cause=f"nginx: {problem}")

    prerequisites = (
        *requires.service(name, "nginx"),
        *requires.machine(front),
        f"answer/{name}/nginx",
        *requires.applications(context, web),
    )
    return Check(f"content/{name}", name, "nginx", "invoke lab.up", judge, prerequisites)


def headers_problem(name: str, contents: Mapping[str, Content]) -> str:
    """A response that does not name the web server; empty when all do."""
    for path, response in contents.items():
        served_by = response.headers.get("x-served-by", "")
        if not response.error and served_by != name:
            return f"{path} has X-Served-By: {served_by or '(none)'}, expected {name}"
    return ""


def difference_of_text(what: str, response: Content | None, text: str) -> str:
    """How a page for a missing file differs from a text."""
    problem = difference(response, 404, hashlib.sha256(text.encode()).hexdigest())
    return problem and f"{what}: {problem}"


def page_problem(page: PathFacts | None, text: str) -> str:
    """How the page that Nginx sends when the application is down differs; empty when unknown."""
    if page is None or page.content == text:
        return ""
    return f"the page for 502 is {'different' if page.content else 'empty or missing'}"


def security_problem(response: HttpResponse | None) -> str:
    """Security headers that a response of the application lacks; empty without a response."""
    if response is None or response.error or response.status != 200:
        return ""
    lacking = [name for name in SECURITY_HEADERS if not response.headers.get(name)]
    return f"the application's responses lack {', '.join(lacking)}" if lacking else ""


# --- application servers -------------------------------------------------------------------------


def _release(context: Context, machine: Machine) -> Check:
    name = machine.name

    def judge(observation: Observation) -> Verdict:
        version = version_of(release_folder(context))
        if not application(context).is_guest_book:
            return judge_process(observation.result(name, running_probe(SERVICE)), version)
        response = observation.result(name, app_probe(context, machine))
        return judge_release(response, version, release_digest(context))

    prerequisites = (*requires.service(name, "foobar"), f"answer/{name}/foobar")
    hint = "invoke lab.restart foobar"
    return Check(f"release/{name}", name, "foobar", hint, judge, prerequisites)


def judge_process(running: RunningRelease | None, version: str) -> Verdict:
    """Whether an application of the user's own was started in the recorded release's folder."""
    got = (running.version or "not running") if running else UNKNOWN
    return Verdict(got == version, version, got, cause=f"foobar runs {got}, not {version}")


def judge_release(response: HttpResponse | None, version: str, digest: str) -> Verdict:
    """Whether an application runs the recorded release.

    Args:
        digest: of the release's files; empty when it does not report any.
    """
    expected = f"{version} with the recorded files"
    if response is None or response.error:
        return Verdict(False, expected, response.error if response else UNKNOWN)
    try:
        body = json.loads(response.body)
        running, loaded = str(body["version"]), str(body.get("digest", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Verdict(False, expected, f"status {response.status}, not the application's JSON")
    if running != version:
        got = f"{running}"
        return Verdict(False, expected, got, cause=f"foobar runs {running}, not {version}")
    if digest and loaded != digest:
        got = f"{version} with other files (digest {loaded[:12] or 'missing'}, not {digest[:12]})"
        return Verdict(False, expected, got, cause=f"foobar runs {got}")
    return Verdict(True, expected, expected)
