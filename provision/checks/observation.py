"""The observed state of a lab at one moment: collected by observe.py, judged by checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from provision.engine.agent.protocol import Probe, Results
from provision.services.tls.https import SiteResponse, TlsHandshake

R = TypeVar("R")

NOT_SENT = SiteResponse(error="not requested")


@dataclass(frozen=True)
class Observation:
    """Everything that was observed of a lab.

    Args:
        states: according to the provider, by machine.
        errors: by machine, why its probes have no results.
        hints: by machine, the command that fixes such an error, if known.
        pages: responses to requests for the site's page.
        responses: to other requests, such as ``static`` or ``write``.
        resolved: by name server, the site's addresses, or an error.
    """

    states: Mapping[str, str]
    results: Mapping[str, Results] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    pages: tuple[SiteResponse, ...] = ()
    responses: Mapping[str, SiteResponse] = field(default_factory=dict)
    resolved: Mapping[str, str] = field(default_factory=dict)
    tls: TlsHandshake | None = None
    hints: Mapping[str, str] = field(default_factory=dict)

    def result(self, machine: str, probe: Probe[R]) -> R | None:
        """A probe's result; None when the machine or the probe has none."""
        results = self.results.get(machine)
        return results.get(probe) if results is not None else None

    def problem(self, machine: str, probe: Probe[R]) -> str:
        """Why a probe has no result."""
        results = self.results.get(machine)
        if results is None:
            return self.errors.get(machine, "unknown")
        response = results.responses.get(probe.name)
        return (response.error if response else "") or "unknown"

    def response(self, name: str) -> SiteResponse:
        """A response by name; `NOT_SENT` when there was no such request."""
        return self.responses.get(name, NOT_SENT)
