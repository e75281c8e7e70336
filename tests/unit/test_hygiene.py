"""TLS profile, security headers, redirects, ETags, sshd's forwarding, kernel parameters, holds."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from provision import topology
from provision.checks.machines import judge_service
from provision.core import headers
from provision.core.lab import Machine
from provision.database.role import HELD
from provision.engine.agent.packages import HeldFacts
from provision.engine.agent.services import ServiceState
from provision.engine.agent.trees import content_time, tree_digest
from provision.engine.context import Context
from provision.engine.resources import HeldPackages
from provision.engine.resources.files import Tree
from provision.services.hardening import role as hardening
from provision.services.hardening.agent.sysctls import SysctlFacts
from provision.services.hardening.resources import Sysctls
from provision.services.tls import interface as tls
from tests.unit.samples import context

SECURED = context("secured")


def content(lab: Context, machine: str, path: str) -> str:
    """The text of a file that the lab declares."""
    for unit in lab.desired(lab.lab.machine(machine)):
        for resource in unit.resources:
            if getattr(resource, "path", "") == path and hasattr(resource, "content"):
                return str(resource.content)
    raise AssertionError(f"{machine} has no {path}")


HAPROXY = content(SECURED, "lb-01", "/etc/haproxy/haproxy.cfg")
NGINX = content(SECURED, "web-01", "/etc/nginx/sites-available/www")


# --- TLS -----------------------------------------------------------------------------------------


def test_both_hops_have_one_profile_with_post_quantum_key_exchange() -> None:
    assert tls.GROUPS.startswith("X25519MLKEM768:X25519:")
    for option in ("bind", "server"):
        assert f"ssl-default-{option}-curves {tls.GROUPS}\n" in HAPROXY
        assert f"ssl-default-{option}-ciphers {tls.CIPHERS}\n" in HAPROXY
        assert f"ssl-default-{option}-ciphersuites {tls.SUITES}\n" in HAPROXY
    assert f"ssl_ecdh_curve {tls.GROUPS};" in NGINX
    assert f"ssl_ciphers {tls.CIPHERS};" in NGINX
    assert "ssl_prefer_server_ciphers off;" in NGINX
    assert "ssl-default-bind-options prefer-client-ciphers ssl-min-ver TLSv1.2" in HAPROXY
    assert tls.CIPHERS.count(":") == 5
    assert "DHE-RSA" not in tls.CIPHERS.replace("ECDHE-RSA", "")


def test_the_age_of_hsts_is_a_value_of_the_topology(tmp_path: Path) -> None:
    assert SECURED.lab.topology.hsts_age == 86400
    assert 'Strict-Transport-Security "max-age=86400; includeSubDomains"' in HAPROXY
    lab = SECURED.lab
    longer = replace(lab, topology=replace(lab.topology, hsts_age=63072000))
    changed = Context(longer, SECURED.state, SECURED.roles)
    changed.__dict__["secrets"], changed.__dict__["authority"] = SECURED.secrets, SECURED.authority
    assert "max-age=63072000;" in content(changed, "lb-01", "/etc/haproxy/haproxy.cfg")
    text = lab.topology.path.read_text()
    custom = tmp_path / "custom.yml"
    custom.write_text(re.sub(r"hsts_age: \d+", "hsts_age: 0", text))
    assert topology.load(custom).hsts_age == 0
    custom.write_text(re.sub(r"hsts_age: \d+", "hsts_age: soon", text))
    with pytest.raises(Exception, match=r"hsts_age: .*an integer from 0 to"):
        topology.load(custom)


# --- HTTP ----------------------------------------------------------------------------------------


def test_plain_http_is_redirected_to_the_sites_own_name() -> None:
    assert "redirect location https://www.foobar.com%[pathq] code 301 unless { ssl_fc }" in HAPROXY
    assert "redirect scheme" not in HAPROXY
    assert "absolute_redirect off;" in NGINX


def test_own_responses_have_the_security_headers() -> None:
    names = ("Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy")
    for name in names:
        assert re.search(rf"(?m)^    add_header {name} \$own_\w+ always;$", NGINX)
        assert f"http-after-response set-header {name} " in HAPROXY
    # RFC 9110, 15.5.6: the 405 for TRACE, which never reaches the application.
    assert "    add_header Allow $trace_allow always;" in NGINX
    # A location with an add_header of its own would inherit none of these (nginx.org, add_header).
    # The others: X-Served-By, Allow, Retry-After.
    assert NGINX.count("add_header") == len(names) + 3
    style = headers.policy_with_styles("<style>p { }</style>", "<style>p { }</style>")
    assert style.count("'sha256-") == 1
    assert headers.policy_with_styles("no style") == headers.POLICY
    assert re.search(r"style-src 'sha256-[\w+/]{43}='", NGINX)


def test_the_favicon_has_the_type_of_its_content() -> None:
    block = NGINX[NGINX.index("location = /favicon.ico") :]
    assert "types { }" in block[: block.index("default_type image/svg+xml")]


def test_the_same_content_has_the_same_etag_everywhere(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    first = Tree(str(tmp_path), (("a.css", False, b"p { }"), ("b.css", False, b"q { }")))
    times = {}
    for name, _, data in first.files:
        path = tmp_path / name
        path.write_bytes(data)
        times[name] = content_time(first_digest(data))
        os.utime(path, (times[name], times[name]))
    assert times["a.css"] != times["b.css"]
    assert tree_digest(str(tmp_path)) == first.digest
    os.utime(tmp_path / "a.css")
    assert tree_digest(str(tmp_path)) != first.digest


def first_digest(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def test_a_tree_is_sent_with_the_times_of_its_content() -> None:
    import base64
    import io
    import tarfile

    (action,) = Tree("/srv/x", (("a", False, b"text"),)).actions(None)  # type: ignore[arg-type]
    packed = io.BytesIO(base64.b64decode(action.args["tar"]))
    with tarfile.open(fileobj=packed) as archive:
        assert archive.getmember("a").mtime == content_time(first_digest(b"text"))


# --- machines ------------------------------------------------------------------------------------


def test_the_name_server_tells_nothing_about_itself() -> None:
    assert "\nno-ident\n" in content(SECURED, "lb-01", "/etc/dnsmasq.d/lab.conf")


def test_sshd_forwards_only_to_machines_behind_a_jump_host() -> None:
    assert "\nAllowTcpForwarding no\n" in content(SECURED, "web-01", hardening.SSHD)
    lab = SECURED.lab
    machines = tuple(behind(m) if m.name == "web-02" else m for m in lab.machines)
    moved = replace(lab, topology=replace(lab.topology, machines=machines))
    jumping = Context(moved, SECURED.state, SECURED.roles)
    jumping.__dict__["secrets"], jumping.__dict__["authority"] = SECURED.secrets, SECURED.authority
    text = content(jumping, "lb-01", hardening.SSHD)
    assert "AllowTcpForwarding local\nPermitOpen 10.0.0.12:2222\n" in text
    assert "AllowTcpForwarding no" in content(jumping, "web-01", hardening.SSHD)


def behind(machine: Machine) -> Machine:
    ssh = (("address", "10.0.0.12"), ("jump", "admin@lb-01:22"), ("port", "2222"))
    return replace(machine, ssh=ssh)


def test_kernel_parameters_that_deviate_are_named() -> None:
    resource = Sysctls(tuple(hardening.SYSCTLS.items()))
    good = {"net.ipv4.conf.all.rp_filter": "1", "net.ipv4.conf.eth0.send_redirects": "0"}
    assert resource.actual(SysctlFacts(good)) == resource.expected()
    bad = SysctlFacts({**good, "net.ipv4.conf.eth0.accept_redirects": "1"})
    assert resource.actual(bad) == {"deviating": "net.ipv4.conf.eth0.accept_redirects = 1"}
    names = {u.name for u in SECURED.desired(SECURED.lab.machine("web-01"))}
    assert "sysctls" in names
    plain = context()
    removed = [r.name for u in plain.desired(plain.lab.machine("web-01")) for r in u.resources]
    assert "no kernel parameters" in removed


def test_kernel_parameters_of_all_and_default_are_set_by_name() -> None:
    """Debian's 50-default.conf excludes ``all`` from patterns and sets ``default`` by name."""
    lines = hardening.sysctl_lines().splitlines()
    for pattern in (name for name in hardening.SYSCTLS if ".*." in name):
        written = [line for line in lines if line.endswith(f"= {hardening.SYSCTLS[pattern]}")]
        for interface in ("all", "default", "*"):
            name = pattern.replace(".*.", f".{interface}.")
            assert sum(line.startswith(f"{name} =") for line in written) == 1
    assert len(lines) == len(set(lines))


def test_the_packages_of_mysql_are_held() -> None:
    assert set(HELD) >= {"mysql-server", "mysql-server-core", "mysql-client"}
    resource = HeldPackages(HELD)
    assert resource.actual(HeldFacts(HELD)) == resource.expected()
    assert resource.actual(HeldFacts(HELD[1:]))[HELD[0]] == "not held"
    resources = [r for u in SECURED.desired(SECURED.lab.machine("web-01")) for r in u.resources]
    assert resource in resources


def test_a_service_that_is_not_installed_is_fixed_by_lab_up() -> None:
    verdict = judge_service("mysql", ServiceState("inactive", ""))
    assert (verdict.ok, verdict.cause) == (False, "mysql is not installed")
    assert verdict.hint == "invoke lab.up"
