"""The topology ``secured``: sandboxes of services, and SSH logins."""

from __future__ import annotations

import re
import subprocess

import pytest

from provision.core.errors import LabError
from provision.engine.apply import apply_unit, inspect_unit
from provision.engine.plan import Unit
from provision.services.hardening import role as hardening
from provision.services.hardening.resources import SshdFile
from tests.live.conftest import RunningLab
from tests.live.secured import machines, planned

pytestmark = pytest.mark.live

MOST = 3.0
"""On systemd's scale from 0 (safe) to 10 (unsafe); Debian's own units are at 9.6."""

FREE = {"ssh.service"}
"""A login shell needs all privileges: there is nothing to restrict."""


@pytest.mark.parametrize("machine", ["lb-01", "web-01", "web-02"])
def test_every_unit_of_the_lab_is_sandboxed(secured_lab: RunningLab, machine: str) -> None:
    """The lab's own units, and Debian's units that its roles require or give a drop-in."""
    find = ["find", "/etc/systemd/system", "-mindepth", "1", "-maxdepth", "1"]
    with secured_lab.fleet() as fleet:
        host = fleet.host(machine)
        listing = host.run(
            *find, "(", "-type", "f", "-o", "-type", "d", ")", "-name", "*.service*"
        ).stdout
        names = {path.rpartition("/")[2].removesuffix(".d") for path in listing.split()}
        names = {name for name in names if name.endswith(".service")}
        ours = (
            names | set(secured_lab.session().context.services(machines(secured_lab)[machine]))
        ) - FREE
        assert {"lab-firewall.service", "lab-facts.service", "lab-tls-renew.service"} <= ours
        output = host.run("systemd-analyze", "security", "--no-pager", "--json=short").stdout
        rows = re.findall(r'"unit":"([^"]+)"[^}]*?"exposure":"?([0-9.]+)', output)
        levels = {unit: float(level) for unit, level in rows}
        for unit in ours - set(levels):
            output = host.run("systemd-analyze", "security", "--no-pager", unit).stdout
            score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", output)
            assert score, f"{unit}: {output}"
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
def test_running_services_have_loaded_their_sandbox(
    secured_lab: RunningLab, machine: str, service: str
) -> None:
    """systemd-analyze would also accept a drop-in that was written and never loaded."""
    script = f'cat "/proc/$(systemctl show --property=MainPID --value {service})/status"'
    output = secured_lab.out(machine, "sh", "-c", script)
    state = dict(re.findall(r"(?m)^(NoNewPrivs|Seccomp|CapBnd):\s+(\S+)", output))
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
    result = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode == 255
    assert re.search(r"Permission denied|Unable to negotiate", result.stderr), result.stderr


@pytest.mark.parametrize("machine", ["lb-01", "web-01", "web-02"])
def test_root_cannot_log_in(secured_lab: RunningLab, machine: str) -> None:
    """Neither with the lab's key in root's authorized_keys nor with a password."""
    session = secured_lab.session()
    config = str(session.lab.directory / "ssh_config")
    argv = ["ssh", "-F", config, "-o", "LogLevel=INFO", "-l", "root", machine, "true"]
    copy = "mkdir -p /root/.ssh && cp ~lab/.ssh/authorized_keys /root/.ssh/authorized_keys"
    with secured_lab.fleet() as fleet:
        host = fleet.host(machine)
        assert host.run("sh", "-c", f"test ! -e /root/.ssh/authorized_keys && {copy}").ok
        try:
            result = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        finally:
            assert host.run("rm", "/root/.ssh/authorized_keys").ok
        assert host.run("passwd", "--status", "root").stdout.split()[1] == "L"
    assert result.returncode == 255
    assert "Permission denied" in result.stderr


def test_an_sshd_configuration_that_would_lock_out_the_controller_is_refused(
    secured_lab: RunningLab,
) -> None:
    text = secured_lab.out("web-01", "cat", hardening.SSHD)
    bad = SshdFile(hardening.SSHD, text.replace("AllowUsers lab", "AllowUsers alice"))
    unit = Unit("sshd", (bad,), "ssh.service", "reload", ("sshd", "-t"))
    with secured_lab.fleet() as fleet:
        host = fleet.host("web-01")
        changed = inspect_unit(host, unit)
        with pytest.raises(LabError, match="sshd would lock out the controller: it logs in as lab"):
            apply_unit(host, changed)
    assert planned(secured_lab) == ""
