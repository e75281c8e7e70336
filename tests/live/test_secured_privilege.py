"""The stage ``secured``: what services may do, and who may log in."""

from __future__ import annotations

import re
import subprocess

import pytest

from provision import registry as roles
from provision.core.errors import LabError
from provision.engine import converge
from provision.engine.plan import Unit, plan, questions
from provision.services.hardening import role as hardening
from provision.services.tls.resources import SshdFile
from tests.live.conftest import RunningLab
from tests.live.secured import machines, planned

pytestmark = pytest.mark.live

MOST = 3.0
"""Of systemd's scale from 0 (confined) to 10 (free); Debian's own units are at 9.6."""

FREE = {"ssh.service"}
"""Who logs in there becomes anybody and may do anything: there is nothing to take away."""


@pytest.mark.parametrize("machine", ["lb-01", "web-01", "web-02"])
def test_every_unit_of_ours_is_sandboxed(secured_lab: RunningLab, machine: str) -> None:
    """The lab's own units, and those of Debian's that its roles stand on or give a drop-in."""
    find = ["find", "/etc/systemd/system", "-mindepth", "1", "-maxdepth", "1"]
    with secured_lab.fleet() as fleet:
        host = fleet.host(machine)
        found = host.run(
            *find, "(", "-type", "f", "-o", "-type", "d", ")", "-name", "*.service*"
        ).out
        names = {path.rpartition("/")[2].removesuffix(".d") for path in found.split()}
        names = {name for name in names if name.endswith(".service")}
        ours = (names | set(roles.services(machines(secured_lab)[machine]))) - FREE
        assert {"lab-firewall.service", "lab-facts.service", "lab-tls-renew.service"} <= ours
        said = host.run("systemd-analyze", "security", "--no-pager", "--json=short").out
        rows = re.findall(r'"unit":"([^"]+)"[^}]*?"exposure":"?([0-9.]+)', said)
        levels = {unit: float(level) for unit, level in rows}
        for unit in ours - set(levels):
            said = host.run("systemd-analyze", "security", "--no-pager", unit).out
            score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
            assert score, f"{unit}: {said}"
            levels[unit] = float(score.group(1))
    print({unit: levels[unit] for unit in sorted(ours)})
    assert {unit: levels[unit] for unit in ours if levels[unit] > MOST} == {}


@pytest.mark.parametrize(
    ("machine", "service"),
    [
        ("lb-01", "haproxy"),
        ("lb-01", "dnsmasq"),
        ("web-01", "nginx"),
        ("web-01", "mysql"),
        ("web-02", "foobar"),
    ],
)
def test_what_runs_is_what_was_confined(
    secured_lab: RunningLab, machine: str, service: str
) -> None:
    """A drop-in that was written and never loaded would satisfy systemd-analyze as well."""
    script = f'cat "/proc/$(systemctl show --property=MainPID --value {service})/status"'
    said = secured_lab.out(machine, "sh", "-c", script)
    state = dict(re.findall(r"(?m)^(NoNewPrivs|Seccomp|CapBnd):\s+(\S+)", said))
    assert (state["NoNewPrivs"], state["Seccomp"]) == ("1", "2")
    dangerous = 1 << 21 | 1 << 19 | 1 << 16 | 1 << 12  # sys_admin, ptrace, module, net_admin
    assert int(state["CapBnd"], 16) & dangerous == 0


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("root", ()),
        ("lab", ("-o", "PubkeyAuthentication=no")),
        ("lab", ("-o", "Ciphers=aes128-ctr")),
        ("lab", ("-o", "KexAlgorithms=ecdh-sha2-nistp256")),
        ("lab", ("-o", "MACs=hmac-sha1", "-o", "Ciphers=aes128-ctr")),
    ],
)
def test_sshd_refuses(secured_lab: RunningLab, user: str, words: tuple[str, ...]) -> None:
    config = str(secured_lab.session().lab.directory / "ssh_config")
    argv = ["ssh", "-F", config, "-o", "LogLevel=INFO", *words, "-l", user, "lb-01", "true"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 255
    assert re.search(r"Permission denied|Unable to negotiate", done.stderr), done.stderr


@pytest.mark.parametrize("machine", ["lb-01", "web-01", "web-02"])
def test_nobody_logs_in_as_root(secured_lab: RunningLab, machine: str) -> None:
    """Not with the lab's own key either, once root has it; and there is no password."""
    now = secured_lab.session()
    config = str(now.lab.directory / "ssh_config")
    argv = ["ssh", "-F", config, "-o", "LogLevel=INFO", "-l", "root", machine, "true"]
    copy = "mkdir -p /root/.ssh && cp ~lab/.ssh/authorized_keys /root/.ssh/authorized_keys"
    with secured_lab.fleet() as fleet:
        host = fleet.host(machine)
        assert host.run("sh", "-c", f"test ! -e /root/.ssh/authorized_keys && {copy}").ok
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        finally:
            assert host.run("rm", "/root/.ssh/authorized_keys").ok
        assert host.run("passwd", "--status", "root").out.split()[1] == "L"
    assert done.returncode == 255
    assert "Permission denied" in done.stderr


def test_sshd_that_would_lock_us_out_is_refused(secured_lab: RunningLab) -> None:
    text = secured_lab.out("web-01", "cat", hardening.SSHD)
    bad = SshdFile(hardening.SSHD, text.replace("AllowUsers lab", "AllowUsers alice"))
    unit = Unit("sshd", (bad,), "ssh.service", "reload", ("sshd", "-t"))
    with secured_lab.fleet() as fleet:
        host = fleet.host("web-01")
        (changed,) = plan("web-01", [unit], host.gather(questions([unit]).asked)).units
        with pytest.raises(LabError, match="sshd would lock out the controller: it logs in as lab"):
            converge._apply(host, changed)
    assert planned(secured_lab) == ""
