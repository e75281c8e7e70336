"""The shared address of two balancers, and the design that has every part twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from provision.ops.observe import request
from tests.live.conftest import PREFIX, RunningLab, wait_until

pytestmark = pytest.mark.live

PAIR = """
domain: foobar.com
network: 192.168.56.0/24
virtual_address: 192.168.56.100
primary: web-01
machines:
  lb-01: {address: 192.168.56.10, roles: [haproxy, keepalived, dns]}
  lb-02: {address: 192.168.56.20, roles: [haproxy, keepalived, dns]}
  web-01: {address: 192.168.56.11, roles: [nginx, app, mysql]}
"""


def holders(lab: RunningLab) -> list[str]:
    """Which balancers have the shared address."""
    now = lab.session().lab
    argv = ("ip", "-4", "-oneline", "address", "show", "to", str(now.address))
    return [m.name for m in now.having("keepalived") if lab.out(m.name, *argv).strip()]


@contextmanager
def stream(lab: RunningLab, seconds: float) -> Iterator[Future[tuple[float, int, set[str]]]]:
    """Requests to the shared address meanwhile: longest time without one, failed, who answered."""
    now = lab.session().lab

    def ask() -> tuple[float, int, set[str]]:
        end = time.monotonic() + seconds
        last, gap, failed, names = time.monotonic(), 0.0, 0, set()
        while time.monotonic() < end:
            page = request(now, "/static/foobar.css", timeout=0.5)
            if page.status == 200:
                gap, last = max(gap, time.monotonic() - last), time.monotonic()
                names.add(page.header("x-balanced-by"))
            else:
                failed += 1
            time.sleep(0.01)
        return max(gap, time.monotonic() - last), failed, names

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(ask)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    path: Path = tmp_path_factory.mktemp("pair") / "pair.yml"
    path.write_text(PAIR)
    lab = RunningLab(PREFIX + "pair")
    lab.up("--topology", str(path))
    yield lab
    lab.destroy()


@pytest.mark.parametrize(
    "fault", ["kill -9 of HAProxy", "stop of HAProxy", "loss of power", "stop of keepalived"]
)
def test_the_address_moves_within_a_second_and_has_one_holder(pair: RunningLab, fault: str) -> None:
    (before,) = holders(pair)
    host = pair.session()
    with stream(pair, 5) as asked:
        time.sleep(0.5)
        if fault == "loss of power":
            host.provider.kill(host.lab, before)
        elif fault == "stop of keepalived":
            pair.out(before, "systemctl", "stop", "keepalived")
        elif fault == "stop of HAProxy":
            pair.out(before, "systemctl", "stop", "haproxy")
        else:
            pair.out(before, "systemctl", "kill", "--signal=KILL", "haproxy")
            pair.out(before, "systemctl", "stop", "haproxy")
        gap, failed, names = asked.result()
    try:
        # The client itself gives up after half a second, which is a part of this.
        assert gap <= 1.2, (gap, failed)
        assert len(names) == 2
    finally:
        if fault == "loss of power":
            pair.invoke("lab.start", before)
        else:
            pair.out(before, "systemctl", "start", fault.split()[-1].lower())
    wait_until(lambda: len(holders(pair)) == 1, "one balancer has the address")
    time.sleep(2)  # longer than any election: whoever came back must not take it
    (after,) = holders(pair)
    assert after != before
    wait_until(lambda: pair.invoke("lab.check", check=False).returncode == 0, "all checks pass")


def test_a_cut_network_makes_two_holders_and_healing_leaves_one(pair: RunningLab) -> None:
    """VRRP cannot tell a dead neighbour from a cut line; it can end the quarrel."""
    (before,) = holders(pair)
    (other,) = {"lb-01", "lb-02"} - {before}
    drop = "add table inet cut; add chain inet cut in { type filter hook input priority -9; }; "
    drop += "add rule inet cut in ip protocol vrrp drop"
    pair.out(other, "nft", drop)
    try:
        wait_until(lambda: len(holders(pair)) == 2, "both have it while they cannot hear", 10)
        done = pair.invoke("lab.check", check=False)
        assert "virtual-address" in done.stdout
        assert done.returncode == 1
    finally:
        pair.out(other, "nft", "delete table inet cut")
    wait_until(lambda: len(holders(pair)) == 1, "one has it once the network is whole", 5)


def test_both_balancers_know_what_one_has_counted(pair: RunningLab) -> None:
    pair.get("/")
    client = str(pair.session().lab.gateway)

    def counted(machine: str) -> bool:
        argv = ("socat", "-", "/run/haproxy/admin.sock")
        return f"key={client}" in pair.out(machine, *argv, input="show table visitors\n")

    for machine in ("lb-01", "lb-02"):
        wait_until(lambda m=machine: counted(m), f"{machine} knows the visitor")  # type: ignore[misc]


def test_scaled_from_nothing(other_lab: Callable[[str], RunningLab]) -> None:
    lab = other_lab("scaled")
    lab.up("--topology", "scaled")
    said = lab.up().stdout
    assert said.count(" 0 changed") == 8, said
    rows = []
    for component in ("haproxy", "app"):
        rows += json.loads(lab.invoke("lab.spof", component, "--json").stdout)
    assert len(rows) == 4
    assert [row["lost"] for row in rows] == [[], [], [], []]
    found = json.loads(lab.invoke("lab.status", "--json").stdout)
    assert found["site"].startswith(f"https://{lab.session().lab.address}")
    hops = json.loads(lab.invoke("dns.trace", "--json").stdout)
    machines = [hop["where"].split()[-1] for hop in hops if hop["what"] == "application"]
    assert machines[0] in ("app-01", "app-02")
