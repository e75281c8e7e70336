"""Monitoring on real machines: exporters, alerts that fire and resolve, the page, the terminal.

Faults are injected in groups to save time; each alert has a test of its own, which reads the
journal lines of its group.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from provision.database.interface import BACKUP_FOLDER
from provision.monitoring import exporters
from provision.monitoring import role as monitoring
from tests.live.conftest import RunningLab, wait_until
from tests.live.test_page import chromium, pixels

pytestmark = pytest.mark.live

FIRING_SECONDS = 90.0
"""5 for the scrape, 5 to 10 for the rule, 1 for the notification; the rest is for a busy host."""

RESOLVED_SECONDS = 120.0
PAGE = "/_monitor/"
MACHINES = ("lb-01", "web-01", "web-02")
PART = re.compile(r"^(lab-(alerts|monitor|facts)|prometheus.*)\.service$")


def scan(lab: RunningLab, machine: str) -> set[tuple[str, int]]:
    """Addresses and ports that a machine listens on."""
    listening = set()
    for line in lab.out(machine, "ss", "-Hltn").splitlines():
        address, _, port = line.split()[3].rpartition(":")
        listening.add((address, int(port)))
    return listening


# --- the role ------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
def test_no_unit_has_failed(secured_lab: RunningLab, machine: str) -> None:
    failed = secured_lab.out(
        machine, "systemctl", "list-units", "--failed", "--no-legend", "--plain"
    )
    assert failed.strip() == ""


def test_promtool_and_amtool_accept_the_configuration(secured_lab: RunningLab) -> None:
    output = secured_lab.out("lb-01", "promtool", "check", "rules", monitoring.RULES)
    assert "15 rules found" in output
    secured_lab.out("lb-01", "promtool", "check", "config", monitoring.CONFIG)
    secured_lab.out("lb-01", "amtool", "check-config", monitoring.ALERTMANAGER_CONFIG)


def test_promtool_rejects_an_invalid_rule(secured_lab: RunningLab) -> None:
    folder = secured_lab.out("lb-01", "mktemp", "-d").strip()
    good = secured_lab.out("lb-01", "cat", monitoring.RULES)
    bad = good.replace('up{job="node"} == 0', "up{{ == 0")
    assert bad != good
    secured_lab.out("lb-01", "tee", f"{folder}/rules.yml", input=bad)
    assert not secured_lab.run("lb-01", "promtool", "check", "rules", f"{folder}/rules.yml").ok


def test_listening_addresses(secured_lab: RunningLab) -> None:
    lab = secured_lab.session().lab
    balancer = scan(secured_lab, "lb-01")
    for port in (9090, 9093, 9099, 9000):
        assert {address for address, p in balancer if p == port} == {"127.0.0.1"}
    for machine in lab.machines:
        here = scan(secured_lab, machine.name)
        for _, _, port in exporters.exporters(machine):
            assert {address for address, p in here if p == port} == {str(machine.address)}


def test_no_exporter_writes_errors(secured_lab: RunningLab) -> None:
    for machine in secured_lab.session().lab.machines:
        for job, unit, _ in exporters.exporters(machine):
            output = secured_lab.out(
                machine.name, "journalctl", "-u", unit, "-o", "cat", "--since", "-20s"
            )
            assert "level=ERROR" not in output, f"{job} on {machine.name}: {output}"


def test_metrics_of_certificates_and_backups(secured_lab: RunningLab) -> None:
    output = secured_lab.out("web-01", "cat", f"{exporters.TEXTFILES}/lab_facts.prom")
    assert 'lab_certificate_not_after_seconds{path="/etc/mysql/lab/server.pem"}' in output
    assert "lab_backup_last_timestamp_seconds" in output
    assert "PRIVATE" not in output


def test_checks_of_monitoring_pass(secured_lab: RunningLab) -> None:
    results = {check["check"]: check for check in secured_lab.json("lab.check")["checks"]}
    for name in ("monitoring/lb-01", "targets/lb-01", "alerts/lb-01"):
        assert results[name]["status"] == "ok", results[name]


def test_memory_of_monitoring(secured_lab: RunningLab) -> None:
    """The proportional set size of the processes of monitoring."""
    program = r"""
