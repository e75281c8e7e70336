"""A fourth machine is one entry in the topology file; two labs run side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from provision.core.lab import ROOT
from tests.live.conftest import RunningLab

pytestmark = pytest.mark.live

ENTRY = """\
  web-03:
    address: 192.168.56.13
    roles: [nginx, app, mysql]
"""


def test_a_fourth_machine_beside_another_lab(
    lab: RunningLab, other_lab: Callable[..., RunningLab], tmp_path: Path
) -> None:
    before = lab.get().status_code, lab.out("web-01", "hostname", "-I")
    distributed = (ROOT / "configs" / "topologies" / "distributed.yml").read_text()
    file = tmp_path / "four.yml"
    file.write_text(distributed + ENTRY)
    four = other_lab("four")
    four.up("--topology", str(file))

    output = four.invoke("lab.check").stdout
    for name in ("replication/web-03", "read-back/web-03", "balancer/lb-01/web-03", "round-robin"):
        assert f"ok    {name}" in output
    served = [four.get().headers["X-Served-By"] for _ in range(12)]
    assert set(served) == {"web-01", "web-02", "web-03"}
    assert served == served[:3] * 4
    uuids = {four.sql(f"web-0{n}", "SELECT @@server_uuid") for n in (1, 2, 3)}
    assert len(uuids) == 3
    assert four.invoke("lab.plan", "--detailed-exitcode").returncode == 0

    # The other lab has a separate network and is unaffected.
    ours, theirs = lab.session().lab, four.session().lab
    assert not ours.network.overlaps(theirs.network)
    assert (lab.get().status_code, lab.out("web-01", "hostname", "-I")) == before
    assert "four" not in lab.invoke("lab.status").stdout
    listed = lab.invoke_bare("lab.list").stdout
    assert lab.name in listed
    assert four.name in listed

    # Halting one machine does not affect the others.
    four.invoke("lab.halt", "web-03")
    assert {four.get().headers["X-Served-By"] for _ in range(6)} <= {"web-01", "web-02"}
    four.destroy()
    assert lab.invoke("lab.check").returncode == 0


def test_a_lab_of_three_grows_by_one(other_lab: Callable[..., RunningLab], tmp_path: Path) -> None:
    """The new replica receives the data that was written before it existed."""
    distributed = (ROOT / "configs" / "topologies" / "simple.yml").read_text()
    file = tmp_path / "mine.yml"
    file.write_text(distributed)
    lab = other_lab("grow")
    lab.up("--topology", str(file))
    lab.sql(
        "web-01", "CREATE TABLE foobar.early (id INT PRIMARY KEY); INSERT foobar.early SELECT 7"
    )
    second = ENTRY.replace("web-03", "web-02").replace(".13", ".12")
    file.write_text(distributed + second)
    result = lab.up()
    assert "web-02" in result.stdout
    assert lab.sql("web-02", "SELECT id FROM foobar.early") == "7"
    assert "ok    replication/web-02" in lab.invoke("lab.check").stdout
