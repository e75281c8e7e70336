"""Repeated lab.up: no changes, repair of drift only, data kept, recovery from a killed run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from provision.core.lab import ROOT
from provision.engine.converge import converge
from tests.live.conftest import RunningLab, wait_until

pytestmark = pytest.mark.live


def changed_in(output: str) -> dict[str, int]:
    """The number of changes of each machine in lab.up's summary."""
    counts = re.findall(r"^(\S+)\s+(?:un)?changed\s+(\d+) changed\s", output, re.MULTILINE)
    return {name: int(count) for name, count in counts}


def plan(lab: RunningLab) -> tuple[int, str]:
    """Exit status and output of lab.plan."""
    result = lab.invoke("lab.plan", "--detailed-exitcode", check=False)
    assert result.returncode in (0, 3), result.stdout + result.stderr
    return result.returncode, result.stdout


# --- nothing to do -------------------------------------------------------------------------------


def test_a_second_run_reports_no_changes(lab: RunningLab) -> None:
    result = lab.up()
    assert changed_in(result.stdout) == {"lb-01": 0, "web-01": 0, "web-02": 0}
    assert len(re.findall(r"^\S+\s+unchanged\s", result.stdout, re.MULTILINE)) == 3
    status, output = plan(lab)
    assert status == 0
    assert "no changes" in output.splitlines()


def test_a_run_without_changes_restarts_nothing(lab: RunningLab) -> None:
    def processes() -> list[str]:
        units = ["mysql", "foobar", "nginx", "haproxy", "systemd-journald"]
        argv = ["systemctl", "show", "-p", "MainPID,ActiveEnterTimestampMonotonic", *units]
        return [lab.out(name, *argv) for name in ("lb-01", "web-01", "web-02")]

    before = processes()
    lab.up()
    assert processes() == before


def test_a_run_without_changes_takes_one_round_trip_per_machine(lab: RunningLab) -> None:
    session = lab.session()
    with session.fleet() as fleet:
        outcomes = converge(fleet, session.context.desired_of(fleet.hosts))
    assert {name: o.round_trips for name, o in outcomes.items()} == dict.fromkeys(outcomes, 1)
    assert all(not o.changed and o.error is None for o in outcomes.values())


def logins(lab: RunningLab, machine: str) -> int:
    """How often sshd has accepted a login, this one included."""
    command = "journalctl -q -u ssh -u 'ssh@*' --grep '^Accepted publickey' -o cat | wc -l"
    return int(lab.out(machine, "sudo", "sh", "-c", command))


@pytest.mark.parametrize("task", ["lab.up", "lab.status", "lab.check"])
def test_a_command_without_changes_logs_in_once_per_machine(lab: RunningLab, task: str) -> None:
    names = ("lb-01", "web-01", "web-02")
    before = {name: logins(lab, name) for name in names}
    lab.invoke(task)
    assert {name: logins(lab, name) - before[name] - 1 for name in names} == dict.fromkeys(names, 1)


# --- drift ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drift:
    """A change by hand.

    Args:
        machine: the changed machine.
        script: shell script that makes the change; may be empty.
        plan: regular expressions that match lab.plan's output.
        sql: SQL that makes the change.
        changes: number of planned changes of the machine.
        applied: number of changes that lab.up applies, if different.
        replicated: the replica has the same drift until it replicates the repair.
    """

    machine: str
    script: str = ""
    plan: tuple[str, ...] = ()
    sql: str = ""
    changes: int = 1
    applied: int = 0
    replicated: bool = False