import glob
for folder in glob.glob("/proc/[0-9]*"):
    try:
        words = open(folder + "/cmdline").read().replace("\0", " ")
        pss = [l for l in open(folder + "/smaps_rollup") if l.startswith("Pss:")][0].split()[1]
    except (OSError, IndexError):
        continue
    if words.startswith("/usr/bin/prometheus") or "provision.monitoring" in words:
        print(int(pss) // 1024, words[:60])
"""
    for machine, most in (("lb-01", 250), ("web-01", 100), ("web-02", 100)):
        lines = secured_lab.out(machine, "python3", "-", input=program).splitlines()
        used = sum(int(line.split()[0]) for line in lines)
        print(f"{machine}: {used} MB in {len(lines)} processes")
        assert 0 < used < most, lines


# --- alerts --------------------------------------------------------------------------------------


class Group:
    """Faults injected together, and the journal from then on."""

    def __init__(self, lab: RunningLab) -> None:
        self.lab = lab
        self.start = lab.out("lb-01", "date", "+%s.%N").strip()
        self.begun = time.monotonic()
        self.fired: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    def journal(self) -> list[str]:
        """The lines since the faults."""
        output = self.lab.out(
            "lb-01",
            *("journalctl", "-u", "lab-alerts", "-o", "cat", "--no-pager", "--since"),
            f"@{self.start}",
        )
        return output.splitlines()

    def wait(self, word: str, wanted: set[str], seconds: float) -> dict[str, float]:
        """Wait until the journal has a line for every alert; the seconds that each took."""
        found: dict[str, float] = {}

        def all_there() -> bool:
            for line in self.journal():
                for name in wanted - found.keys():
                    if line.startswith(f"{word} {name}:"):
                        found[name] = time.monotonic() - self.begun
            return wanted <= found.keys()

        try:
            wait_until(all_there, f"{word} {wanted}", seconds)
        except AssertionError:
            print("\n".join(self.journal()))
        return found

    def run(self, wanted: set[str], repair: Any) -> Group:
        """Wait for the alerts, repair the faults, wait until the alerts are resolved."""
        try:
            self.fired = self.wait("FIRING", wanted, FIRING_SECONDS)
            self.firing = self.lab.json("monitor.alerts", check=False)["alerts"]
        finally:
            repair()
        self.begun = time.monotonic()
        self.ended = self.wait("RESOLVED", wanted, RESOLVED_SECONDS)
        return self


CERTIFICATE = "/etc/mysql/lab/test.pem"

MANY = {
    "ServiceDown web-02",
    "BackendServerDown web-02",
    "ReplicationNotRunning web-02",
    "SemiSyncOff web-01",
    "MultipleWritablePrimaries web-02",
    "DiskAlmostFull web-02",
    "CertificateExpiring web-01",
    "BackupOverdue databases",
    "TargetDown web-01",
}


@pytest.fixture(scope="module")
def many(secured_lab: RunningLab) -> Group:
    """Faults on running machines."""
    group = Group(secured_lab)
    secured_lab.out("web-02", "systemctl", "stop", "foobar.socket", "foobar.service")
    secured_lab.sql("web-02", "STOP REPLICA; SET GLOBAL read_only = OFF;")
    secured_lab.sql("web-01", "SET GLOBAL rpl_semi_sync_source_enabled = OFF;")
    secured_lab.out("web-02", "mkdir", "-p", "/srv/full")
    secured_lab.out("web-02", "mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", "/srv/full")
    secured_lab.out("web-02", "dd", "if=/dev/zero", "of=/srv/full/data", "bs=1000", "count=1020")
    secured_lab.out(
        "web-01",
        *("openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2"),
        *("-subj", "/CN=test", "-keyout", "/dev/null", "-out", CERTIFICATE),
    )
    for machine in ("web-01", "web-02"):
        secured_lab.out(machine, "touch", "-d", "3 days ago", BACKUP_FOLDER)
        secured_lab.out(machine, "systemctl", "start", "lab-facts.service")
    secured_lab.out("web-01", "systemctl", "stop", "prometheus-nginx-exporter.service")

    def repair() -> None:
        secured_lab.out("web-01", "rm", CERTIFICATE)
        secured_lab.out("web-02", "umount", "/srv/full")
        secured_lab.sql("web-02", "SET GLOBAL super_read_only = ON; START REPLICA;")
        secured_lab.sql("web-01", "SET GLOBAL rpl_semi_sync_source_enabled = ON;")
        secured_lab.out("web-02", "systemctl", "start", "foobar.socket", "foobar.service")
        secured_lab.out("web-01", "systemctl", "start", "prometheus-nginx-exporter.service")
        for machine in ("web-01", "web-02"):
            secured_lab.out(machine, "touch", BACKUP_FOLDER)
            secured_lab.out(machine, "systemctl", "start", "lab-facts.service")

    return group.run(MANY, repair)


@pytest.mark.parametrize("name", sorted(MANY))
def test_an_alert_fires_and_is_resolved(many: Group, name: str) -> None:
    assert name in many.fired, "it did not fire"
    assert name in many.ended, "it was not resolved"
    print(f"{name}: fired after {many.fired[name]:.0f} s, resolved after {many.ended[name]:.0f} s")


def test_alerts_are_listed_while_they_fire(many: Group) -> None:
    assert {f"{a['alert']} {a['machine']}".strip() for a in many.firing} >= MANY
    assert all(a["next"].startswith("invoke ") for a in many.firing)
    assert all(many.lab.name in a["next"] for a in many.firing)


def test_an_alert_is_logged_once(many: Group) -> None:
    lines = [line for line in many.journal() if line.startswith("FIRING DiskAlmostFull")]
    assert len(lines) == 1
    assert "file system /srv/full is" in lines[0]
    assert "full (check disk/web-02); next: invoke lab.ssh" in lines[0]


@pytest.fixture(scope="module")
def lagging(secured_lab: RunningLab) -> Group:
    """A replica whose applier waits for a lock."""
    lock = "FLUSH TABLES WITH READ LOCK; SELECT SLEEP(300);"
    secured_lab.out("web-02", "systemd-run", "--unit=lab-test-lock", "mysql", "-e", lock)
    group = Group(secured_lab)
    secured_lab.sql("web-01", "CREATE TABLE foobar.lag_test (a INT);")

    def repair() -> None:
        secured_lab.run("web-02", "systemctl", "stop", "lab-test-lock.service")
        for line in secured_lab.sql("web-02", "SHOW PROCESSLIST;").splitlines():
            if "SLEEP(300)" in line:
                secured_lab.sql("web-02", f"KILL {int(line.split()[0])};")
        secured_lab.sql("web-01", "DROP TABLE foobar.lag_test;")

    return group.run({"ReplicationLag web-02"}, repair)


def test_a_lagging_replica_fires_an_alert(lagging: Group) -> None:
    assert set(lagging.fired) == set(lagging.ended) == {"ReplicationLag web-02"}


DOWN = {
    "MachineDown web-02",
    "ServiceDown web-01",
    "MySQLDown web-01",
    "NoWritablePrimary databases",
    "HighErrorRate lb-01",
}


@pytest.fixture(scope="module")
def down(secured_lab: RunningLab) -> Group:
    """One machine is halted, the other has neither database nor web server."""
    group = Group(secured_lab)
    secured_lab.invoke("lab.kill", "web-02")
    secured_lab.out("web-01", "systemctl", "stop", "mysql.service", "nginx.service")
    until = time.monotonic() + 15
    while time.monotonic() < until and "HighErrorRate lb-01" not in "".join(group.journal()):
        assert secured_lab.get("/").status_code == 503

    def repair() -> None:
        secured_lab.out("web-01", "systemctl", "start", "mysql.service", "nginx.service")
        secured_lab.invoke("lab.start", "web-02")

    return group.run(DOWN, repair)


@pytest.mark.parametrize("name", sorted(DOWN))
def test_alerts_of_failed_machines_fire_and_are_resolved(down: Group, name: str) -> None:
    assert name in down.fired
    assert name in down.ended
    print(f"{name}: fired after {down.fired[name]:.0f} s, resolved after {down.ended[name]:.0f} s")


def test_a_dead_machine_fires_one_alert(down: Group) -> None:
    output = [line for line in down.journal() if line.startswith("FIRING TargetDown web-02")]
    assert output == [], "neither while it is down nor while its exporters start"


def test_no_alert_remains(down: Group) -> None:
    lab = down.lab

    def quiet() -> bool:
        return lab.invoke("monitor.alerts", check=False).returncode == 0

    wait_until(quiet, "no alert", 60)
    lab.up()


# --- pages and screens ---------------------------------------------------------------------------


def test_the_page_is_only_served_to_the_labs_network(secured_lab: RunningLab) -> None:
    assert secured_lab.get(PAGE).status_code == 200
    front = str(secured_lab.session().lab.front.address)
    stranger = "198.51.100.7"
    secured_lab.out("lb-01", "ip", "address", "add", f"{stranger}/32", "dev", "lo")
    try:
        code = ("-s", "-k", "-L", "-o", "/dev/null", "-w", "%{http_code}")
        own = secured_lab.out("lb-01", "curl", *code, f"http://{front}{PAGE}")
        other = secured_lab.out(
            "lb-01", "curl", *code, "--interface", stranger, f"http://{front}{PAGE}"
        )
    finally:
        secured_lab.out("lb-01", "ip", "address", "del", f"{stranger}/32", "dev", "lo")
    assert (own, other) == ("200", "403")


def test_the_pages_data_come_from_prometheus(secured_lab: RunningLab) -> None:
    for _ in range(20):
        secured_lab.get("/")
    data = secured_lab.get(f"{PAGE}data?minutes=5").json()
    assert data["lab"] == secured_lab.name
    assert {t["labels"]["machine"] for t in data["current"]["targets"]} == set(MACHINES)
    assert {s["labels"]["server"] for s in data["series"]["requests"]} == {"web-01", "web-02"}
    assert secured_lab.get(f"{PAGE}data?minutes=7").status_code == 400
    assert secured_lab.get(f"{PAGE}api/v1/query?query=up").status_code == 404


def test_the_page_draws_in_a_browser(secured_lab: RunningLab, tmp_path: Path) -> None:
    words = ["--ignore-certificate-errors", "--virtual-time-budget=5000", "--window-size=1280,1400"]
    address = f"{secured_lab.url}{PAGE}?minutes=15"
    dom = chromium(tmp_path / "dom", *words, "--dump-dom", address)
    assert 'data-drawn="5"' in dom
    assert "live, " in dom
    assert re.search(r'<b id="tile-targets">8</b>', dom)
    for name in MACHINES:
        assert f"</span>{name}" in dom
    looks = []
    for scheme in ("1", "0"):  # Chromium's numbers for light and dark
        shot = tmp_path / f"{scheme}.png"
        more = (f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={shot}")
        chromium(tmp_path / f"profile-{scheme}", *words, *more, address)
        width, height, rows = pixels(shot.read_bytes())
        assert (width, height) == (1280, 1400)
        size = len(rows[0]) // width
        colours = {row[x : x + size] for row in rows[::7] for x in range(0, len(row), size * 5)}
        assert len(colours) > 30, "a blank page has few"
        looks.append(rows[2][:3])
    assert sum(looks[0]) > 600
    assert sum(looks[1]) < 150


def test_the_terminal_shows_the_same(secured_lab: RunningLab) -> None:
    for _ in range(40):
        secured_lab.get("/")

    def counted() -> bool:
        return bool(secured_lab.json("monitor.show")["requests_per_second"])

    wait_until(counted, "requests are counted", 20)
    screen = secured_lab.invoke("monitor.show").stdout
    assert "8 of 8 targets up" in screen
    assert re.search(r"web-01 +primary .*semi-sync", screen)
    assert re.search(r"web-02 +replica .*receiving, applying", screen)
    rate = secured_lab.invoke("monitor.qps").stdout
    assert "requests per second, www.foobar.com" in rate
    assert "█" in rate
    assert "web-02" not in secured_lab.invoke("monitor.qps", "web-01").stdout
    assert secured_lab.invoke("monitor.alerts").stdout == "no alert\n"


def test_the_screen_is_updated_until_the_time_limit(secured_lab: RunningLab) -> None:
    started = time.monotonic()
    result = secured_lab.invoke("monitor.show", "--seconds", "3", "--every", "1")
    assert result.stdout.count("targets up") >= 2
    assert time.monotonic() - started < 15


def test_unknown_arguments_are_rejected(secured_lab: RunningLab) -> None:
    result = secured_lab.invoke("monitor.qps", "web-09", check=False)
    assert result.returncode == 2
    assert "choose from web-01, web-02" in result.stderr


# --- failure of monitoring itself ---------------------------------------------------------------


def test_an_unreachable_prometheus_is_reported_everywhere(secured_lab: RunningLab) -> None:
    secured_lab.out("lb-01", "systemctl", "stop", "prometheus.service")
    try:
        result = secured_lab.invoke("monitor.show", check=False)
        assert result.returncode == 1
        assert "lb-01: Prometheus does not respond" in result.stderr
        failed = secured_lab.json("lab.check", check=False)["checks"]
        bad = {c["check"] for c in failed if c["status"] in ("failed", "skipped")}
        assert {"service/lb-01/prometheus", "monitoring/lb-01", "targets/lb-01"} <= bad
        assert secured_lab.get(f"{PAGE}data?minutes=5").status_code in (200, 503)
    finally:
        secured_lab.out("lb-01", "systemctl", "start", "prometheus.service")
