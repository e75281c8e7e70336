"""What roles declare when every part has machines of its own, and when it has not."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision import roles, topology
from provision.engine import Unit
from provision.lab import Lab, moved
from provision.roles import app, nginx
from provision.roles.base import Context
from provision.state import State


@pytest.fixture
def scaled(tmp_path: Path) -> Context:
    return context("scaled", tmp_path)


def context(name: str, root: Path) -> Context:
    read = topology.load(topology.find(name))
    lab = Lab("two", root, moved(read, IPv4Network("10.1.2.0/24")))
    return Context(lab, State(topology=name, provider="lxc", primary=read.primary))


def units(at: Context, machine: str) -> dict[str, Unit]:
    return {unit.name: unit for unit in roles.desired(at, at.lab.machine(machine))}


def content(unit: Unit, path: str) -> str:
    for resource in unit.resources:
        if resource.name == f"file {path}":
            return resource.expected()["content"]
    raise AssertionError(f"{unit.name} has no {path}")


def test_the_site_is_where_the_balancers_share_an_address(scaled: Context) -> None:
    assert str(scaled.lab.address) == "10.1.2.100"
    assert scaled.lab.url == "https://10.1.2.100"
    names = content(units(scaled, "lb-01")["dns"], "/etc/dnsmasq.d/lab.conf")
    assert "host-record=www.foobar.com,foobar.com,10.1.2.100\n" in names
    assert "host-record=lb-02.foobar.com,lb-02,10.1.2.20\n" in names
    hosts = content(units(scaled, "web-01")["system"], "/etc/hosts")
    assert "10.1.2.100 www.foobar.com foobar.com\n" in hosts
    assert hosts.count("www.foobar.com") == 1


def test_keepalived_knows_its_peer_and_who_is_first(scaled: Context) -> None:
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
    opened = roles.ports(scaled, scaled.lab.machine("lb-01"))
    assert [a.sources for a in opened if a.protocol == "vrrp"] == [("10.1.2.20",)]
    assert [a.sources for a in opened if a.port == 1024] == [("10.1.2.20",)]
    assert [a.sources for a in opened if a.port == 443] == [()]


def test_web_servers_ask_application_servers_over_tcp(scaled: Context) -> None:
    web, machine = units(scaled, "web-01"), scaled.lab.machine("app-01")
    assert nginx.upstreams(scaled, scaled.lab.machine("web-01")) == (
        "10.1.2.31:8000",
        "10.1.2.32:8000",
    )
    assert "server 10.1.2.32:8000 " in content(web["nginx"], nginx.SITE)
    assert {"app-gone", "release"} <= set(web)
    socket = content(units(scaled, "app-01")["app"], "/etc/systemd/system/foobar.socket")
    assert "ListenStream=10.1.2.31:8000\n" in socket
    (allow,) = app.ports(scaled, machine)
    assert (allow.port, allow.sources) == (8000, ("10.1.2.11", "10.1.2.12"))


def test_application_servers_read_from_different_databases(scaled: Context) -> None:
    found = [app.nearest(scaled, m) for m in scaled.lab.having("app")]
    assert found == [["db-01", "db-02"], ["db-02", "db-01"]]


def test_the_tables_are_made_where_writes_go(scaled: Context) -> None:
    assert {"release", "schema", "app-gone"} <= set(units(scaled, "db-01"))
    assert "schema" not in units(scaled, "db-02")
    promoted = replace(scaled, state=replace(scaled.state, primary="db-02"))
    assert "schema" in units(promoted, "db-02")


@pytest.mark.parametrize("name", ["simple", "distributed"])
def test_nothing_of_it_on_machines_that_do_everything(tmp_path: Path, name: str) -> None:
    at = context(name, tmp_path)
    web = units(at, "web-01")
    assert nginx.upstreams(at, at.lab.machine("web-01")) == ()
    assert "server unix:/run/foobar/gunicorn.sock " in content(web["nginx"], nginx.SITE)
    assert app.nearest(at, at.lab.machine("web-01"))[0] == "web-01"
    assert {"keepalived-gone", "haproxy-gone"} <= set(web)
    if name == "distributed":
        config = content(units(at, "lb-01")["haproxy"], "/etc/haproxy/haproxy.cfg")
        assert "peers" not in config
        assert {"nginx-gone", "app-gone", "mysql-gone"} <= set(units(at, "lb-01"))
