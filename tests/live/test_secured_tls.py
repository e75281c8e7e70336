"""The stage ``secured``: every rule asked by connecting, TLS by an independent client, and back."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import requests

from provision.engine import Unit, plan, questions
from provision.errors import LabError
from provision.host import Host
from provision.lab import ROOT, Machine
from provision.ops import converge
from provision.pki import Authority
from provision.resources.firewall import Ruleset
from provision.roles import firewall, tls
from tests.live.conftest import PREFIX, RunningLab, wait_until

pytestmark = pytest.mark.live

PORTS = (22, 53, 80, 443, 3306, 8080, 8404, 9000, 9090, 9093, 9100, 9104, 9113)
PROGRAM = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def ask(where):
    try:
        socket.create_connection(tuple(where), 1).close()
        return "open"
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "silent"
targets = json.loads(sys.stdin.read())
with ThreadPoolExecutor(len(targets)) as pool:
    print(json.dumps(list(pool.map(ask, targets))))
"""
"""Connects to each target, 1 s at most; silence is what a dropped packet looks like."""


@pytest.fixture(scope="module")
def secured() -> Iterator[RunningLab]:
    """A lab that is secured from the start."""
    made = RunningLab(PREFIX + "secured")
    made.up("--topology", "secured")
    yield made
    made.destroy()


def machines(lab: RunningLab) -> dict[str, Machine]:
    return {m.name: m for m in lab.session().lab.machines}


def planned(lab: RunningLab) -> str:
    """What lab.plan shows; empty when nothing would change."""
    done = lab.invoke("lab.plan", "--detailed-exitcode", check=False)
    assert done.returncode in (0, 2), done.stderr
    return done.stdout if done.returncode else ""


def openssl(*words: str, input: str = "") -> tuple[bool, str]:
    """An independent TLS client; whether it was content, and all that it said."""
    argv = ["openssl", *words]
    done = subprocess.run(
        argv, input=input, text=True, capture_output=True, timeout=20, check=False
    )
    return done.returncode == 0, done.stdout + done.stderr


def client(lab: RunningLab, *words: str) -> tuple[bool, str]:
    """``openssl s_client`` to the front, as the site, trusting the lab's authority alone."""
    now = lab.session()
    assert now.provider.link_problem(now.lab) == ""
    where = f"{now.lab.address}:443"
    ca = str(now.lab.directory / "ca.pem")
    verify = ["-CAfile", ca, "-verify_return_error", "-verify_hostname", now.lab.site]
    site = ["-connect", where, "-servername", now.lab.site]
    return openssl("s_client", *site, *verify, *words)


# --- from nothing, and nothing to do afterwards --------------------------------------------------


def test_a_second_run_changes_nothing(secured: RunningLab) -> None:
    assert planned(secured) == ""


# --- the firewall --------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["the controller", "lb-01", "web-01", "web-02"])
def test_every_port_from_everywhere(secured: RunningLab, source: str) -> None:
    now = secured.session()
    context, all_machines = now.context, machines(secured)
    address = all_machines[source].address if source in all_machines else now.lab.gateway
    others = [m for m in all_machines.values() if m.name != source]
    targets = [(str(m.address), port) for m in others for port in PORTS]
    if source in all_machines:
        said = json.loads(secured.out(source, "python3", "-c", PROGRAM, input=json.dumps(targets)))
    else:
        assert now.provider.link_problem(now.lab) == ""

        def ask(where: tuple[str, int]) -> str:
            try:
                socket.create_connection(where, 1).close()
            except ConnectionRefusedError:
                return "refused"
            except OSError:
                return "silent"
            return "open"

        with ThreadPoolExecutor(len(targets)) as pool:
            said = list(pool.map(ask, targets))
    found = dict(zip(targets, said, strict=True))
    wrong = []
    for machine in others:
        listens = secured.out(machine.name, "ss", "-Hltn")
        for port in PORTS:
            allowed = any(
                rule.port == port
                and rule.protocol == "tcp"
                and (not rule.sources or any(address in ip_network(s) for s in rule.sources))
                for rule in firewall.rules(context, machine)
            )
            outside = rf"(\*|0\.0\.0\.0|\[::\]|{re.escape(str(machine.address))}):{port}\s"
            expected = (
                ("open" if re.search(outside, listens) else "refused") if allowed else "silent"
            )
            got = found[str(machine.address), port]
            if got != expected:
                wrong.append(f"{machine.name}:{port} is {got} instead of {expected}")
    assert wrong == [], f"from {source}"


def test_ping_answers(secured: RunningLab) -> None:
    web = machines(secured)["web-02"]
    assert secured.run("web-01", "ping", "-c", "1", "-W", "2", str(web.address)).ok


