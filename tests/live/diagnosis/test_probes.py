"""Files that block or have invalid names are detected, affect nothing else, and are repaired."""

from __future__ import annotations

import signal
import time

import pytest

from tests.live.conftest import RunningLab, wait_until
from tests.live.diagnosis.conftest import assert_repaired_by, diagnose

RELEASE = "$(ls -d /srv/foobar/releases/* | head -n 1)"
SITES = "/etc/nginx/sites-enabled"

FAULTS = {
    "fifo-in-sites": (f"mkfifo {SITES}/pipe", "nginx", "sites-enabled/pipe"),
    "fifo-as-package-file": (
        "rm /etc/nginx/mime.types && mkfifo /etc/nginx/mime.types",
        "nginx",
        "mime.types is a fifo",
    ),
    "fifo-in-release": (f"mkfifo {RELEASE}/pipe", "foobar", "digest"),
    "dangling-site": (f"ln -s /nowhere {SITES}/dangling", "nginx", "sites-enabled/dangling"),
    "circular-configuration": (
        "ln -sfn nginx.conf /etc/nginx/nginx.conf",
        "nginx",
        "/etc/nginx/nginx.conf",
    ),
    "dangling-in-release": (f"ln -s /nowhere {RELEASE}/dangling", "foobar", "digest"),
    "latin-1-site": (f"touch \"{SITES}/$(printf 'caf\\351')\"", "nginx", "caf\\xe9"),
    "latin-1-in-release": (f"touch \"{RELEASE}/$(printf '\\374ber')\"", "foobar", "digest"),
    "latin-1-profile": (
        "touch \"/etc/profile.d/$(printf 'gr\\374n').sh\"",
        "system",
        "gr\\xfcn.sh",
    ),
    "socket-in-sites": ("{socket} " + f"{SITES}/socket", "nginx", "sites-enabled/socket"),
    "socket-in-release": ("{socket} " + f"{RELEASE}/socket", "foobar", "digest"),
    "socket-as-configuration": (
        "rm /etc/nginx/nginx.conf && {socket} /etc/nginx/nginx.conf",
        "nginx",
        "/etc/nginx/nginx.conf",
    ),
    "directory-as-configuration": (
        "rm /etc/nginx/nginx.conf && mkdir -p /etc/nginx/nginx.conf/below",
        "nginx",
        "/etc/nginx/nginx.conf",
    ),
    "directory-in-conf.d": ("mkdir /etc/nginx/conf.d/x.conf", "nginx", "conf.d/x.conf"),
    "directory-in-sites": (f"mkdir {SITES}/folder", "nginx", "sites-enabled/folder"),
}
BIND = "python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])'"

PREPEND = "cp -a {home}/.bashrc {home}/kept; (cat; cat {home}/kept) >{home}/.bashrc"

PRINTING = {
    "line": "echo printed by a start-up file",
    "half-a-line": "printf 'no line feed'",
    "messages": """echo '{"id": 1, "value": 2}'; echo '{"pid": 1}'""",
    "background": "(for i in 1 2 3 4 5 6; do echo tick; sleep 0.2; done) &",
    "latin-1": "printf 'gr\\374n\\n'",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_blocks_is_reported_and_repaired(repaired: RunningLab, fault: str) -> None:
    command, service, text = FAULTS[fault]
    repaired.out("web-01", "sh", "-ec", command.replace("{socket}", BIND))
    plan = repaired.invoke("lab.plan")
    assert text in plan.stdout
    assert "web-02: no changes" in plan.stdout
    diagnosis = diagnose(repaired)
    entry = diagnosis.assert_one_cause("web-01", service)
    assert entry["check"].startswith("drift/web-01")
    assert_repaired_by(repaired, "lab.up")
    assert "no changes" in repaired.invoke("lab.plan").stdout.splitlines()[-1]


@pytest.mark.parametrize("noise", PRINTING)
def test_start_up_files_may_print(repaired: RunningLab, noise: str) -> None:
    home = home_of_login(repaired)
    script = PREPEND.format(home=home)
    repaired.out("web-01", "sh", "-ec", script, input=PRINTING[noise] + "\n")
    try:
        assert "no changes" in repaired.invoke("lab.plan").stdout
        assert diagnose(repaired).ok
        repaired.up()
    finally:
        repaired.out("web-01", "mv", f"{home}/kept", f"{home}/.bashrc")


def test_endless_printing_is_one_error(repaired: RunningLab) -> None:
    home = home_of_login(repaired)
    script = PREPEND.format(home=home)
    repaired.out("web-01", "sh", "-ec", script, input="yes noise | head -c 200000\n")
    try:
        plan = repaired.invoke("lab.plan", check=False)
        assert "web-01" in plan.stdout + plan.stderr
        assert "noise" in plan.stdout + plan.stderr
    finally:
        repaired.invoke("lab.rescue", "web-01", "--", "mv", f"{home}/kept", f"{home}/.bashrc")


def home_of_login(lab: RunningLab) -> str:
    """The home directory of the user that the controller logs in as."""
    with lab.fleet() as fleet:
        user = fleet.host("web-01").endpoint.user
    return lab.out("web-01", "sh", "-c", f"echo ~{user}").strip()


def test_no_agent_stays_behind(repaired: RunningLab) -> None:
    """The controller is killed while a probe is blocked."""
    repaired.out("web-01", "sh", "-c", f"mkfifo {SITES}/pipe; systemctl kill -s STOP mysql")
    try:
        command = repaired.start("lab.check")
        time.sleep(1.5)
        command.signal(signal.SIGKILL, group=True)
        command.wait()
        wait_until(lambda: agents(repaired) == 1, "one agent, which counts itself", 5)
    finally:
        repaired.out("web-01", "systemctl", "kill", "-s", "CONT", "mysql")


def agents(lab: RunningLab) -> int:
    """The number of agents on web-01, including the one that runs this probe."""
    return int(
        lab.out("web-01", "pgrep", "--count", "-f", "^python3 -I -X utf8 -c import sys;exec")
    )
