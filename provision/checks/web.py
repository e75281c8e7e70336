"""Checks of Nginx through the site: static files, and pages that do not exist."""

from __future__ import annotations

from collections.abc import Iterator

from provision.checks import prerequisites as requires
from provision.checks.base import Check, Verdict, equals
from provision.checks.observation import Observation
from provision.engine.context import Context


def checks(context: Context) -> Iterator[Check]:
    """Checks of responses that need no database."""
    front = context.lab.front.name
    hint = f"invoke lab.logs {front}"
    service = "haproxy" if context.lab.with_role("haproxy") else "nginx"
    prerequisites = (*requires.site(context), "static/*")
    yield Check("static", front, service, hint, _static, prerequisites)
    yield Check("not-found", front, service, hint, _not_found, requires.site(context))


def _static(observation: Observation) -> Verdict:
    response = observation.response("static")
    server = "the application" if response.header("x-app-host") else "Nginx"
    return equals("200 from Nginx", response.error or f"{response.status} from {server}")


def _not_found(observation: Observation) -> Verdict:
    response = observation.response("missing")
    return equals("404", response.error or str(response.status))