DRIFTS = {
    "edited-file": Drift(
        "web-01",
        "echo '# by hand' >> /etc/nginx/nginx.conf",
        (r"file /etc/nginx/nginx.conf", r"-# by hand"),
    ),
    "changed-mode": Drift(
        "web-01",
        "chmod 666 /etc/nginx/nginx.conf",
        (r"file /etc/nginx/nginx.conf", r"mode: 0666 → 0644"),
    ),
    "changed-owner-of-a-directory": Drift(
        "web-02", "chown nobody /srv/foobar", (r"directory /srv/foobar", r"owner: nobody:root → ")
    ),
    "removed-link": Drift(
        "web-02",
        "rm /etc/nginx/sites-enabled/*",
        (r"link /etc/nginx/sites-enabled/", r"target: \(none\) → "),
    ),
    "file-that-must-be-gone": Drift(
        "web-02",
        "touch /etc/nginx/sites-enabled/default",
        (r"no file /etc/nginx/sites-enabled/default", r"type: file → absent"),
    ),
    "stopped-service": Drift(
        "web-01",
        "systemctl stop nginx",
        (r"service nginx.service", r"state: inactive → active"),
    ),
    "disabled-service": Drift(
        "web-02",
        "systemctl disable -q nginx",
        (r"service nginx.service", r"enabled: disabled → enabled"),
    ),
    "masked-service": Drift(
        "lb-01",
        "systemctl stop haproxy && systemctl mask -q haproxy",
        (r"service haproxy.service", r"enabled: masked → enabled"),
        changes=2,  # and the servers' states, which a stopped HAProxy does not report
    ),
    "secret-file": Drift(
        "web-02",
        "echo FOOBAR_NEW=by-hand >> /etc/foobar/app.env",
        (r"file /etc/foobar/app.env", r"content: \(secret\) changes"),
    ),
    "deleted-release-file": Drift(
        "web-01",
        "rm /srv/foobar/releases/*/foobar/pages.py",
        (r"tree /srv/foobar/releases/", r"digest: "),
        applied=2,  # and a restart of the process that has loaded it
    ),
    "server-in-maintenance": Drift(
        "lb-01",
        "echo 'set server web/web-02 state maint' | socat - /run/haproxy/admin.sock",
        (r"servers at run time", r"web-02: maint → weight 1"),
    ),
    "password-of-the-application": Drift(
        "web-01",
        sql="ALTER USER 'foobar_app'@'{network}' IDENTIFIED BY 'By-Hand-Changed-1'",
        plan=(r"account foobar_app@", r"password: \(secret\) changes"),
        replicated=True,
    ),
    "privilege-too-many": Drift(
        "web-01",
        sql="GRANT DROP ON foobar.* TO 'foobar_app'@'{network}'",
        plan=(r"account foobar_app@", r"grants: .*DROP.* → "),
        replicated=True,
    ),
    "stopped-replication": Drift(
        "web-02",
        sql="STOP REPLICA SQL_THREAD",
        plan=(r"database role", r"applying: stopped → running"),
    ),
    "writable-replica": Drift(
        "web-02",
        sql="SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF",
        plan=(r"database role", r"writes: accepted → refused"),
    ),
    "configuration-not-loaded": Drift(
        "lb-01",
        "rm /var/lib/foobar-lab/loaded/haproxy",
        (r"reload haproxy.service \(configuration not loaded\)",),
    ),
}


@pytest.mark.parametrize("name", DRIFTS)
def test_drift_is_planned_and_fixed(repaired: RunningLab, name: str) -> None:
    drift = DRIFTS[name]
    if drift.script:
        repaired.out(drift.machine, "sh", "-c", drift.script)
    if drift.sql:
        network = str(repaired.session().lab.network)
        repaired.sql(drift.machine, drift.sql.format(network=network))
    status, output = plan(repaired)
    assert status == 3
    for pattern in drift.plan:
        assert re.search(pattern, output), f"{pattern!r} is not in:\n{output}"
    unaffected = {"lb-01", "web-01", "web-02"} - {drift.machine}
    for other in unaffected - ({"web-02"} if drift.replicated else set()):
        assert f"{other}: no changes" in output, output
    counted = re.search(rf"{drift.machine}: (\d+) to change", output)
    assert counted, output
    assert int(counted.group(1)) == drift.changes, output
    secrets = repaired.session().context.secrets.texts()
    assert not any(secret in output for secret in secrets), "a secret is in the plan"

    result = repaired.up()
    expected = {"lb-01": 0, "web-01": 0, "web-02": 0}
    expected[drift.machine] = drift.applied or drift.changes
    applied = changed_in(result.stdout)
    if drift.replicated:
        applied["web-02"] = 0
    assert applied == expected, result.stdout
    assert plan(repaired)[0] == 0


