"""Drift: what was changed by hand is detected, attributed, and repaired by lab.up.

Each fault is a shell command for one machine; the service is the one that `lab.check` must blame.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.live.conftest import RunningLab
from tests.live.diagnosis.conftest import assert_healthy, broken

RELEASE = "/srv/foobar/current/"


@dataclass(frozen=True)
class Fault:
    """One change by hand.

    Args:
        check: the check of the root cause.
        gone: a shell command that succeeds once lab.up has repaired it.
    """

    name: str
    machine: str
    service: str
    command: str
    gone: str
    check: str = "drift/"


def drop_in(service: str, line: str) -> str:
    """A command that adds a drop-in by hand."""
    folder = f"/etc/systemd/system/{service}.service.d"
    text = f"[Service]\\n{line}\\n"
    return f"mkdir -p {folder}; printf '{text}' > {folder}/zz-hand.conf; systemctl daemon-reload"


FOREIGN_FILES = (
    Fault(
        "a foreign MySQL option file",
        "web-02",
        "mysql",
        "printf '[mysqld]\\nmax_connections=7\\n' > /etc/mysql/conf.d/zz-hand.cnf",
        "! test -e /etc/mysql/conf.d/zz-hand.cnf",
    ),
    Fault(
        "a foreign Nginx snippet",
        "web-01",
        "nginx",
        "echo 'gzip off;' > /etc/nginx/conf.d/hand.conf",
        "! test -e /etc/nginx/conf.d/hand.conf",
    ),
    Fault(
        "a foreign site",
        "web-02",
        "nginx",
        "echo 'server { listen 8081; }' > /etc/nginx/sites-enabled/hand",
        "! test -e /etc/nginx/sites-enabled/hand",
    ),
    Fault(
        "a foreign cron job",
        "lb-01",
        "system",
        "mkdir -p /etc/cron.d; echo '* * * * * root true' > /etc/cron.d/hand",
        "! test -e /etc/cron.d/hand",
    ),
    Fault(
        "a foreign sudo rule",
        "web-01",
        "system",
        "echo 'www-data ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/hand",
        "! test -e /etc/sudoers.d/hand",
    ),
    Fault(
        "an added unit",
        "web-01",
        "system",
        "printf '[Service]\\nExecStart=/bin/sleep 9999\\n[Install]\\nWantedBy=multi-user.target\\n'"
        " > /etc/systemd/system/hand.service; systemctl enable --now hand.service",
        "! systemctl is-active hand.service && ! test -e /etc/systemd/system/hand.service",
    ),
)

EFFECTIVE_UNITS = (
    Fault(
        "a lower limit of files",
        "web-01",
        "nginx",
        drop_in("nginx", "LimitNOFILE=64"),
        'test "$(systemctl show nginx -P LimitNOFILE)" != 64',
    ),
    Fault(
        "a memory limit at run time",
        "web-02",
        "foobar",
        "systemctl set-property --runtime foobar.service MemoryMax=350M",
        'test "$(systemctl show foobar -P MemoryMax)" = 419430400',
    ),
    Fault(
        "an environment variable",
        "lb-01",
        "haproxy",
        drop_in("haproxy", "Environment=HAND=1"),
        'test -z "$(systemctl show haproxy -P DropInPaths | grep hand)"',
    ),
    Fault(
        "a unit file that shadows Debian's",
        "lb-01",
        "haproxy",
        "sed 's/^RestartSec.*//' /usr/lib/systemd/system/haproxy.service"
        " > /etc/systemd/system/haproxy.service; systemctl daemon-reload",
        "! test -e /etc/systemd/system/haproxy.service",
    ),
)

MACHINE_STATE = (
    Fault(
        "another host name",
        "web-01",
        "system",
        "hostname hand",
        'test "$(hostname)" = web-01',
    ),
    Fault(
        "another host name at the next boot",
        "web-02",
        "system",
        "echo hand > /etc/hostname",
        'test "$(cat /etc/hostname)" = web-02',
    ),
    Fault(
        "another time zone",
        "lb-01",
        "system",
        "ln -sf /usr/share/zoneinfo/Asia/Tokyo /etc/localtime",
        'test "$(date +%Z)" = UTC',
    ),
    Fault(
        "a smaller MTU",
        "web-02",
        "network",
        "ip link set dev eth0 mtu 1280",
        'test "$(cat /sys/class/net/eth0/mtu)" = 1500',
    ),
    Fault(
        "a route to nowhere",
        "web-01",
        "network",
        "ip route add blackhole 198.51.100.0/24",
        "! ip route show | grep blackhole",
    ),
    Fault(
        "a smaller backlog",
        "web-01",
        "network",
        "echo 16 > /proc/sys/net/core/somaxconn",
        'test "$(cat /proc/sys/net/core/somaxconn)" != 16',
    ),
    Fault(
        "names without DNS",
        "web-02",
        "system",
        "sed -i 's/^hosts:.*/hosts: dns/' /etc/nsswitch.conf",
        "grep -q '^hosts: *files dns' /etc/nsswitch.conf",
    ),
    Fault(
        "another key that may log in",
        "lb-01",
        "system",
        "echo 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHand hand' >> /home/lab/.ssh/authorized_keys",
        "! grep -q hand /home/lab/.ssh/authorized_keys",
    ),
    Fault(
        "another SSH host key",
        "web-01",
        "system",
        "rm /etc/ssh/ssh_host_ed25519_key*;"
        " ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key",
        "! grep -q root@ /etc/ssh/ssh_host_ed25519_key.pub",
    ),
)

OLD_PROCESSES = (
    Fault(
        "an application file that was edited and loaded",
        "web-01",
        "foobar",
        f"echo '# by hand' >> {RELEASE}foobar/text.py; systemctl restart foobar",
        f"! grep -q 'by hand' {RELEASE}foobar/text.py",
    ),
    Fault(
        "a configuration that was written again and not loaded",
        "lb-01",
        "haproxy",
        "cp /etc/haproxy/haproxy.cfg /tmp/h; cat /tmp/h > /etc/haproxy/haproxy.cfg",
        "true",
        "restart-required/lb-01/haproxy",
    ),
    Fault(
        "settings that were written again and not loaded",
        "web-02",
        "foobar",
        "touch /etc/foobar/app.env",
        "true",
        "restart-required/web-02/foobar",
    ),
    Fault(
        "an option file that was written again and not loaded",
        "web-02",
        "mysql",
        "touch /etc/mysql/mysql.conf.d/zz-lab.cnf",
        "true",
        "restart-required/web-02/mysql",
    ),
)

REMOVED = (
    Fault(
        "all of Nginx's configuration",
        "web-01",
        "nginx",
        "rm -rf /etc/nginx",
        "test -e /etc/nginx/mime.types",
    ),
    Fault(
        "a package",
        "lb-01",
        "haproxy",
        "DEBIAN_FRONTEND=noninteractive apt-get -qq purge haproxy > /dev/null 2>&1",
        "systemctl is-active haproxy",
    ),
    Fault(
        "a unit file of a package",
        "web-02",
        "nginx",
        "rm /usr/lib/systemd/system/nginx.service; systemctl daemon-reload",
        "test -e /usr/lib/systemd/system/nginx.service",
    ),
    Fault(
        "a unit file of the lab",
        "web-02",
        "foobar",
        "rm /etc/systemd/system/foobar.service; systemctl daemon-reload",
        "test -e /etc/systemd/system/foobar.service",
    ),
    Fault(
        "an account",
        "lb-01",
        "haproxy",
        "sed -i '/^haproxy:/d' /etc/passwd",
        "getent passwd haproxy",
    ),
)

FAULTS = (*FOREIGN_FILES, *EFFECTIVE_UNITS, *MACHINE_STATE, *OLD_PROCESSES, *REMOVED)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_drift_is_detected_attributed_and_repaired(repaired: RunningLab, fault: Fault) -> None:
    with broken(repaired, fault.machine, fault.command) as diagnosis:
        entry = diagnosis.assert_one_cause(fault.machine, fault.service, fault.check)
        assert "invoke lab.up" in entry["next"]
        repaired.up()
        assert_healthy(repaired)
        repaired.out(fault.machine, "sh", "-c", fault.gone)


def test_a_process_that_runs_code_edited_by_hand_is_restarted(repaired: RunningLab) -> None:
    """The file is restored, and the process that had loaded it is restarted."""
    page = f"{RELEASE}foobar/status.py"
    before = repaired.out("web-01", "systemctl", "show", "foobar", "-P", "MainPID")
    repaired.out("web-01", "sh", "-c", f"echo 'HAND = 1' >> {page}; systemctl restart foobar")
    loaded = repaired.out("web-01", "systemctl", "show", "foobar", "-P", "MainPID")
    repaired.up()
    after = repaired.out("web-01", "systemctl", "show", "foobar", "-P", "MainPID")
    assert len({before, loaded, after}) == 3


def test_a_copy_of_a_changed_file_is_kept_and_named(repaired: RunningLab) -> None:
    path = "/etc/nginx/sites-available/www"
    repaired.out("web-01", "sh", "-c", f"echo '# by hand' >> {path}")
    output = repaired.up().stdout
    (line,) = [line for line in output.splitlines() if path in line and "overwritten" in line]
    copy = next(word for word in line.split() if word.startswith("/var/lib/foobar-lab/overwritten"))
    assert repaired.out("web-01", "tail", "-1", copy.rstrip(".,;")) == "# by hand\n"


def test_a_plan_names_changed_settings_and_hides_their_values(repaired: RunningLab) -> None:
    repaired.out(
        "web-01", "sed", "-i", "s/^FOOBAR_DB_USER=.*/FOOBAR_DB_USER=hand/", "/etc/foobar/app.env"
    )
    output = repaired.invoke("lab.plan").stdout
    assert "FOOBAR_DB_USER" in output
    assert "FOOBAR_DB_PASSWORD" not in output


def test_a_plan_invents_no_changes_when_mysql_does_not_answer(repaired: RunningLab) -> None:
    repaired.run("web-01", "systemctl", "stop", "mysql")
    output = repaired.invoke("lab.plan").stdout
    assert "account foobar_app@" in output
    assert "not readable: MySQL error 2003: Can't connect" in output
    assert "grants:" not in output
