"""Faults of copies, ceilings, services over time and units: each has one root cause and a fix.

Nothing fills the host's disk: file systems that run full are small tmpfs mounts.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass

import pytest

from tests.live.conftest import RunningLab, wait_until
from tests.live.diagnosis.conftest import (
    Diagnosis,
    assert_healthy,
    assert_repaired_by,
    broken,
    diagnose,
)

CSS = "/srv/foobar/current/foobar/static/foobar.css"
SITE = "/etc/nginx/sites-available/www"
TIMER = "lab-mysql-backup.timer"

UP = ("lab.up",)


@dataclass(frozen=True)
class Fault:
    """A fault that stays until something repairs it.

    Args:
        command: shell, on the machine.
        check: that reports it.
        fix: the task that repairs it; empty: the check's suggested command.
        undo: shell, if no task can repair the fault.
    """

    machine: str
    service: str
    check: str
    command: str
    fix: tuple[str, ...] = UP
    undo: str = ""


def assert_fault(lab: RunningLab, fault: Fault) -> None:
    """The fault is detected as one root cause on its machine, and repaired."""
    with broken(lab, fault.machine, fault.command, fault.undo) as diagnosis:
        entry = diagnosis.assert_one_cause(fault.machine, fault.service)
        reported = diagnosis.results[fault.check]
        assert reported["status"] in ("failed", "skipped"), diagnosis.text()
    if fault.undo:
        assert_healthy(lab)
    else:
        assert_repaired_by(lab, *(fault.fix or task(entry["next"])))


def task(command: str) -> tuple[str, ...]:
    """The words of a suggested command without ``invoke`` and its lab."""
    words = shlex.split(command)[1:]
    at = words.index("--lab")
    return tuple(words[:at] + words[at + 2 :])


COPIES = {
    "empty static file": Fault("web-02", "foobar", "static/web-02", f"cp /dev/null {CSS}"),
    "another release": Fault(
        "web-02",
        "foobar",
        "release/web-02",
        "cd /srv/foobar && cp -a releases/1.0.0 releases/9.9.9"
        " && echo 9.9.9 > releases/9.9.9/VERSION"
        " && ln -sfn releases/9.9.9 current && systemctl restart foobar",
    ),
    "X-Served-By of another server": Fault(
        "web-02",
        "nginx",
        "content/web-02",
        f"sed -i 's/X-Served-By web-02/X-Served-By web-01/' {SITE} && systemctl reload nginx",
    ),
    "empty error page": Fault(
        "web-01", "nginx", "content/web-01", "cp /dev/null /srv/foobar/errors/404.html"
    ),
    "other code in the process": Fault(
        "web-02",
        "foobar",
        "release/web-02",
        "cd /srv/foobar/current/foobar && cp -p notes.py /tmp/notes.py && echo '# x' >> notes.py"
        " && systemctl restart foobar && sleep 5 && cp -p /tmp/notes.py notes.py",
        fix=(),
    ),
}


@pytest.mark.parametrize("name", COPIES)
def test_every_copy_is_queried(repaired: RunningLab, name: str) -> None:
    assert_fault(repaired, COPIES[name])


SMALL = "/var/lib/lab-test"
HOLD = """
import selectors, socket, time
held = selectors.DefaultSelector()
def connect(source):
    client = socket.create_connection(("127.0.0.1", 80), source_address=(source, 0))
    held.register(client, selectors.EVENT_READ, source)
for number in range(3900):  # the balancer accepts at most 1000 from one address
    connect(f"127.0.1.{1 + number % 5}")
deadline = time.monotonic() + 120
while time.monotonic() < deadline:
    for key, _ in held.select(1):  # closed, because no request came in time
        held.unregister(key.fileobj)
        key.fileobj.close()
        connect(key.data)
    time.sleep(0.1)
"""
CONNECTIONS = """
import pymysql, time
held = []
try:
    while len(held) < 500:
        held.append(pymysql.connect(unix_socket="/run/mysqld/mysqld.sock", user="root"))
except pymysql.Error:
    held.pop()