def test_a_plan_changes_nothing(repaired: RunningLab) -> None:
    repaired.out("web-01", "sh", "-c", "echo '# by hand' >> /etc/nginx/nginx.conf")
    first = plan(repaired)
    assert plan(repaired) == first


def test_a_removed_package_is_reinstalled(repaired: RunningLab) -> None:
    repaired.out(
        "lb-01", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qy", "remove", "haproxy"
    )
    status, output = plan(repaired)
    assert status == 3
    assert "haproxy: (none) → installed" in output
    repaired.up()
    assert plan(repaired)[0] == 0
    assert repaired.get().status_code == 200


def test_a_stopped_machine_is_not_reported_as_unchanged(repaired: RunningLab) -> None:
    repaired.invoke("lab.halt", "lb-01")
    status, output = plan(repaired)
    assert status == 3
    assert "lb-01: halted; lab.up starts it" in output


# --- the data stays ------------------------------------------------------------------------------


@dataclass
class Identity:
    """Values that must not change while machines are halted."""

    note: dict[str, str] = field(default_factory=dict)
    uuids: list[str] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    machine_ids: list[str] = field(default_factory=list)


def identity(lab: RunningLab, note: dict[str, str]) -> Identity:
    """The current identities of the machines, and the stored note."""
    with requests.Session() as http:
        http.trust_env = False
        url = f"{lab.url}/api/notes/{note['id']}"
        # Another visitor reads from a replica, which may be some milliseconds behind.
        wait_until(
            lambda: all(http.get(url, timeout=10).ok for _ in range(4)), "all servers have the note"
        )
        stored = http.get(url, timeout=10).json()
    return Identity(
        stored,
        [lab.sql(name, "SELECT @@server_uuid") for name in ("web-01", "web-02")],
        {name: host.endpoint.host_key for name, host in lab.fleet().hosts.items()},
        [lab.out(m.name, "cat", "/etc/machine-id") for m in lab.session().lab.machines],
    )


def new_note(lab: RunningLab) -> dict[str, str]:
    with requests.Session() as http:
        http.trust_env = False
        words = {"author": "keeper", "text": f"keep this {uuid.uuid4()}"}
        made = http.post(f"{lab.url}/api/notes", json=words, timeout=10)
    assert made.status_code == 201, made.text
    found: dict[str, str] = made.json()
    return found


def test_halt_and_up_keep_the_machines(repaired: RunningLab) -> None:
    note = new_note(repaired)
    before = identity(repaired, note)
    assert before.note == note
    repaired.invoke("lab.halt")
    status = json.loads(status_of(repaired))["data"]
    assert {machine["state"] for machine in status["machines"]} == {"halted"}
    not_running = repaired.invoke("lab.check", check=False)
    assert not_running.returncode == 1
    assert f"next: invoke lab.up --lab {repaired.name}" in not_running.stderr
    result = repaired.up()
    assert set(changed_in(result.stdout)) == {"lb-01", "web-01", "web-02"}
    assert identity(repaired, note) == before


def status_of(lab: RunningLab) -> str:
    return lab.invoke("lab.status", "--json").stdout


def test_a_reboot_of_the_host_loses_no_data(repaired: RunningLab) -> None:
    """All machines are killed; bridge, NAT and forwarder are removed, as after a reboot."""
    note = new_note(repaired)
    before = identity(repaired, note)
    session = repaired.session()
    for machine in session.lab.machines:
        session.provider.kill(session.lab, machine.name)
    bridge = f"lab-{session.lab.id}"
    subprocess.run(["ip", "link", "delete", "dev", bridge, "type", "bridge"], check=True)
    subprocess.run(["nft", "delete", "table", "ip", f"lab_{session.lab.id}"], check=True)
    pid_file = Path("/var/lib/foobar-lab") / session.lab.id / "dnsmasq.pid"
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    refused = repaired.invoke("lab.plan", check=False)
    assert refused.returncode == 1
    assert "is not running" in refused.stderr
    repaired.up()
    assert identity(repaired, note) == before
    assert repaired.out("lb-01", "getent", "ahostsv4", "web-02")


# --- a configuration that the program refuses ----------------------------------------------------

