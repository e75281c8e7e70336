"""What roles declare in topologies with separate machines per tier, and without."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision import checks, registry, topology
from provision.checks.tls import server_handshake, verified_servers
from provision.core.lab import Lab, rebase
from provision.core.state import State
from provision.database.failover import feature as autopromote
from provision.engine.agent.protocol import HttpRequest
from provision.engine.context import Context
from provision.engine.plan import Unit
from provision.monitoring import exporters
from provision.monitoring import role as monitoring
from provision.monitoring.scrape import jobs
from provision.services.app import role as app
from provision.services.keepalived import role as keepalived
from provision.services.nginx import role as nginx
from provision.services.tls import feature as tls
from provision.services.tls import interface


@pytest.fixture
def scaled(tmp_path: Path) -> Context:
    return context("scaled", tmp_path)


def context(name: str, root: Path) -> Context:
    read = topology.load(topology.find(name))
    lab = Lab("two", root, rebase(read, IPv4Network("10.1.2.0/24")))
    return registry.context(lab, State(topology=name, provider="lxc", primary=read.primary))


def units(at: Context, machine: str) -> dict[str, Unit]:
    return {unit.name: unit for unit in at.desired(at.lab.machine(machine))}


def content(unit: Unit, path: str) -> str:
    for resource in unit.resources:
        if resource.name == f"file {path}":
            return resource.expected()["content"]
    raise AssertionError(f"{unit.name} has no {path}")


def test_the_site_has_the_virtual_address(scaled: Context) -> None:
    assert str(scaled.lab.address) == "10.1.2.100"
    assert scaled.lab.url == "https://10.1.2.100"
    names = content(units(scaled, "lb-01")["dns"], "/etc/dnsmasq.d/lab.conf")
    assert "host-record=www.foobar.com,foobar.com,10.1.2.100\n" in names
    assert "host-record=lb-02.foobar.com,lb-02,10.1.2.20\n" in names
    hosts = content(units(scaled, "web-01")["system"], "/etc/hosts")
    assert "10.1.2.100 www.foobar.com foobar.com\n" in hosts
    assert hosts.count("www.foobar.com") == 1


def test_keepalived_is_configured_with_peers_and_priorities(scaled: Context) -> None:
    first = content(units(scaled, "lb-01")["keepalived"], "/etc/keepalived/keepalived.conf")
    second = content(units(scaled, "lb-02")["keepalived"], "/etc/keepalived/keepalived.conf")
    assert "unicast_src_ip 10.1.2.10\n" in first
    assert "        10.1.2.20\n" in first
    assert "priority 150\n" in first
    assert "priority 140\n" in second
    for text in (first, second):
        assert "nopreempt\n" in text
        assert "10.1.2.100/32 dev eth0\n" in text
    vagrant = replace(scaled, state=replace(scaled.state, provider="vagrant"))
    text = content(units(vagrant, "lb-01")["keepalived"], "/etc/keepalived/keepalived.conf")
    assert "dev eth1\n" in text


def test_vrrp_and_the_stick_tables_pass_the_firewall_between_balancers(scaled: Context) -> None:
    opened = scaled.ports(scaled.lab.machine("lb-01"))
    assert [a.sources for a in opened if a.protocol == "vrrp"] == [("10.1.2.20",)]
    assert [a.sources for a in opened if a.port == 1024] == [("10.1.2.20",)]
    assert [a.sources for a in opened if a.port == 443] == [()]


def test_web_servers_connect_to_application_servers_over_tcp(scaled: Context) -> None:
    web, machine = units(scaled, "web-01"), scaled.lab.machine("app-01")
    assert nginx.upstreams(scaled, scaled.lab.machine("web-01")) == (
        nginx.Server("10.1.2.31"),
        nginx.Server("10.1.2.32", backup=True),
    )
    site = content(web["nginx"], nginx.SITE)
    for port in (8000, 8001):
        assert f"server 10.1.2.32:{port} max_fails=2 fail_timeout=1s backup;" in site
    assert {"app-gone", "release"} <= set(web)
    socket = content(units(scaled, "app-01")["app"], "/etc/systemd/system/foobar.socket")
    assert "ListenStream=10.1.2.31:8000\n" in socket
    opened = app.ports(scaled, machine)
    assert [a.port for a in opened] == [8000, 8001]
    assert {a.sources for a in opened} == {("10.1.2.11", "10.1.2.12")}


def test_application_servers_read_from_different_databases(scaled: Context) -> None:
    orders = [app.read_order(scaled, m) for m in scaled.lab.with_role("app")]
    assert orders == [["db-01", "db-02"], ["db-02", "db-01"]]


def test_migrations_run_on_the_primary(scaled: Context) -> None:
    assert {"release", "schema", "app-gone"} <= set(units(scaled, "db-01"))
    assert "schema" not in units(scaled, "db-02")
    promoted = replace(scaled, state=replace(scaled.state, primary="db-02"))
    assert "schema" in units(promoted, "db-02")


def test_a_replica_has_the_migrations_that_it_needs_as_primary(scaled: Context) -> None:
    promoted = replace(scaled, state=replace(scaled.state, primary="db-02"))
    for name in ("db-01", "db-02"):
        before, after = units(scaled, name)["release"], units(promoted, name)["release"]
        assert [r.name for r in before.resources] == [r.name for r in after.resources]
        assert any(r.name.startswith("tree ") for r in before.resources)


@pytest.mark.parametrize("name", ["simple", "distributed"])
def test_machines_with_all_roles_use_local_sockets(tmp_path: Path, name: str) -> None:
    at = context(name, tmp_path)
    web = units(at, "web-01")
    assert nginx.upstreams(at, at.lab.machine("web-01")) == ()
    assert "server unix:/run/foobar/gunicorn.sock " in content(web["nginx"], nginx.SITE)
    assert app.read_order(at, at.lab.machine("web-01"))[0] == "web-01"
    assert {"keepalived-gone", "haproxy-gone"} <= set(web)
    if name == "distributed":
        config = content(units(at, "lb-01")["haproxy"], "/etc/haproxy/haproxy.cfg")
        assert "peers" not in config
        assert {"nginx-gone", "app-gone", "mysql-gone"} <= set(units(at, "lb-01"))


def test_every_balancer_has_the_virtual_address_and_hands_it_over(
    scaled: Context,
) -> None:
    of = units(scaled, "lb-02")
    service = keepalived.ADDRESS_SERVICE
    address = content(of["virtual-address"], f"/etc/systemd/system/{service}")
    assert "address replace 10.1.2.100/32 dev lo\n" in address
    script = content(of["keepalived"], keepalived.HANDOVER)
    assert "address=10.1.2.100\n" in script
    assert "peers=(10.1.2.10)\n" in script
    assert f"{keepalived.HANDOVER} begin" in content(of["keepalived"], keepalived.HAPROXY_DROP_IN)
    config = content(of["haproxy"], "/etc/haproxy/haproxy.cfg")
    assert "set-header Connection close if { str(yes) -m str -f virt@leaving }\n" in config
    gone = {resource.name for resource in units(scaled, "web-01")["keepalived-gone"].resources}
    assert f"no service {keepalived.ADDRESS_SERVICE}" in gone


def test_serving_balancers_apply_a_change_one_after_the_other(scaled: Context) -> None:
    rolling = replace(scaled, rolling=True)
    assert "lb-01/haproxy" not in units(rolling, "lb-01")["haproxy"].needs
    assert "lb-01/haproxy" in units(rolling, "lb-02")["haproxy"].needs
    assert units(scaled, "lb-02")["haproxy"].needs == ()
    assert set(units(rolling, "web-01")["nginx"].needs) == {"app-01/app", "app-02/app"}


def test_connections_to_the_application_use_verified_tls(scaled: Context) -> None:
    site = content(units(scaled, "web-01")["nginx"], nginx.SITE)
    assert "proxy_pass https://app;" in site
    assert "proxy_ssl_verify on;" in site
    assert "proxy_ssl_name app.foobar.com;" in site
    of = units(scaled, "app-01")
    service = content(of["app"], "/etc/systemd/system/foobar.service")
    assert f"LoadCredential=site.pem:{interface.BUNDLE}\n" in service
    assert "--certfile %d/site.pem" in service
    readiness = of["app"].readiness
    assert readiness is not None
    assert readiness.http == HttpRequest(
        "/version", address="10.1.2.31", port=8000, ca=interface.CA
    )
    renew = content(of["tls-renewal"], tls.PROGRAM)
    assert "systemctl restart foobar.service" in renew


def test_without_https_gunicorn_uses_plain_http(scaled: Context) -> None:
    plain = replace(
        scaled, lab=replace(scaled.lab, topology=replace(scaled.lab.topology, https=False))
    )
    assert "proxy_pass http://app;" in content(units(plain, "web-01")["nginx"], nginx.SITE)
    service = content(units(plain, "app-01")["app"], "/etc/systemd/system/foobar.service")
    assert "certfile" not in service


def test_which_machine_verifies_which_certificate(scaled: Context) -> None:
    servers = verified_servers(scaled)
    names = {client: [m.name for m in machines] for client, machines in servers.items()}
    assert names == {"lb-01": ["web-01", "web-02"], "web-01": ["app-01", "app-02"]}
    probe = server_handshake(scaled, scaled.lab.machine("app-01"))
    assert (probe.args["server_name"], probe.args["port"]) == ("app.foobar.com", 8000)


def test_every_balancer_serves_the_monitoring_page(scaled: Context) -> None:
    lab = scaled.lab
    assert monitoring.page_address(lab, lab.machine("lb-01")) == "10.1.2.10"
    for name in ("lb-01", "lb-02"):
        config = content(units(scaled, name)["haproxy"], "/etc/haproxy/haproxy.cfg")
        assert "    server lb-01 10.1.2.10:9000\n" in config
    (page,) = [a for a in monitoring.ports(scaled, lab.machine("lb-01")) if a.port == 9000]
    assert page.sources == ("10.1.2.20",)
    for machine in lab.machines:
        for allow in exporters.ports(scaled, machine):
            assert allow.sources == ("10.1.2.10",)
    assert len([t for job in jobs(lab) for t in job.targets]) == 14


def test_an_alert_mirrors_the_check_of_the_virtual_address(scaled: Context) -> None:
    rules = monitoring.rules(scaled, scaled.lab.machine("lb-01"))
    assert "alert: VirtualAddressMisassigned" in rules
    assert 'node_network_address_info{address="10.1.2.100", device="eth0"}' in rules
    names = {check.name for check in checks.checks(scaled)}
    assert "virtual-address" in names
    command = exporters.command(scaled, scaled.lab.machine("lb-02"), "node", 9100)
    assert "--collector.netdev.address-info" in command
    assert '"balancer/{{ $labels.balancer }}/{{ $labels.server }}"' in rules


def test_automatic_failover_is_a_key_of_the_topology(scaled: Context) -> None:
    assert scaled.lab.topology.autopromote
    on = replace(scaled, state=replace(scaled.state, autopromote=True))
    assert [m.name for m in autopromote.members(on.lab)] == ["lb-01", "db-01", "db-02"]
    assert "autopromote" in units(on, "lb-01")
    assert "autopromote-gone" in units(on, "lb-02")


def test_automatic_failover_is_removed_where_there_are_not_three_voters(tmp_path: Path) -> None:
    simple = context("simple", tmp_path)
    on = replace(simple, state=replace(simple.state, autopromote=True))
    assert "autopromote-gone" in units(on, "web-01")