time.sleep(120)
"""


def in_background(program: str) -> str:
    """Shell that runs Python in the background; `END` ends it."""
    quoted = shlex.quote(program)
    return (
        f"ulimit -n 8192; nohup python3 -c {quoted} >/dev/null 2>&1 & echo $! > /tmp/held; sleep 3"
    )


END = "kill $(cat /tmp/held); rm /tmp/held; sleep 1"

CEILINGS = {
    "full file system": Fault(
        "web-01",
        "disk",
        "disk/web-01",
        f"mkdir -p {SMALL} && mount -t tmpfs -o size=1m tmpfs {SMALL}"
        f" && head -c 1000000 /dev/zero > {SMALL}/x; head -c 99999 /dev/zero >> {SMALL}/x || true",
        undo=f"umount {SMALL} && rmdir {SMALL}",
    ),
    "no inodes": Fault(
        "web-02",
        "disk",
        "inodes/web-02",
        f"mkdir -p {SMALL} && mount -t tmpfs -o size=1m,nr_inodes=20 tmpfs {SMALL}"
        f" && for i in $(seq 19); do touch {SMALL}/$i; done",
        undo=f"umount {SMALL} && rmdir {SMALL}",
    ),
    "file descriptors of Nginx": Fault(
        "web-02",
        "nginx",
        "ceiling/web-02/nginx",
        "sed -i 's/^worker_rlimit_nofile .*/worker_rlimit_nofile 15;/' /etc/nginx/nginx.conf"
        " && systemctl restart nginx",
    ),
    "connections of MySQL": Fault(
        "web-01", "mysql", "ceiling/web-01/mysql", in_background(CONNECTIONS), undo=END
    ),
    "slots of HAProxy": Fault(
        "lb-01", "haproxy", "ceiling/lb-01/haproxy", in_background(HOLD), undo=END
    ),
    "ephemeral ports": Fault(
        "web-02",
        "network",
        "ports/web-02",
        "sysctl -qw net.ipv4.ip_local_port_range='40000 40010'",
        undo="sysctl -qw net.ipv4.ip_local_port_range='32768 60999'",
    ),
}


@pytest.mark.parametrize("name", CEILINGS)
def test_resources_before_they_run_out(repaired: RunningLab, name: str) -> None:
    assert_fault(repaired, CEILINGS[name])


UNITS = {
    "stopped timer": Fault("web-02", TIMER, f"service/web-02/{TIMER}", f"systemctl stop {TIMER}"),
    "disabled timer": Fault(
        "web-01", TIMER, f"service/web-01/{TIMER}", f"systemctl disable {TIMER}"
    ),
    "masked timer": Fault(
        "web-01",
        TIMER,
        f"service/web-01/{TIMER}",
        f"systemctl mask --runtime --now {TIMER}",
    ),
    "stopped socket": Fault(
        "web-02", "foobar", "service/web-02/foobar.socket", "systemctl stop foobar.socket"
    ),
    "failed unit": Fault(
        "lb-01",
        "system",
        "units/lb-01",
        "systemd-run --quiet --unit=lab-test-broken false; sleep 1",
        fix=(),
    ),
    "stopped journal": Fault(
        "web-01",
        "systemd-journald",
        "service/web-01/systemd-journald",
        "systemctl stop systemd-journald.socket systemd-journald-dev-log.socket"
        " systemd-journald.service",
    ),
    "journal that hangs": Fault(
        "web-02",
        "systemd-journald",
        "journal/web-02",
        "kill -STOP $(pidof systemd-journald)",
        fix=(),
    ),
}


@pytest.mark.parametrize("name", UNITS)
def test_every_enabled_unit_counts(repaired: RunningLab, name: str) -> None:
    assert_fault(repaired, UNITS[name])


def test_status_shows_masked_units(repaired: RunningLab) -> None:
    """The unit file of a package: a runtime mask has no effect on one in /etc (systemd.unit(5))."""
    repaired.out("web-01", "systemctl", "mask", "--runtime", "--now", "nginx")
    assert "nginx:masked" in "".join(repaired.invoke("lab.status").stdout.split())


# --- over time -----------------------------------------------------------------------------------

LOOP = "nohup sh -c 'while :; do {}; done' >/dev/null 2>&1 & echo $! > /tmp/loop"
END_LOOP = "kill $(cat /tmp/loop); rm /tmp/loop"


@pytest.mark.parametrize(
    ("machine", "service", "process"),
    [
        ("web-01", "nginx", "nginx"),
        ("web-02", "foobar", "gunicorn"),
        ("lb-01", "dnsmasq", "dnsmasq"),
    ],
)
def test_service_that_restarts_again_and_again(
    repaired: RunningLab, machine: str, service: str, process: str
) -> None:
    kill = f"pkill -9 -o -x {process}; sleep 2"
    repaired.out(machine, "sh", "-c", LOOP.format(kill))
    try:
        time.sleep(9)
        diagnosis = diagnose(repaired)
        diagnosis.assert_one_cause(machine, service)
    finally:
        repaired.run(machine, "sh", "-c", END_LOOP)
    assert_repaired_by(repaired, "lab.up")


def test_one_automatic_restart_is_a_warning(repaired: RunningLab) -> None:
    repaired.out("web-01", "pkill", "-9", "-o", "-x", "nginx")
    wait_until(lambda: diagnose(repaired).ok, "nginx to run again")
    assert "restarts/web-01/nginx" in diagnose(repaired).warnings


def test_flapping_backend(repaired: RunningLab) -> None:
    stop = "pkill -STOP -x gunicorn; sleep 2; pkill -CONT -x gunicorn; sleep 2"
    repaired.out("web-02", "sh", "-c", LOOP.format(stop))
    try:
        time.sleep(18)
        diagnosis = diagnose(repaired)
        diagnosis.assert_one_cause("web-02", "foobar")
    finally:
        repaired.run("web-02", "sh", "-c", f"{END_LOOP}; pkill -CONT -x gunicorn")
    assert_repaired_by(repaired, "lab.up")


def test_old_backup(repaired: RunningLab) -> None:
    make = "systemctl start lab-mysql-backup && touch -d '3 days ago' /var/backups/lab-mysql/*.tar"
    repaired.out("web-02", "sh", "-c", make)
    found: Diagnosis = diagnose(repaired)
    entry = found.assert_one_cause("web-02", "lab-mysql-backup", check="backup/web-02")
    assert_repaired_by(repaired, *task(entry["next"]))
