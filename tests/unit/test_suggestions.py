"""Names that were typed wrong, and commands from other directories of the checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from provision import providers, topology
from provision.core.errors import LabError
from provision.core.lab import ROOT
from provision.services.haproxy import traffic
from tests.unit.samples import context

HERE = context("distributed")


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: HERE.lab.machine("wbe-01"), "web-01"),
        (lambda: HERE.lab.machine("lb01"), "lb-01"),
        (lambda: topology.find("distribted", ROOT), "distributed"),
        (lambda: topology.find("secure", ROOT), "secured"),
        (lambda: traffic.require_server(HERE, "web01"), "web-01"),
        (lambda: providers.provider("lcx"), "lxc"),
    ],
)
def test_a_similar_name_is_suggested(call: object, what: str) -> None:
    assert callable(call)
    with pytest.raises(LabError) as raised:
        call()
    assert f"did you mean {what}?" in str(raised.value)


@pytest.mark.parametrize("folder", ["provision", "provision/core", "configs/topologies", "tests"])
def test_tasks_work_in_every_directory_of_the_checkout(folder: str) -> None:
    argv = [str(Path(sys.executable).with_name("invoke")), "lab.completion", "bash"]
    done = subprocess.run(argv, cwd=ROOT / folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "lab.status" in done.stdout
