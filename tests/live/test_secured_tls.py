"""HTTPS in ``secured``: tested by independent clients, trust instructions, renewal."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from provision.commands.firewall import counts
from provision.core.pki import CertificateAuthority
from provision.services.tls import feature as tls
from provision.services.tls import interface
from tests.live.conftest import RunningLab, wait_until
from tests.live.secured import kept_connection, machines, planned
from tests.live.test_page import chromium

pytestmark = pytest.mark.live


def openssl(*words: str, input: str = "") -> tuple[bool, str]:
    """An independent TLS client: whether it succeeded, and its output."""
    argv = ["openssl", *words]
    result = subprocess.run(
        argv, input=input, text=True, capture_output=True, timeout=20, check=False
    )
    return result.returncode == 0, result.stdout + result.stderr


def client(lab: RunningLab, *words: str) -> tuple[bool, str]:
    """``openssl s_client`` to the front, as the site, trusting only the lab's authority."""
    session = lab.session()
    assert session.provider.network_problem(session.lab) == ""
    where = f"{session.lab.address}:443"
    ca = str(session.lab.directory / "ca.pem")
    verify = ["-CAfile", ca, "-verify_return_error", "-verify_hostname", session.lab.site]
    site = ["-connect", where, "-servername", session.lab.site]
    return openssl("s_client", *site, *verify, *words)


def serial(lab: RunningLab) -> str:
    """The serial number of the front's current certificate."""
    ok, output = client(lab)
    assert ok, output
    assert "Verify return code: 0 (ok)" in output
    ok, number = openssl("x509", "-noout", "-serial", input=output)
    assert ok, number
    return number.strip()


# --- what is offered -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_modern_versions(secured_lab: RunningLab, version: str) -> None:
    ok, output = client(secured_lab, version, "-alpn", "h2")
    assert ok, output
    assert "Verify return code: 0 (ok)" in output
    assert "ALPN protocol: h2" in output


@pytest.mark.parametrize(
    "words",
    [
        ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "AES128-SHA"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"),
        ("-tls1_2", "-cipher", "aNULL:@SECLEVEL=0"),
    ],
)
def test_old_versions_and_weak_ciphers_are_refused(
    secured_lab: RunningLab, words: tuple[str, ...]
) -> None:
    ok, output = client(secured_lab, *words)
    assert not ok, output
    assert re.search(r"alert|no protocols available|no cipher", output), output


@pytest.mark.parametrize("name", ["www.foobar.com", "foobar.com"])
def test_the_certificate_is_for_both_names_and_no_other(secured_lab: RunningLab, name: str) -> None:
    ok, output = client(secured_lab, "-verify_hostname", name)
    assert ok, output
    ok, output = client(secured_lab, "-verify_hostname", f"not.{name}")
    assert not ok
    assert "hostname mismatch" in output.lower()


def test_a_client_that_does_not_trust_the_authority_refuses(secured_lab: RunningLab) -> None:
    with requests.Session() as http:
        http.trust_env = False
        with pytest.raises(requests.exceptions.SSLError):
            http.get(secured_lab.url, timeout=5)


def test_the_page_over_https(secured_lab: RunningLab) -> None:
    answer = secured_lab.get()
    assert answer.status_code == 200
    assert answer.headers["Strict-Transport-Security"] == "max-age=86400; includeSubDomains"
    site = secured_lab.session().lab.site
    headers = {"Host": site, "Origin": f"https://{site}"}
    with requests.Session() as http:
        http.trust_env = False
        http.verify = str(secured_lab.session().lab.directory / "ca.pem")
        words = {"author": "Ada", "text": "over TLS"}
        made = http.post(f"{secured_lab.url}/notes", words, headers=headers, allow_redirects=False)
    assert made.status_code in (302, 303), made.text
    assert "Secure" in made.headers["Set-Cookie"]


def test_http_redirects_to_https(secured_lab: RunningLab) -> None:
    lab = secured_lab.session().lab
    with requests.Session() as http:
        http.trust_env = False
        url = f"http://{lab.address}/notes?page=2"
        answer = http.get(url, timeout=5, allow_redirects=False)
    assert answer.status_code == 301
    assert answer.headers["Location"] == f"https://{lab.site}/notes?page=2"
    assert "Strict-Transport-Security" not in answer.headers


# --- from the balancer to the web servers --------------------------------------------------------


