"""Samples for unit tests of roles, plans and checks: labs without machines, recorded results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from provision import registry, topology
from provision.checks.observation import Observation
from provision.core.lab import ROOT, Lab
from provision.core.pki import StagedCertificate
from provision.core.state import State
from provision.engine.agent.codec import decode
from provision.engine.agent.protocol import Probe, R, Results
from provision.engine.agent.services import service_probe
from provision.engine.context import Context
from provision.services.tls.https import SiteResponse
from tests.unit.database_samples import database_results

RECORDED = ROOT / "tests" / "golden" / "recorded"
"""Results of probes on real machines: results.json by kind and state, observation.json of a lab."""

PASSWORD = "not-a-password-of-anybody-{}"


class FixedSecrets:
    """Secrets that are the same in every run."""

    def password(self, name: str) -> str:
        """A text in which a leak is easily found."""
        return PASSWORD.format(name)

    def known(self) -> tuple[str, ...]:
        """No secrets are on disk."""
        return ()


class FixedAuthority:
    """Certificates that are the same in every run."""

    def pem(self, *_: Any, **__: Any) -> str:
        """The authority's own."""
        return "-- the authority --\n"

    def issue(self, name: str, *_: Any, **__: Any) -> tuple[str, str]:
        """A certificate and its key."""
        return f"-- certificate of {name} --\n", f"-- key of {name} --\n"

    def issue_staged(self, name: str, *_: Any, **__: Any) -> StagedCertificate:
        """A certificate, its key, and both of its successor."""
        return StagedCertificate(*self.issue(name), *self.issue(f"{name}.next"))


def context(
    name: str = "distributed",
    *,
    primary: str = "",
    rolling: bool = False,
    root: Path | None = None,
    **state: Any,
) -> Context:
    """A lab of that topology as roles see it.

    Args:
        name: of the topology.
        primary: overrides that of the topology.
        rolling: whether the lab serves already.
        root: a folder for real secrets; without it they are fixed, and nothing is on disk.
        state: more of the record.
    """
    read = topology.load(topology.find(name, ROOT))
    recorded = State(primary=primary or read.primary, topology=name, **state)
    lab = Lab("default", root or Path("/checkout"), read)
    result = registry.context(lab, recorded, rolling=rolling)
    if root is None:
        result.__dict__["secrets"] = FixedSecrets()
        result.__dict__["authority"] = FixedAuthority()
    return result


def recorded(file: str) -> Any:
    """A recorded file, parsed."""
    return json.loads((RECORDED / file).read_text(encoding="utf-8"))


def result(probe: Probe[R], state: str) -> R:
    """The recorded result of a probe of that kind, on a machine in that state."""
    return decode(probe.result, recorded("results.json")[probe.kind][state])


def observation() -> Observation:
    """The observation of the lab of ``lab.yml``, in which all checks pass."""
    data = recorded("observation.json")
    sample = context(str(RECORDED / "lab.yml"))
    results = {}
    for machine in sample.lab.machines:
        values = data["results"][machine.name]
        # A role that gets one more service need not be recorded again.
        probes = [service_probe(name) for name in sample.services(machine)]
        running = {probe.name: result(probe, "running") for probe in probes}
        results[machine.name] = Results.of(
            machine.name, {**values, **running, **database_results(sample, machine)}
        )
    pages = tuple(SiteResponse(**page) for page in data["pages"])
    responses = {name: SiteResponse(**page) for name, page in data["responses"].items()}
    return Observation(data["states"], results, data["errors"], pages, responses)
