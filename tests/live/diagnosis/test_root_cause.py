"""One fault, one root cause: the right machine and service, in bounded time, with its fix."""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from provision.core.lab import ROOT
from provision.providers.lxc.paths import LabPaths
from tests.live.conftest import RunningLab, wait_until
from tests.live.diagnosis.conftest import (
    CHECK_SECONDS,
    Diagnosis,
    assert_healthy,
    assert_repaired_by,
    diagnose,
)


def run_next(lab: RunningLab, entry: dict[str, str]) -> None:
    """Run the command that a check suggests."""
    words = [word for word in shlex.split(entry["next"]) if word not in ("--lab", lab.name)]
    assert words[0] == "invoke"
    lab.invoke(*words[1:])


def wait_until_healthy(lab: RunningLab) -> None:
    """Health checks and replication need a moment after a repair."""
    wait_until(lambda: diagnose(lab).ok, "all checks to pass", 30)


@dataclass(frozen=True)
class ServiceFault:
    """A command on a machine that breaks one service, and the check that must name it."""

    machine: str
    service: str
    command: str
    check: str
    text: str

    def __str__(self) -> str:
        return f"{self.machine}: {self.command}"


STOPPED = [
    ServiceFault("web-01", "nginx", "systemctl stop nginx", "service/", "nginx is stopped"),
    ServiceFault("web-01", "mysql", "systemctl stop mysql", "service/", "mysql is stopped"),
    ServiceFault(
        "web-02", "mysql", "systemctl kill -s KILL mysql; systemctl stop mysql", "service/", ""
    ),
    ServiceFault("web-02", "foobar", "systemctl stop foobar.socket foobar", "", ""),
    ServiceFault("lb-01", "haproxy", "systemctl stop haproxy", "service/", "haproxy is stopped"),
    ServiceFault("lb-01", "dnsmasq", "systemctl stop dnsmasq", "service/", "dnsmasq is stopped"),
    ServiceFault("web-02", "nginx", "systemctl disable nginx", "", ""),
]


@pytest.mark.parametrize("fault", STOPPED, ids=str)
def test_a_stopped_service_is_the_only_root_cause(
    repaired: RunningLab, fault: ServiceFault
) -> None:
    repaired.out(fault.machine, "sh", "-c", fault.command)
    time.sleep(1.5)  # HAProxy has noticed
    entry = diagnose(repaired).assert_one_cause(fault.machine, fault.service, fault.check)
    assert fault.text in entry["root_cause"]
    printed = repaired.invoke("lab.check", check=False).stdout.splitlines()
    assert printed[-2].startswith(f"root cause: {fault.machine}: "), printed[-3:]
    assert printed[-1].startswith("next: invoke "), printed[-3:]
    assert_repaired_by(repaired, "lab.up")


SUSPENDED = [
    ServiceFault("web-02", "foobar", "pkill -STOP gunicorn", "service/", "foobar is suspended"),
    ServiceFault("web-01", "mysql", "pkill -STOP mysqld", "service/", "mysql is suspended"),
    ServiceFault("lb-01", "haproxy", "pkill -STOP haproxy", "service/", "haproxy is suspended"),
    ServiceFault("web-02", "nginx", "pkill -STOP -n nginx", "service/", "nginx is suspended"),
    ServiceFault("lb-01", "dnsmasq", "pkill -STOP dnsmasq", "service/", "dnsmasq is suspended"),
    ServiceFault(
        *("web-01", "systemd-journald", "pkill -STOP systemd-journal", "service/", "is suspended")
    ),
]


@pytest.mark.parametrize("fault", SUSPENDED, ids=str)
def test_a_suspended_process_is_detected_in_time_and_resumed_by_the_suggested_command(
    repaired: RunningLab, fault: ServiceFault
) -> None:
    repaired.out(fault.machine, "sh", "-c", fault.command)
    time.sleep(1.5)
    entry = diagnose(repaired).assert_one_cause(fault.machine, fault.service, fault.check)
    assert fault.text in entry["root_cause"]
    run_next(repaired, entry)
    wait_until_healthy(repaired)