def test_rules_flushed_by_hand_are_noticed_and_mended(secured: RunningLab) -> None:
    secured.out("web-01", "nft", "flush", "ruleset")
    assert "firewall rules" in planned(secured)
    check = secured.invoke("lab.check", "--only", "firewall/web-01", check=False)
    assert check.returncode == 1
    assert "no rules are loaded: everything is open" in check.stdout
    secured.up()
    assert planned(secured) == ""


def test_a_rule_added_by_hand_is_shown(secured: RunningLab) -> None:
    rule = ("inet", "lab", "input", "tcp", "dport", "8500", "accept")
    secured.out("lb-01", "nft", "insert", "rule", *rule)
    assert "-\t\ttcp dport 8500 accept" in planned(secured)
    secured.up()
    assert "8500" not in secured.out("lb-01", "nft", "list", "chain", "inet", "lab", "input")


def test_rules_come_back_with_the_machine(secured: RunningLab) -> None:
    secured.invoke("lab.kill", "web-02")
    secured.invoke("lab.start", "web-02")
    wait_until(lambda: secured.invoke("lab.check", check=False).returncode == 0, "all is well", 40)
    assert planned(secured) == ""


def test_established_connections_survive_a_change(secured: RunningLab, tmp_path: Path) -> None:
    now = secured.session()
    text = (ROOT / "configs" / "topologies" / "secured.yml").read_text()
    network = "192.168.56.0/24"
    wider = tmp_path / "wider.yml"
    wider.write_text(text.replace("https: true", f"https: true\nssh_from: [{network}]"))
    web = machines(secured)["web-01"]
    with secured.fleet() as fleet, socket.create_connection((str(now.lab.address), 80), 5) as kept:
        before = fleet.host("web-01").run("ss", "-Htn", "state", "established", "sport = :3306").out
        secured.up("--topology", str(wider))
        rules = fleet.host("web-01").run("nft", "list", "chain", "inet", "lab", "input").out
        assert f"ip saddr {now.lab.network} tcp dport 22" in rules
        kept.sendall(f"GET / HTTP/1.1\r\nHost: {now.lab.site}\r\n\r\n".encode())
        assert kept.recv(64).startswith(b"HTTP/1.1 301")
        after = fleet.host("web-01").run("ss", "-Htn", "state", "established", "sport = :3306").out
    replica = str(machines(secured)["web-02"].address)
    connections = set(re.findall(rf"{re.escape(replica)}\]?:\d+", before))
    assert connections & set(re.findall(rf"{re.escape(replica)}\]?:\d+", after))
    secured.up("--topology", "secured")
    rules = secured.out("web-01", "nft", "list", "chain", "inet", "lab", "input")
    assert f"ip saddr {now.lab.gateway} tcp dport 22" in rules
    assert str(web.address) not in rules


def test_a_firewall_that_would_lock_out_the_controller_is_refused(
    secured: RunningLab, tmp_path: Path
) -> None:
    before = secured.out("lb-01", "nft", "-s", "-t", "list", "ruleset")
    text = (ROOT / "configs" / "topologies" / "secured.yml").read_text()
    foreign = tmp_path / "foreign.yml"
    foreign.write_text(text.replace("https: true", "https: true\nssh_from: [203.0.113.0/24]"))
    done = secured.invoke("lab.up", "--topology", str(foreign), check=False)
    assert done.returncode == 1
    assert "this firewall would lock out the controller: it comes from" in done.stderr
    assert "ssh_from" in done.stderr
    assert secured.out("lb-01", "nft", "-s", "-t", "list", "ruleset") == before
    secured.up("--topology", "secured")


def test_a_lock_out_that_nobody_foresaw_is_taken_back(secured: RunningLab) -> None:
    now = secured.session()
    machine = machines(secured)["web-02"]
    gateway = str(now.lab.gateway)
    good = firewall.ruleset(now.context, machine)
    bad = good.replace(f"ip saddr {gateway} tcp dport 22", "ip saddr 203.0.113.1 tcp dport 22")
    assert bad != good
    rules = Ruleset(firewall.RULES, bad, (gateway,), 5)
    unit = Unit("firewall", (rules,), confirm="firewall-confirm")
    with secured.fleet() as fleet:
        host = fleet.host("web-02")
        (locked,) = plan("web-02", [unit], host.gather(questions([unit]).asked)).units
        with ThreadPoolExecutor(1) as pool:
            applied = pool.submit(converge._apply, host, locked)
            wait_until(lambda: _silent(machine), "the new rules refuse SSH", 10)
            with pytest.raises(LabError, match="has taken it back by itself and answers again"):
                applied.result()
        assert host.run("true").ok, "the connection from before did not survive"
    assert planned(secured) == ""
    with Host("web-02", now.provider.endpoints(now.lab)["web-02"]) as new:
        new.connect()


