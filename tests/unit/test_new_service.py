"""A service is added by a folder, a template folder and a keyword: no other module names it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from provision.core.lab import ROOT
from tests.new_service import TOPOLOGY, add_status, copy_checkout

GOLDEN = ROOT / "tests" / "golden" / "roles" / "new_service.txt"

DESCRIBE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from provision import checks, registry, topology
from provision.core.lab import Lab
from provision.core.state import State
from provision.services.firewall.role import rules
from provision.teaching import diagram, faults
from provision.operations.original_state import changed_by_lab
read = topology.load(topology.find(sys.argv[2]))
lab = Lab("default", Path(sys.argv[1]), read)
context = registry.context(lab, State(primary=read.primary, topology=sys.argv[2], provider="lxc"))
machine = lab.machines[0]
role = next((r for r in context.roles if r.name == "status"), None)
units = role.units(context, machine) if role else ()
present = [rule.why for rule in rules(context, machine)]
drawn = diagram.planned_diagram(context)
print(json.dumps({
    "units": [u.name for u in context.roles_of(machine)],
    "golden": "".join(
        f"--- {r.name}\\n" + "".join(f"{k}: {v}\\n" for k, v in r.expected().items())
        for u in units for r in u.resources
    ),
    "checks": [c.name for c in checks.checks(context)],
    "probes": [p.name for p in checks.probes(context, machine)],
    "ports": present,
    "programs": [p.name for layer in drawn.layers for box in layer.boxes for p in box.programs],
    "tiers": [layer.title for layer in drawn.layers],
    "faults": [f"{c.machine}/{c.part}" for c in faults.components(context)],
    "paths": changed_by_lab(context, machine)[0],
}))
"""


def describe(checkout: Path) -> Mapping[str, Any]:
    """What a checkout declares for the machine of its simple topology."""
    command = [sys.executable, "-I", "-c", DESCRIBE, str(checkout), TOPOLOGY]
    result = subprocess.run(command, text=True, capture_output=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    described: Mapping[str, Any] = json.loads(result.stdout)
    return described


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("checkout"))


def test_every_part_of_the_lab_reads_the_declaration(checkout: Path) -> None:
    before = describe(checkout)
    add_status(checkout)
    after = describe(checkout)
    new = {key: [item for item in after[key] if item not in before[key]] for key in before}
    assert "status" in new["units"]
    assert {"service/web-01/lab-status", "status/web-01"} <= set(new["checks"])
    assert {"drift/web-01/lab-status", "restart-required/web-01/lab-status"} <= set(new["checks"])
    assert "http status page of web-01" in new["probes"]
    assert new["ports"] == ["the status page"]
    assert new["programs"] == ["status page"]
    assert "status server" in new["tiers"]
    assert new["faults"] == ["web-01/status"]
    assert "/srv/lab-status" in new["paths"]
    if os.environ.get("REGENERATE"):
        GOLDEN.write_text(after["golden"], encoding="utf-8")
    assert after["golden"] == GOLDEN.read_text(encoding="utf-8")