HUNG = [
    ServiceFault("lb-01", "haproxy", "haproxy", "answer/", "haproxy does not answer"),
    ServiceFault("web-02", "mysql", "mysqld", "", "MySQL does not accept connections"),
]

ATTACH = """
import ctypes, os, sys, time
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
for pid in filter(str.isdigit, os.listdir("/proc")):
    with open(f"/proc/{pid}/comm") as file:
        if file.read().strip() == sys.argv[1]:
            for thread in os.listdir(f"/proc/{pid}/task"):
                assert ptrace(16, int(thread), None, None) == 0, ctypes.get_errno()
time.sleep(45)
"""
"""Stops all threads of a program as a debugger does (ptrace(2), PTRACE_ATTACH), until it exits."""


@pytest.mark.parametrize("fault", HUNG, ids=str)
def test_a_hung_process_is_detected_in_time_and_repaired_by_the_suggested_command(
    repaired: RunningLab, fault: ServiceFault
) -> None:
    """As one that waits for something that never happens; its `command` is the program."""
    unit = ("systemd-run", "--quiet", "--collect", "--unit=attached")
    repaired.out(fault.machine, *unit, "python3", "-c", ATTACH, fault.command)
    time.sleep(2)
    try:
        entry = diagnose(repaired).assert_one_cause(fault.machine, fault.service, fault.check)
        assert fault.text in entry["root_cause"]
        run_next(repaired, entry)
        wait_until_healthy(repaired)
    finally:
        repaired.run(fault.machine, "systemctl", "stop", "attached")


# --- machines ------------------------------------------------------------------------------------


def test_a_frozen_machine(repaired: RunningLab) -> None:
    folder = str(LabPaths.of(repaired.session().lab).directory)
    subprocess.run(["lxc-freeze", "-P", folder, "-n", "web-02"], check=True)
    entry = diagnose(repaired).assert_one_cause("web-02", "ssh", "machine/web-02")
    assert "frozen" in entry["root_cause"]
    assert_repaired_by(repaired, "lab.up")


@contextmanager
def without_ssh(lab: RunningLab, machine: str, seconds: int = 25) -> Iterator[None]:
    """Drop the machine's packets to the controller until a timer on the machine ends that."""
    route = f"blackhole {lab.session().lab.gateway}/32"
    script = f"sleep 1; ip route add {route}; sleep {seconds}; ip route del {route}"
    lab.out(machine, "systemd-run", "--no-block", "sh", "-c", script)
    time.sleep(2)
    yield
    wait_until(
        lambda: lab.invoke("lab.ssh", machine, "--", "true", check=False).returncode == 0,
        "SSH",
        60,
    )


def test_a_machine_that_does_not_respond_to_ssh(repaired: RunningLab) -> None:
    with without_ssh(repaired, "web-02"):
        diagnose(repaired).assert_one_cause("web-02", "ssh", "machine/web-02")
        started = time.monotonic()
        done = repaired.invoke("lab.ssh", "web-02", "--", "true", check=False)
        assert done.returncode != 0
        assert time.monotonic() - started < CHECK_SECONDS
    wait_until_healthy(repaired)


# --- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("thief", "owner"), [("web-02", "web-01"), ("lb-01", "web-02")])
def test_a_machine_with_the_address_of_another(
    repaired: RunningLab, thief: str, owner: str
) -> None:
    address = repaired.session().lab.machine(owner).address
    interface = repaired.out(
        thief, "sh", "-c", "ip -o -4 route show default | cut -d' ' -f5"
    ).strip()
    repaired.out(thief, "ip", "address", "add", f"{address}/24", "dev", interface)
    entry = diagnose(repaired).assert_one_cause(thief, "network")
    if entry["check"].startswith("address/"):
        assert owner in entry["root_cause"]
    run_next(repaired, entry) if entry["check"].startswith("address/") else repaired.up()
    wait_until_healthy(repaired)


