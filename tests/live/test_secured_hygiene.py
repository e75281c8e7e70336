"""``secured``: TLS profile, headers, redirects, ETags, sshd, kernel parameters, held packages."""

from __future__ import annotations

import re

import pytest
import requests

from provision.core.lab import ROOT
from tests.live.conftest import RunningLab

pytestmark = pytest.mark.live

HEADERS = ("Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy")


@pytest.mark.parametrize("target", ["127.0.0.1:443", "web-01:443"])
@pytest.mark.parametrize(
    ("offered", "negotiated"),
    [("X25519MLKEM768:X25519", "X25519MLKEM768"), ("X25519", "X25519"), ("P-384", "secp384r1")],
)
def test_key_exchange_on_both_hops(
    secured_lab: RunningLab, target: str, offered: str, negotiated: str
) -> None:
    argv = ("openssl", "s_client", "-connect", target, "-groups", offered)
    output = secured_lab.run("lb-01", *argv).stdout
    match = re.search(r"(?:Negotiated TLS1.3 group|Server Temp Key|Peer Temp Key): (.*)", output)
    assert match, output[-1500:]
    assert negotiated.lower() in match[1].lower()


def test_the_client_chooses_the_cipher(secured_lab: RunningLab) -> None:
    for first, second in (("AES256", "AES128"), ("AES128", "AES256")):
        names = [f"ECDHE-ECDSA-{n}-GCM-SHA{384 if n == 'AES256' else 256}" for n in (first, second)]
        argv = ("openssl", "s_client", "-connect", "127.0.0.1:443", "-tls1_2", "-cipher")
        output = secured_lab.run("lb-01", *argv, ":".join(names)).stdout
        assert f"Cipher is {names[0]}" in output


def test_the_redirect_ignores_the_host_header(secured_lab: RunningLab) -> None:
    address = secured_lab.session().lab.address
    for target, host in (("/notes?a=b", "evil.example"), ("//evil.example/x", "www.foobar.com")):
        argv = ("curl", "-si", "--path-as-is", "-H", f"Host: {host}", f"http://{address}{target}")
        output = secured_lab.out("lb-01", *argv)
        assert re.search(r"(?im)^location: https://www\.foobar\.com/", output), output
        assert "301" in output.splitlines()[0]
        for name in HEADERS:
            assert re.search(rf"(?im)^{name}: ", output), f"{name}: {output}"


def test_own_responses_carry_the_security_headers_once(secured_lab: RunningLab) -> None:
    for path in ("/", "/healthz", "/static/foobar.css", "/static/none", "/favicon.ico", "/none"):
        response = secured_lab.get(path)
        for name in HEADERS:
            assert response.headers.get(name, ""), f"{path} has no {name}"
            assert "," not in response.headers[name], f"{path}: {response.headers[name]}"
    page = secured_lab.get("/static/none")
    assert "style-src 'sha256-" in page.headers["Content-Security-Policy"]
    assert secured_lab.get("/favicon.ico").headers["Content-Type"].startswith("image/svg+xml")
    age = secured_lab.session().lab.topology.hsts_age
    assert f"max-age={age};" in secured_lab.get("/").headers["Strict-Transport-Security"]


def test_both_web_servers_have_the_same_etags(secured_lab: RunningLab) -> None:
    """A query of its own keeps each request out of the balancer's cache."""
    tags: dict[str, dict[str, str]] = {}
    with requests.Session() as http:
        http.trust_env = False
        http.verify = str(ROOT / ".lab" / secured_lab.name / "ca.pem")
        for path in ("/static/foobar.css", "/static/logo.svg"):
            for number in range(4):
                response = http.get(f"{secured_lab.url}{path}?{number}", timeout=10)
                tag = tags.setdefault(path, {})
                tag[response.headers["X-Served-By"]] = response.headers["ETag"]
    for path, by_server in tags.items():
        assert set(by_server) == {"web-01", "web-02"}, path
        assert len(set(by_server.values())) == 1, (path, by_server)


def test_the_name_server_does_not_tell_its_version(secured_lab: RunningLab) -> None:
    argv = ("dig", "+short", "+time=2", "+tries=1", "@127.0.0.1", "version.bind", "TXT", "CH")
    assert "dnsmasq" not in secured_lab.run("lb-01", *argv).stdout
    assert secured_lab.out("lb-01", "dig", "+short", "@127.0.0.1", "www.foobar.com").strip()


def test_sshd_and_kernel_parameters(secured_lab: RunningLab) -> None:
    assert "allowtcpforwarding no" in secured_lab.out("web-01", "sshd", "-T").lower()
    names = ("rp_filter", "accept_redirects", "send_redirects")
    argv = [f"net.ipv4.conf.{where}.{name}" for where in ("all", "eth0") for name in names]
    assert secured_lab.out("web-01", "sysctl", "-n", *argv).split() == ["1", "0", "0"] * 2


def test_a_package_that_conflicts_with_mysql_is_not_installed(secured_lab: RunningLab) -> None:
    """The package is built on the machine, so that no archive is needed."""
    control = (
        "Package: lab-conflict\nVersion: 1\nArchitecture: all\nMaintainer: lab\n"
        "Conflicts: mysql-server, mysql-server-core\nDescription: conflicts with MySQL\n"
    )
    script = (
        "set -e; rm -rf /tmp/lab-conflict*; mkdir -p /tmp/lab-conflict/DEBIAN;"
        "cat >/tmp/lab-conflict/DEBIAN/control; dpkg-deb -b /tmp/lab-conflict /tmp/lab-conflict.deb"
    )
    secured_lab.out("web-01", "sh", "-c", script, input=control)
    result = secured_lab.run("web-01", "apt-get", "-y", "install", "/tmp/lab-conflict.deb")
    secured_lab.run("web-01", "rm", "-rf", "/tmp/lab-conflict", "/tmp/lab-conflict.deb")
    assert not result.ok, result.output
    assert secured_lab.out("web-01", "systemctl", "is-active", "mysql").strip() == "active"
    assert "mysql-server" in secured_lab.out("web-01", "apt-mark", "showhold")