OTHER_CONFIGS = """
import sys
from pathlib import Path
from provision.engine import context as base
base.CONFIGS = Path(sys.argv.pop(1))
from invoke.main import program
sys.argv[0] = "invoke"
program.run(sys.argv)
"""


@pytest.mark.parametrize(
    ("template", "spoiled", "machine", "unit", "word"),
    [
        ("haproxy/haproxy.cfg.j2", "    nonsense on\n", "lb-01", "haproxy", "nonsense"),
        ("nginx/nginx.conf.j2", "nonsense on;\n", "web-01", "nginx", "nonsense"),
    ],
)
def test_a_rejected_configuration_is_rolled_back(
    repaired: RunningLab,
    tmp_path: Path,
    template: str,
    spoiled: str,
    machine: str,
    unit: str,
    word: str,
) -> None:
    configs = tmp_path / "configs"
    subprocess.run(["cp", "-r", str(ROOT / "configs"), str(configs)], check=True)
    with (configs / template).open("a") as file:
        file.write(spoiled)
    path = {"haproxy": "/etc/haproxy/haproxy.cfg", "nginx": "/etc/nginx/nginx.conf"}[unit]
    before = repaired.out(machine, "sh", "-c", f"cat {path}; systemctl show -p MainPID {unit}")
    result = subprocess.run(
        [sys.executable, "-c", OTHER_CONFIGS, str(configs), "lab.up", "--lab", repaired.name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    output = result.stdout + result.stderr
    assert "Traceback" not in output, output
    assert result.returncode == 1, output
    assert f"{machine}: {unit} failed at step 'validate'" in output
    assert "rejects the new configuration" in output
    assert word in output, "HAProxy's own words are missing"
    assert f"rolled back: {path}" in output
    assert f"{unit}.service keeps its previous configuration" in output
    hint = f"next: fix the cause, then\n      invoke lab.up --lab {repaired.name}\n"
    assert hint in output
    after = repaired.out(machine, "sh", "-c", f"cat {path}; systemctl show -p MainPID {unit}")
    assert after == before
    assert repaired.get().status_code == 200
    repaired.up()
    assert plan(repaired)[0] == 0


def test_a_reload_missed_by_a_killed_controller_is_detected(repaired: RunningLab) -> None:
    """The new file exists, but HAProxy runs with the old one: only the stamp shows it."""
    wanted = repaired.out("lb-01", "cat", "/etc/haproxy/haproxy.cfg")
    old = wanted.replace("maxconn 4000", "maxconn 3999")
    load = "systemctl reload haproxy && rm /var/lib/foobar-lab/loaded/haproxy"  # not stamped
    script = "cat > /etc/haproxy/haproxy.cfg"
    repaired.out("lb-01", "sh", "-c", f"{script} && {load}", input=old)
    repaired.out("lb-01", "sh", "-c", script, input=wanted)
    info = ["sh", "-c", "echo 'show info' | socat - /run/haproxy/admin.sock | grep ^Maxconn:"]
    deadline = time.monotonic() + 10
    while repaired.out("lb-01", *info) != "Maxconn: 3999\n":
        assert time.monotonic() < deadline
    status, output = plan(repaired)
    assert status == 3
    assert "reload haproxy.service (" in output
    result = repaired.up()
    assert changed_in(result.stdout) == {"lb-01": 1, "web-01": 0, "web-02": 0}
    assert repaired.out("lb-01", *info) == "Maxconn: 4000\n"


def test_a_file_that_cannot_be_written_leaves_the_unit_as_it_was(repaired: RunningLab) -> None:
    """A file that cannot be replaced, as a mount point: the unit's other files are restored."""
    page = "/srv/foobar/errors/404.html"
    script = (
        "echo '# by hand' >> /etc/nginx/nginx.conf && "
        f"mount --bind {page} {page} && echo '<p>by hand' > {page}"
    )
    repaired.out("web-02", "sh", "-c", script)
    try:
        result = repaired.invoke("lab.up", check=False)
        assert result.returncode == 1
        assert "web-02: nginx failed at step 'change': Device or resource busy" in result.stderr
        assert "rolled back: " in result.stderr
        assert repaired.out("web-02", "tail", "-n1", "/etc/nginx/nginx.conf") == "# by hand\n"
    finally:
        repaired.out("web-02", "umount", page)