def test_requests_to_web_servers_are_encrypted(secured_lab: RunningLab) -> None:
    """Every request and health check arrives on port 443, none on 80."""
    listing = ("nft", "--json", "list", "table", "inet", "lab")
    with secured_lab.fleet() as fleet:
        host = fleet.host("web-01")

        def arrived() -> tuple[int, int]:
            packets = counts(host.run(*listing).stdout)
            return packets["HTTP for the balancer", "tcp"], packets["HTTPS for the balancer", "tcp"]

        plain, encrypted = arrived()
        for _ in range(4):
            assert secured_lab.get().status_code == 200
        wait_until(lambda: arrived()[1] > encrypted, "connections to 443")
        assert arrived()[0] == plain


@pytest.mark.parametrize("whose", ["a stranger's", "another web server's"])
def test_a_web_server_with_a_wrong_certificate_gets_no_requests(
    secured_lab: RunningLab, tmp_path: Path, whose: str
) -> None:
    """One server cannot impersonate the other, and users see no error."""
    web = machines(secured_lab)["web-01"]
    if whose == "a stranger's":
        bundle = "".join(
            CertificateAuthority(tmp_path / "other").issue("web-01", [web.address], ["web-01"])
        )
        issue = "issued by another authority"
    else:
        bundle = secured_lab.out("web-02", "cat", interface.BUNDLE)
        issue = "for web-02"
    answers: list[tuple[int, str]] = []

    def left_out() -> bool:
        for _ in range(6):
            response = secured_lab.get()
            answers.append((response.status_code, response.headers.get("X-Served-By", "")))
        return {server for _, server in answers[-6:]} == {"web-02"}

    try:
        secured_lab.out("web-01", "sh", "-c", f"cat > {interface.BUNDLE}", input=bundle)
        secured_lab.out("web-01", "systemctl", "reload", "nginx")
        wait_until(left_out, "the balancer refuses web-01")
        assert {status for status, _ in answers} == {200}, answers

        result = secured_lab.invoke("lab.check", check=False)
        causes = [line for line in result.stdout.splitlines() if line.startswith("root cause: ")]
        assert len(causes) == 1
        assert causes[0].startswith("root cause: web-01: nginx: ")
        assert f"{interface.BUNDLE}: certificate: {issue}" in causes[0]
        assert f"file {interface.BUNDLE}" in planned(secured_lab)
    finally:
        secured_lab.up()
    assert planned(secured_lab) == ""


# --- renewal -------------------------------------------------------------------------------------


def ending_soon(lab: RunningLab, folder: Path) -> str:
    """A certificate of the lab's own authority that expires in twelve days, and its key."""
    session = lab.session()
    shutil.copytree(session.lab.directory, folder)
    return "".join(
        CertificateAuthority(folder).issue(
            "soon", [session.lab.address], [session.lab.site], days=12
        )
    )


def test_lab_up_renews_without_closing_connections(secured_lab: RunningLab, tmp_path: Path) -> None:
    session = secured_lab.session()
    names = ([session.lab.address], [session.lab.site])
    soon = ending_soon(secured_lab, tmp_path / "copy")
    secured_lab.out("lb-01", "sh", "-c", f"cat > {interface.BUNDLE}", input=soon)
    secured_lab.out("lb-01", "systemctl", "reload", "haproxy")
    authority = session.context.authority
    authority.discard(session.lab.site)
    authority.issue(session.lab.site, *names, days=12)

    def reported() -> bool:
        result = secured_lab.invoke("lab.check", "--only", "certificate", check=False)
        causes = [line for line in result.stdout.splitlines() if line.startswith("root cause: ")]
        return len(causes) == 1 and "haproxy" in causes[0] and "11 days left" in causes[0]

    wait_until(reported, "the check reports the expiry")
    before = serial(secured_lab)
    with kept_connection(secured_lab, https=True) as kept:
        secured_lab.up()
    assert (set(kept.statuses), kept.errors) == ({200}, [])
    assert serial(secured_lab) != before
    assert secured_lab.invoke("lab.check", "--only", "certificate").returncode == 0
    assert planned(secured_lab) == ""


@pytest.fixture
def hurried(secured_lab: RunningLab) -> Iterator[None]:
    """The daily timer of lb-01, which fires as soon as it is started."""
    folder = f"/run/systemd/system/{tls.TIMER}.d"
    text = "[Timer]\nOnCalendar=\nOnActiveSec=100ms\nRandomizedDelaySec=0\nAccuracySec=1ms\n"
    secured_lab.out("lb-01", "mkdir", "-p", folder)
    secured_lab.out("lb-01", "sh", "-c", f"cat > {folder}/now.conf", input=text)
    yield
    script = f"rm -r {folder}; systemctl daemon-reload; systemctl reset-failed; "
    secured_lab.out("lb-01", "sh", "-c", f"{script} systemctl restart {tls.TIMER}")