def _silent(machine: Machine) -> bool:
    """Whether sshd's port does not answer."""
    try:
        socket.create_connection((str(machine.address), 22), 0.5).close()
    except OSError:
        return True
    return False


# --- TLS -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_modern_versions(secured: RunningLab, version: str) -> None:
    ok, said = client(secured, version, "-alpn", "h2")
    assert ok, said
    assert "Verify return code: 0 (ok)" in said
    assert "ALPN protocol: h2" in said


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
    secured: RunningLab, words: tuple[str, ...]
) -> None:
    ok, said = client(secured, *words)
    assert not ok, said
    assert re.search(r"alert|no protocols available|no cipher", said), said


def test_a_client_that_does_not_trust_the_authority_refuses(secured: RunningLab) -> None:
    with requests.Session() as http:
        http.trust_env = False
        with pytest.raises(requests.exceptions.SSLError):
            http.get(secured.url, timeout=5)


def test_the_page_over_https(secured: RunningLab) -> None:
    answer = secured.get()
    assert answer.status_code == 200
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=")
    site = secured.session().lab.site
    headers = {"Host": site, "Origin": f"https://{site}"}
    with requests.Session() as http:
        http.trust_env = False
        http.verify = str(secured.session().lab.directory / "ca.pem")
        words = {"author": "Ada", "text": "over TLS"}
        made = http.post(f"{secured.url}/notes", words, headers=headers, allow_redirects=False)
    assert made.status_code in (302, 303), made.text
    assert "Secure" in made.headers["Set-Cookie"]


def test_http_leads_to_https(secured: RunningLab) -> None:
    address = secured.session().lab.address
    with requests.Session() as http:
        http.trust_env = False
        url = f"http://{address}/notes?page=2"
        answer = http.get(url, timeout=5, allow_redirects=False)
    assert answer.status_code == 301
    assert answer.headers["Location"] == f"https://{address}/notes?page=2"
    assert "Strict-Transport-Security" not in answer.headers


def test_a_web_server_with_a_foreign_certificate_gets_no_requests(
    secured: RunningLab, tmp_path: Path
) -> None:
    web = machines(secured)["web-01"]
    foreign = "".join(Authority(tmp_path / "other").issue("web-01", [web.address], ["web-01"]))
    secured.out("web-01", "sh", "-c", f"cat > {tls.BUNDLE}", input=foreign)
    secured.out("web-01", "systemctl", "reload", "nginx")

    def down() -> bool:
        done = secured.invoke("lab.check", "--only", "web-01", check=False)
        return "DOWN" in done.stdout and "certificate verify failed" in done.stdout

    wait_until(down, "the balancer refuses web-01")
    assert {secured.get().headers["X-Served-By"] for _ in range(4)} == {"web-02"}
    assert f"file {tls.BUNDLE}" in planned(secured)
    secured.up()
    assert planned(secured) == ""


def test_the_machine_renews_by_itself(secured: RunningLab, tmp_path: Path) -> None:
    now = secured.session()
    copy = tmp_path / "copy"
    shutil.copytree(now.lab.directory, copy)
    names = ([now.lab.address], [now.lab.site])
    soon = "".join(Authority(copy).issue("soon", *names, days=12))
    good = secured.out("lb-01", "cat", tls.BUNDLE)
    with secured.fleet() as fleet:
        host = fleet.host("lb-01")

        def put(path: str, text: str) -> None:
            assert host.run("sh", "-c", f"cat > {path}", input=text).ok

        def renew() -> tuple[bool, str]:
            done = host.run("systemctl", "start", tls.SERVICE)
            log = host.run("journalctl", "-u", tls.SERVICE, "-n", "4", "-o", "cat", "--no-pager")
            return done.ok, log.out

        ok, said = renew()
        assert ok, said
        assert "nothing to do" in said
        put(tls.BUNDLE, soon)
        ok, said = renew()
        assert not ok, said
        assert "its successor begins later" in said
        assert "lab.up on the controller" in said
        put(tls.NEXT, good)
        ok, said = renew()
        assert ok, said
        assert "renewed: the certificate that ended on" in said
        assert host.run("cat", tls.BUNDLE).out == good
        host.run("systemctl", "reset-failed")
    ok, said = client(secured)
    assert ok, said
    assert "Verify return code: 0 (ok)" in said
    assert f"file {tls.NEXT}" in planned(secured)
    secured.up()
    assert planned(secured) == ""


