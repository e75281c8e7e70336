"""DNS on real machines: queried with dig, by the controller, and through the machines' resolver."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.services.dns import lookup
from tests.live.conftest import RunningLab, wait_until

pytestmark = pytest.mark.live


def test_dig_resolves_the_names_of_the_lab(lab: RunningLab) -> None:
    definition = lab.session().lab
    wanted = {"www.foobar.com": str(definition.address), "foobar.com": str(definition.address)}
    wanted |= {f"{m.name}.foobar.com": str(m.address) for m in definition.machines}
    for name, address in wanted.items():
        assert lab.out("web-01", "dig", "+short", name, "A").split() == [address]
    output = lab.out("web-01", "dig", "www.foobar.com")
    assert f"SERVER: {definition.with_role('dns')[0].address}#53" in output
    assert "www.foobar.com.\t" in output
    assert "\tA\t" in output


def test_the_site_has_an_a_record_and_unknown_names_get_nxdomain(lab: RunningLab) -> None:
    session = lab.session()
    assert session.provider.network_problem(session.lab) == ""
    for machine in session.lab.with_role("dns"):
        server = str(machine.address)
        reply = lookup.query(server, "www.foobar.com")
        assert [(r.kind, r.value) for r in reply.records] == [("A", str(session.lab.address))]
        assert lookup.query(server, "www.foobar.com", "CNAME").records == ()
        assert lookup.query(server, "unknown.foobar.com").code == "NXDOMAIN"
        back = (
            ".".join(reversed(str(session.lab.machines[-1].address).split("."))) + ".in-addr.arpa"
        )
        assert lookup.query(server, back, "PTR").values("PTR") == (
            f"{session.lab.machines[-1].name}.foobar.com",
        )


def test_a_machine_falls_back_to_its_original_name_server(lab: RunningLab) -> None:
    """With the lab's name server down, the original one responds."""
    server = lab.session().lab.with_role("dns")[0].name
    resolv = lab.out("web-02", "cat", "/etc/resolv.conf")
    assert str(lab.session().lab.gateway) in resolv
    lab.out(server, "systemctl", "stop", "dnsmasq")
    try:
        output = lab.run("web-02", "dig", "+time=1", "+tries=1", "localhost.")
        assert f"SERVER: {lab.session().lab.gateway}#53" in output.stdout
        result = lab.invoke("lab.check", check=False)
        assert result.returncode == 1
        assert f"dns/{server}" in result.stdout
    finally:
        lab.up()
    wait_until(lambda: lab.invoke("lab.check", check=False).returncode == 0, "all checks pass")


def test_the_trace_names_every_hop(lab: RunningLab) -> None:
    hops = lab.json("dns.trace", "/")["hops"]
    assert [hop["component"] for hop in hops] == [
        "name resolution",
        "browser",
        "balancer",
        "web server",
        "application",
        "database",
    ]
    assert all(hop["ok"] for hop in hops)
    by = {hop["component"]: hop for hop in hops}
    web = by["balancer"]["details"]["selected"].split()[0]
    assert f"web/{web} " in by["balancer"]["details"]["log"]
    assert by["web server"]["location"] == f"Nginx on {web}"
    assert "trace=" in by["web server"]["details"]["log"]
    drawn = lab.invoke("dns.trace").stdout
    assert "1  name resolution" in drawn
    assert "▼" in drawn


def test_a_trace_ends_at_the_hop_that_fails(repaired: RunningLab) -> None:
    for web in ("web-01", "web-02"):
        repaired.out(web, "systemctl", "stop", "nginx")
    result = repaired.invoke("dns.trace", check=False)
    assert result.returncode == 1
    assert "the request fails at" in result.stderr


def test_a_hosts_file(lab: RunningLab, tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost\n")
    lines = lab.invoke("dns.hosts").stdout.splitlines()
    lab.invoke("dns.hosts", "--write", "--file", str(path))
    assert set(lines) < set(path.read_text().splitlines())
    lab.invoke("dns.hosts", "--remove", "--file", str(path))
    assert path.read_text() == "127.0.0.1 localhost\n"
    refused = lab.invoke("dns.hosts", "--write", "--file", str(tmp_path / "none"), check=False)
    assert refused.returncode == 1
    assert refused.stderr.count("error:") == 1


@pytest.mark.parametrize("path", ["notes", "/a b", "/\n"])
def test_an_invalid_path_is_refused(lab: RunningLab, path: str) -> None:
    result = lab.invoke("dns.trace", path, check=False)
    assert result.returncode == 2
    assert "invalid path" in result.stderr