@pytest.mark.usefixtures("hurried")
def test_the_machine_renews_automatically(secured_lab: RunningLab, tmp_path: Path) -> None:
    """Without the controller: the timer switches to the successor if it is valid."""
    soon = ending_soon(secured_lab, tmp_path / "copy")
    good = secured_lab.out("lb-01", "cat", interface.BUNDLE)
    with secured_lab.fleet() as fleet:
        host = fleet.host("lb-01")
        assert host.run("systemctl", "is-enabled", tls.TIMER).ok
        host.run("systemctl", "daemon-reload")

        def put(path: str, text: str) -> None:
            assert host.run("sh", "-c", f"cat > {path}", input=text).ok

        def fired() -> str:
            """The log of the service after its timer has started it."""
            since = time.time()
            assert host.run("systemctl", "restart", tls.TIMER).ok
            log = ("journalctl", "-u", tls.SERVICE, "-o", "cat", "--no-pager", f"--since=@{since}")

            def ended() -> bool:
                return re.search(r"Deactivated|Failed with", host.run(*log).stdout) is not None

            wait_until(ended, "the timer fires")
            return host.run(*log).stdout

        assert "nothing to do" in fired()
        put(interface.BUNDLE, soon)
        output = fired()
        assert "its successor is not valid yet" in output
        assert "lab.up on the controller" in output
        put(tls.NEXT, good)
        assert "renewed: the certificate that expired on" in fired()
        assert host.run("cat", interface.BUNDLE).stdout == good
    serial(secured_lab)
    assert f"file {tls.NEXT}" in planned(secured_lab)
    secured_lab.up()
    assert planned(secured_lab) == ""


def test_every_machine_has_the_timer(secured_lab: RunningLab) -> None:
    for machine in machines(secured_lab):
        show = ("--property=ActiveState,UnitFileState,Unit,NextElapseUSecRealtime", tls.TIMER)
        output = dict(
            line.split("=", 1)
            for line in secured_lab.out(machine, "systemctl", "show", *show).splitlines()
        )
        assert (output["ActiveState"], output["UnitFileState"]) == ("active", "enabled")
        assert output["Unit"] == tls.SERVICE
        assert output["NextElapseUSecRealtime"], machine


# --- trust ---------------------------------------------------------------------------------------


def steps(lab: RunningLab, system: str) -> tuple[str, str]:
    """The commands that install and remove trust, as ``tls.trust`` prints them."""
    lines = lab.invoke("tls.trust").stdout.splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith(system))
    removal = lines[place + 2].strip()
    assert removal.startswith("remove: ")
    return lines[place + 1].strip(), removal.removeprefix("remove: ")


def test_trust_instructions_for_every_system(secured_lab: RunningLab) -> None:
    output = secured_lab.invoke("tls.trust").stdout
    for word in ("Debian, Ubuntu", "Fedora, RHEL", "Chrome", "macOS", "Windows", "Firefox"):
        assert word in output
    ok, mark = openssl(
        *("x509", "-noout", "-fingerprint", "-sha256", "-in"),
        str(secured_lab.session().lab.directory / "ca.pem"),
    )
    assert ok
    assert mark.strip().partition("=")[2] in output


def test_debian_trusts_after_the_instructions(secured_lab: RunningLab) -> None:
    """Machines run Debian, so the instructions apply there with the same path."""
    here = secured_lab.session().lab.directory / "ca.pem"
    trust, away = steps(secured_lab, "Linux: Debian")
    ask = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "https://www.foobar.com/")
    with secured_lab.fleet() as fleet:
        host = fleet.host("web-02")
        assert "certificate" in host.run(*ask).stderr
        folder = str(here.parent)
        script = f"mkdir -p {folder} && cat > {here}"
        assert host.run("sh", "-c", script, input=here.read_text()).ok
        try:
            result = host.run("sh", "-c", trust)
            assert result.ok, result.stderr
            assert host.run(*ask).stdout == "200"
        finally:
            result = host.run("sh", "-c", away)
            host.run("rm", "-r", folder)
        assert result.ok, result.stderr
        assert "certificate" in host.run(*ask).stderr


def test_chromium_trusts_after_the_instructions(
    secured_lab: RunningLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = secured_lab.session()
    assert session.provider.network_problem(session.lab) == ""
    trust, away = steps(secured_lab, "Linux: Chrome")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    rules = f"--host-resolver-rules=MAP {session.lab.site} {session.lab.address}"

    def title(profile: str) -> str:
        return chromium(tmp_path / profile, rules, "--dump-dom", f"https://{session.lab.site}/")

    def type_in(command: str) -> None:
        result = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, check=False)
        assert result.returncode == 0

    type_in(trust)
    assert "Guest book" in title("trusting")
    type_in(away)
    assert "Guest book" not in title("no-more")
