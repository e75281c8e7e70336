"""Add the results of new probes to tests/golden/recorded/observation.json, from a running lab.

    .venv/bin/python -m tests.record LAB

LAB has the topology ``distributed`` and passes all checks. Results that are recorded stay as they
are; delete one from the file to record it again. Those of the plan are left out (see test_drift).
"""

from __future__ import annotations

import json
import sys
from typing import Any

from provision.checks import drift
from provision.checks.observe import observe
from provision.engine.agent.codec import encode
from provision.operations.session import open_session
from tests.unit.samples import RECORDED

NETWORK = "10.78.0"
"""The network of lab.yml."""


def record(name: str) -> None:
    """Add what is missing, and print its names."""
    path = RECORDED / "observation.json"
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    session = open_session(name)
    with session.fleet() as fleet:
        seen = observe(session.context, fleet, session.machine_states())
    network = str(session.lab.network).rpartition(".")[0]
    for machine, results in seen.results.items():
        recorded = data["results"].setdefault(machine, {})
        plan = {p.name for p in drift.probes(session.context, session.lab.machine(machine))}
        for probe, response in results.responses.items():
            known = probe in recorded or probe in plan or probe.startswith("service ")
            if not known and not response.error:
                print(f"{machine}: {probe}")
                recorded[probe] = _moved(response.value, network)
    for request, page in seen.responses.items():
        if request not in data["responses"] and not request.startswith("read-back/"):
            print(request)
            data["responses"][request] = _moved({**encode(page), "body": ""}, network)
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _moved(value: Any, network: str) -> Any:
    """A value as if the lab were on `NETWORK`."""
    return json.loads(json.dumps(encode(value)).replace(f"{network}.", f"{NETWORK}."))


if __name__ == "__main__":
    record(sys.argv[1])