def test_an_unknown_device_with_the_address_of_a_machine(repaired: RunningLab) -> None:
    address = repaired.session().lab.machine("web-02").address
    interface = repaired.out(
        "lb-01", "sh", "-c", "ip -o -4 route show default | cut -d' ' -f5"
    ).strip()
    script = (
        f"ip netns add other && ip link add link {interface} name other0 type macvlan mode bridge"
        f" && ip link set other0 netns other && ip -n other address add {address}/24 dev other0"
        " && ip -n other link set other0 up"
    )
    repaired.out("lb-01", "sh", "-c", script)
    try:
        diagnosis = diagnose(repaired)
        entry = diagnosis.results["address/web-02"]
        assert entry["status"] == "failed", diagnosis.text()
        assert "another device" in entry["root_cause"]
    finally:
        repaired.run("lb-01", "ip", "netns", "delete", "other")
    wait_until_healthy(repaired)


# --- distribution of requests --------------------------------------------------------------------


@contextmanager
def visitors(lab: RunningLab, rate: float = 80.0, threads: int = 4) -> Iterator[None]:
    """Requests to the site while the body runs."""
    stop = threading.Event()
    lab.url  # noqa: B018 - refuses when the lab's network is not up

    def visit() -> None:
        while not stop.wait(threads / rate):
            lab.get("/")

    workers = [threading.Thread(target=visit, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join(15)


def test_other_visitors_do_not_fail_the_checks(lab: RunningLab) -> None:
    with visitors(lab):
        for _ in range(5):
            assert_healthy(lab)


UNEQUAL = [
    "sed -i 's/balance roundrobin/balance source/' /etc/haproxy/haproxy.cfg"
    " && systemctl reload haproxy",
    "sed -i 's/\\(server web-01 .*\\)weight 1/\\1weight 9/' /etc/haproxy/haproxy.cfg"
    " && systemctl reload haproxy",
    "sed -i 's/^backend web$/&\\n    use-server web-02 if TRUE/' /etc/haproxy/haproxy.cfg"
    " && systemctl reload haproxy",
    "echo 'set server web/web-01 weight 9' | socat - /run/haproxy/admin.sock",
    "echo 'set server web/web-01 state maint' | socat - /run/haproxy/admin.sock",
]


@pytest.mark.parametrize("command", UNEQUAL)
def test_requests_that_are_distributed_otherwise(repaired: RunningLab, command: str) -> None:
    repaired.out("lb-01", "sh", "-c", command)
    time.sleep(1)
    with visitors(repaired, rate=20):
        found: Diagnosis = diagnose(repaired)
    found.assert_one_cause("lb-01", "haproxy")
    assert found.results["round-robin"]["status"] != "ok" or "weight" in command, found.text()
    assert_repaired_by(repaired, "lab.up")


# --- every path ----------------------------------------------------------------------------------


def test_doctor_stops_each_path_at_its_first_hop_that_fails(repaired: RunningLab) -> None:
    healthy = repaired.invoke("lab.doctor").stdout
    assert "4 of 4 paths reach the database" in healthy
    repaired.out("web-01", "systemctl", "stop", "nginx")
    stopped = repaired.invoke("lab.doctor", check=False)
    assert stopped.returncode == 1
    assert "2 of 4 paths reach the database" in stopped.stdout
    assert stopped.stdout.count("stops at  lb-01 → nginx on web-01") == 2
    repaired.out("web-02", "systemctl", "stop", "mysql")
    more = repaired.invoke("lab.doctor", check=False).stdout
    assert "1 of 4 paths reach the database" in more
    assert more.count("stops at  web-02 → mysql on web-02") == 1
    assert str(ROOT) not in more
