"""Topology changes in both directions, on the same machines, keeping the data.

One lab changes in this order: scaled → distributed → simple → distributed → scaled.
"""

from __future__ import annotations

import pytest

from tests.live.conftest import RunningLab, wait_until, with_topology
from tests.live.test_spof import lost

pytestmark = pytest.mark.live

SCALED = ["lb-01", "lb-02", "web-01", "web-02", "app-01", "app-02", "db-01", "db-02"]


def states(lab: RunningLab) -> dict[str, str]:
    status = lab.json("lab.status")
    return {m["machine"]: m["state"] for m in status["machines"]}


def note(lab: RunningLab, text: str) -> None:
    body = {"author": "a", "text": text}
    result = lab.post("/api/notes", body)
    assert result.status_code == 201, result.text


def notes(lab: RunningLab) -> list[str]:
    return sorted(item["text"] for item in lab.get("/api/notes").json())


def kept(lab: RunningLab, text: str) -> None:
    """A note from an earlier topology exists, and lab.plan has no changes."""
    assert text in notes(lab)
    assert "0 changed" in lab.up().stdout


def automatic(lab: RunningLab) -> bool:
    return bool(lab.json("db.autopromote", "status")["on"])


def active(lab: RunningLab, machine: str, service: str) -> bool:
    return lab.run(machine, "systemctl", "is-active", "--quiet", service).ok


def test_scaled_to_distributed(scaled: RunningLab) -> None:
    lab = scaled
    assert list(states(lab)) == SCALED
    assert automatic(lab), "automatic failover as in the topology"
    # An operator's setting has precedence over the topology.
    lab.invoke("db.autopromote", "off")
    lab.up()
    assert not automatic(lab)
    lab.invoke("db.autopromote", "on")
    note(lab, "in scaled")

    # Without a terminal nothing can be confirmed: removals are listed, nothing changes.
    result = lab.invoke("lab.up", "--topology", "distributed", check=False)
    assert result.returncode == 2
    output = result.stderr
    primary = lab.session().state.primary
    replica = "db-02" if primary == "db-01" else "db-01"
    roles = "mysql, exporters, firewall, hardening"
    assert f"{primary}   {roles}; its data moves to web-01 first" in output
    assert f"{replica}   {roles}; a copy of data that {primary} has" in output
    assert "lb-02   haproxy, keepalived, dns, exporters, firewall, hardening; no data" in output
    assert list(states(lab)) == SCALED
    assert automatic(lab)

    output = lab.up("--topology", "distributed", "--yes").stdout
    assert f"moving the data from {primary} to web-01" in output
    assert list(states(lab)) == ["lb-01", "web-01", "web-02"]
    kept(lab, "in scaled")
    # Former roles of the machines.
    assert not automatic(lab)
    for service in ("keepalived", "lab-virtual-address", "lab-autopromote", "prometheus"):
        assert not active(lab, "lb-01", service), service
    address = lab.session().lab.network.network_address + 100
    assert str(address) not in lab.out("lb-01", "ip", "address")
    note(lab, "in distributed")
    rows = lab.sql("web-02", "SELECT text FROM foobar.notes").splitlines()
    assert {"in scaled", "in distributed"} <= set(rows)


def test_distributed_to_simple(changing_lab: RunningLab) -> None:
    lab = with_topology(changing_lab, "distributed")
    # The data must not be left on a machine that the new topology does not have.
    lab.invoke("db.promote", "web-02")
    note(lab, "on web-02")
    result = lab.invoke("lab.up", "--topology", "simple", "--yes", check=False)
    assert result.returncode == 1
    assert "is web-02, which is not a database machine" in result.stderr
    assert f"invoke db.promote --lab {lab.name} web-01" in result.stderr
    assert len(states(lab)) == 3
    lab.invoke("db.promote", "web-01")

    result = lab.invoke("lab.up", "--topology", "simple", check=False)
    assert result.returncode == 2
    assert "web-02  nginx, app, mysql; a copy of data that web-01 has" in result.stderr
    assert "lb-01   haproxy, dns; no data" in result.stderr
    assert "--yes" in result.stderr
    # Automatic failover ends when the witness and one database are removed.
    lab.invoke("db.autopromote", "on")
    # A replica with an errant transaction is reported.
    lab.sql("web-02", "SET GLOBAL super_read_only=0; CREATE TABLE lab.x (a INT)")
    result = lab.invoke("lab.up", "--topology", "simple", check=False)
    assert "web-02  nginx, app, mysql; transactions that web-01 does not have: " in result.stderr
    assert len(states(lab)) == 3

    assert "through web-01" in lab.up("--topology", "simple", "--yes").stdout
    assert states(lab) == {"web-01": "running"}
    assert lab.session().provider.orphaned_machines(lab.session().lab) == []
    kept(lab, "on web-02")
    assert not active(lab, "web-01", "lab-autopromote")
    note(lab, "in simple")


def test_every_component_of_simple_is_a_single_point_of_failure(changing_lab: RunningLab) -> None:
    lab = with_topology(changing_lab, "simple")
    site, everything = ["reads", "writes"], ["reads", "writes", "names"]
    assert lost(lab, "--seconds", "1.5") == {
        "web-01/nginx": site,
        "web-01/app": site,
        "web-01/mysql": site,
        "web-01/dns": ["names"],
        "web-01/machine": everything,
    }


def test_simple_to_distributed(changing_lab: RunningLab) -> None:
    lab = with_topology(changing_lab, "simple")
    note(lab, "before distributed")
    lab.up("--topology", "distributed")
    assert list(states(lab)) == ["lb-01", "web-01", "web-02"]
    kept(lab, "before distributed")
    # The new web-02 has the server_id of the old one, and all transactions of the old one.
    assert lab.sql("web-02", "SELECT text FROM foobar.notes").splitlines() == [
        *lab.sql("web-01", "SELECT text FROM foobar.notes").splitlines()
    ]
    assert lab.get("/").headers["X-Balanced-By"] == "lb-01"
    # A role that web-01 had in the earlier topology.
    assert not active(lab, "web-01", "dnsmasq")


def test_distributed_to_scaled(changing_lab: RunningLab) -> None:
    lab = with_topology(changing_lab, "distributed")
    note(lab, "before scaled")
    output = lab.up("--topology", "scaled").stdout
    assert "moving the data from web-01 to db-01" in output
    assert list(states(lab)) == SCALED
    kept(lab, "before scaled")
    assert lab.session().state.primary == "db-01"
    assert lab.get("/").headers["X-Read-From"] in ("db-01", "db-02")
    for machine in ("web-01", "web-02"):
        assert not active(lab, machine, "mysql")
        assert not active(lab, machine, "foobar")
    wait_until(lambda: automatic(lab), "automatic failover as in the topology")