# --- least privilege -----------------------------------------------------------------------------


@pytest.mark.parametrize("machine", ["lb-01", "web-01", "web-02"])
def test_every_unit_of_ours_is_sandboxed(secured: RunningLab, machine: str) -> None:
    find = ["find", "/etc/systemd/system", "-maxdepth", "1", "-type", "f", "-name", "*.service"]
    units = [Path(path).name for path in secured.out(machine, *find).split()]
    ours = [name for name in units if name.startswith(("lab-", "foobar"))]
    assert ours
    levels = {}
    with secured.fleet() as fleet:
        for name in ours:
            said = fleet.host(machine).run("systemd-analyze", "security", "--no-pager", name).out
            found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
            levels[name] = float(found.group(1)) if found else 10.0
    assert {name: level for name, level in levels.items() if level > 3} == {}


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
def test_sshd_refuses(secured: RunningLab, user: str, words: tuple[str, ...]) -> None:
    config = str(secured.session().lab.directory / "ssh_config")
    argv = ["ssh", "-F", config, "-o", "LogLevel=INFO", *words, "-l", user, "lb-01", "true"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 255
    assert re.search(r"Permission denied|Unable to negotiate", done.stderr), done.stderr


def test_sshd_that_would_lock_us_out_is_refused(secured: RunningLab) -> None:
    from provision.resources.security import SshdFile
    from provision.roles import hardening

    text = secured.out("web-01", "cat", hardening.SSHD)
    bad = SshdFile(hardening.SSHD, text.replace("AllowUsers lab", "AllowUsers alice"))
    unit = Unit("sshd", (bad,), "ssh.service", "reload", ("sshd", "-t"))
    with secured.fleet() as fleet:
        host = fleet.host("web-01")
        (changed,) = plan("web-01", [unit], host.gather(questions([unit]).asked)).units
        with pytest.raises(LabError, match="sshd would lock out the controller: it logs in as lab"):
            converge._apply(host, changed)
    assert planned(secured) == ""


# --- the stages ----------------------------------------------------------------------------------


def test_back_to_distributed_and_forth_again(secured: RunningLab) -> None:
    note = {"author": "Ada", "text": "stays"}
    with requests.Session() as http:
        http.trust_env = False
        http.verify = str(secured.session().lab.directory / "ca.pem")
        made = http.post(f"{secured.url}/api/notes", json=note, timeout=10).json()

    secured.up("--topology", "distributed")
    assert secured.url.startswith("http://")
    assert planned(secured) == ""
    for name, machine in machines(secured).items():
        with secured.fleet() as fleet:
            host = fleet.host(name)
            assert host.run("nft", "list", "ruleset").out == ""
            left = ["/etc", "/usr/local", "/var/lib/foobar-lab", "/run/foobar-lab"]
            names = ["-name", "*firewall*", "-o", "-name", "*lab-tls*", "-o", "-name", "*lab-hard*"]
            find = host.run("find", *left, "-not", "-path", "/etc/mysql/*", "(", *names, ")").out
            ours = [p for p in find.split() if "lab" in p]
            assert ours == [], name
            assert not host.run("test", "-e", tls.FOLDER).ok
        if "nginx" in machine.roles:
            assert ip_address(machine.address)
            with socket.create_connection((str(machine.address), 80), 2):
                pass
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((str(machine.address), 443), 2)

    with secured.fleet() as fleet:
        hosts = [fleet.host(name) for name in machines(secured)]
        for host in hosts:
            host.run("true")
        secured.up("--topology", "secured")
        for host in hosts:
            assert host.run("true").ok, "a connection from before did not survive"
    assert planned(secured) == ""
    assert secured.get(f"/api/notes/{made['id']}").json()["text"] == "stays"


def test_a_key_that_others_may_read_stops_everything(secured: RunningLab) -> None:
    key = secured.session().context.authority.key_path
    key.chmod(0o644)
    try:
        done = secured.invoke("lab.up", check=False)
    finally:
        key.chmod(0o600)
    assert done.returncode == 1
    assert str(key) in done.stderr
    assert "readable" in done.stderr or "open to others" in done.stderr or "0644" in done.stderr


def test_a_missing_key_stops_everything(secured: RunningLab) -> None:
    key = secured.session().context.authority.key_path
    aside = key.rename(key.with_suffix(".aside"))
    try:
        done = secured.invoke("lab.up", check=False)
    finally:
        aside.rename(key)
    assert done.returncode == 1
    assert "the key of this lab's certificate authority is missing" in done.stderr
