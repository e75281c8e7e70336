"""HTTPS: certificates and their successors, their files, clocks, configurations and checks."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509

from provision import checks
from provision.checks.observation import Observation
from provision.core import pki
from provision.core.errors import LabError
from provision.core.pki import CertificateAuthority
from provision.engine.agent.protocol import Results
from provision.engine.resources import File
from provision.engine.resources.files import Absent
from provision.services.firewall.agent.trial import FirewallFacts, firewall_probe
from provision.services.firewall.role import RULES
from provision.services.hardening import role as hardening
from provision.services.hardening.agent.sysctls import RECORD
from provision.services.hardening.resources import Sysctls
from provision.services.tls import feature as tls
from provision.services.tls import interface
from provision.services.tls.agent.probes import ClockReading
from provision.services.tls.clock import Clock, describe_skew, judge_skews
from provision.services.tls.https import SiteResponse, TlsHandshake
from tests.unit.samples import context

NOW = datetime.now(UTC).replace(microsecond=0)
SITE = ("www.foobar.com", [IPv4Address("192.168.56.10")], ["www.foobar.com", "lb-01"])


def at(days: float) -> Callable[[], datetime]:
    """A clock."""
    return lambda: NOW + timedelta(days=days)


def parsed(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


# --- renewal, with dates that are not today's ----------------------------------------------------


def test_the_successor_is_valid_before_the_certificate_expires(tmp_path: Path) -> None:
    pair = CertificateAuthority(tmp_path / "lab").issue_staged(*SITE)
    first, second = parsed(pair.certificate), parsed(pair.next_certificate)
    assert first.not_valid_before_utc < NOW < first.not_valid_after_utc
    overlap = first.not_valid_after_utc - second.not_valid_before_utc
    assert overlap > timedelta(days=interface.RENEWAL_DAYS)
    assert second.not_valid_after_utc - second.not_valid_before_utc == timedelta(
        days=pki.SERVER_DAYS
    )
    assert pair.key != pair.next_key


@pytest.mark.parametrize("days", [0, 1, 200, 365])
def test_valid_certificates_are_kept(tmp_path: Path, days: float) -> None:
    before = CertificateAuthority(tmp_path / "lab").issue_staged(*SITE)
    assert CertificateAuthority(tmp_path / "lab", at(days)).issue_staged(*SITE) == before


@pytest.mark.parametrize("days", [366.5, 380, 396, 420, 700])
def test_the_successor_replaces_a_certificate_before_or_after_it_expires(
    tmp_path: Path, days: float
) -> None:
    before = CertificateAuthority(tmp_path / "lab").issue_staged(*SITE)
    after = CertificateAuthority(tmp_path / "lab", at(days)).issue_staged(*SITE)
    assert (after.certificate, after.key) == (before.next_certificate, before.next_key)
    assert after.next_certificate != before.next_certificate
    assert parsed(after.next_certificate).not_valid_after_utc > NOW + timedelta(days=1000)


def test_after_two_years_both_are_issued_again(tmp_path: Path) -> None:
    before = CertificateAuthority(tmp_path / "lab").issue_staged(*SITE)
    after = CertificateAuthority(tmp_path / "lab", at(800)).issue_staged(*SITE)
    assert len({before.certificate, before.next_certificate, after.certificate}) == 3
    assert parsed(after.certificate).not_valid_before_utc < NOW + timedelta(days=800)


def test_both_are_issued_again_for_other_names(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path / "lab")
    before = authority.issue_staged(*SITE)
    after = authority.issue_staged(SITE[0], [IPv4Address("192.168.60.10")], SITE[2])
    assert after.certificate != before.certificate
    assert after.next_certificate != before.next_certificate


def test_nothing_is_issued_repeatedly_when_the_authority_expires_soon(tmp_path: Path) -> None:
    CertificateAuthority(tmp_path / "lab").pem()
    late = CertificateAuthority(tmp_path / "lab", at(3450))
    assert late.issue_staged(*SITE) == late.issue_staged(*SITE)


def test_renew_issues_both_again(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path / "lab")
    before = authority.issue_staged(*SITE)
    authority.discard(SITE[0])
    after = authority.issue_staged(*SITE)
    assert after.certificate != before.certificate
    assert after.next_certificate != before.next_certificate


def test_certificate_older_than_its_ca_is_replaced_and_noted(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path / "lab", at(-3))
    before = authority.issue_staged(*SITE)
    (
        tmp_path / "lab" / "ca.pem"
    ).unlink()  # issued again with the same key: newer than the certificates that it signed
    reissued = CertificateAuthority(tmp_path / "lab")
    assert reissued.issue_staged(*SITE).certificate != before.certificate
    assert re.fullmatch(
        r"the certificate of www\.foobar\.com \(valid from .*\) is older than its CA "
        r"\(valid from .*\): it was replaced",
        reissued.notes[0],
    )


# --- files on machines ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with real secrets."""
    return tmp_path_factory.mktemp("checkout")


@pytest.fixture(scope="module")
def desired(place: Path) -> dict[str, dict[str, File]]:
    """The files of every machine of the topology, by path."""
    secured = context("secured", root=place)
    return {
        machine.name: {
            resource.path: resource
            for unit in secured.desired(machine)
            for resource in unit.resources
            if isinstance(resource, File)
        }
        for machine in secured.lab.machines
    }


@pytest.mark.parametrize(
    ("machine", "names"),
    [
        ("lb-01", {"www.foobar.com", "foobar.com", "lb-01"}),
        ("web-01", {"web-01"}),
        ("web-02", {"web-02"}),
    ],
)
def test_names(desired: dict[str, dict[str, File]], machine: str, names: set[str]) -> None:
    for path in (interface.BUNDLE, tls.NEXT):
        cert = parsed(desired[machine][path].content)
        names_of = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert set(names_of.get_values_for_type(x509.DNSName)) == names
        address = context("secured").lab.machine(machine).address
        assert names_of.get_values_for_type(x509.IPAddress) == [address]


@pytest.mark.parametrize("machine", ["lb-01", "web-01", "web-02"])
def test_keys_are_secret_and_the_authoritys_stays_on_the_controller(
    desired: dict[str, dict[str, File]], place: Path, machine: str
) -> None:
    files = desired[machine]
    for path in (interface.BUNDLE, tls.NEXT):
        assert files[path].secret
        assert files[path].mode == "0600"
    assert "PRIVATE KEY" not in files[interface.CA].content
    authority = context("secured", root=place).authority.key_path.read_text()
    assert not any(authority in file.content for file in files.values())


def test_haproxy_verifies_each_web_server(desired: dict[str, dict[str, File]]) -> None:
    text = desired["lb-01"]["/etc/haproxy/haproxy.cfg"].content
    assert f"default-server ssl verify required ca-file {interface.CA}" in text
    for name in ("web-01", "web-02"):
        pattern = rf"(?m)server {name} \S+:443 .*verifyhost {name}$"
        assert re.search(pattern, text), text
    assert "ssl-min-ver TLSv1.2" in text
    assert "alpn h2,http/1.1" in text
    assert "set-header X-Forwarded-Proto https" in text


@pytest.mark.parametrize("machine", ["lb-01", "web-01", "web-02"])
def test_distributed_has_no_tls(machine: str) -> None:
    plain = context("distributed")
    for unit in plain.desired(plain.lab.machine(machine)):
        for resource in unit.resources:
            text = resource.content if isinstance(resource, File) else ""
            assert interface.FOLDER not in text, resource.name
            assert " ssl" not in text or "mysql" in resource.name, resource.name


# --- the clock, and the checks -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (0, "right"),
        (-60, "right"),
        (61, "61 seconds ahead"),
        (-300, "5 minutes behind"),
        (7300, "2 hours ahead"),
        (-86400 * 400, "400 days behind"),
    ],
)
def test_clock(ahead: float, words: str) -> None:
    assert describe_skew(ahead) == words


def test_a_wrong_clock_stops_the_run() -> None:
    past = NOW.timestamp() - 86400 * 30
    (difference,) = Clock().differences(ClockReading(past))
    assert difference.before == "30 days behind"
    (action,) = Clock().actions(ClockReading(past))
    assert action.do == "fail"
    assert "the machine's clock is 30 days behind" in action.args["reason"]
    secured = context("secured")
    first = secured.desired(secured.lab.machines[0])[0]
    assert first.name == "clock"


def verdict(name: str, observation: Observation) -> checks.Verdict:
    (check,) = [c for c in checks.checks(context("secured")) if c.name == name]
    return check.judge(observation)


@pytest.mark.parametrize(
    ("ahead", "message"),
    [
        ((-7200.0, -7201.0), "this computer's clock seems to be wrong"),
        ((-7200.0, 0.5), "that of lb-01 is 2 hours behind; certificates"),
        ((-7200.0, 400 * 86400.0), "that of lb-01 is 2 hours behind, that of web-01 is 400 days"),
    ],
)
def test_a_wrong_clock_is_reported_once(ahead: tuple[float, float], message: str) -> None:
    with pytest.raises(LabError) as caught:
        judge_skews(dict(zip(("lb-01", "web-01"), ahead, strict=True)))
    assert message in str(caught.value)
    assert "timedatectl" in str(caught.value)


def test_synchronized_clocks() -> None:
    judge_skews({"lb-01": 0.1, "web-01": -59.0})
    judge_skews({})


def test_a_certificate_that_was_not_renewed_fails_its_check() -> None:
    ends = NOW.timestamp() + 28 * 86400
    observation = Observation({}, tls=TlsHandshake("TLSv1.3", "TLS_AES_128_GCM_SHA256", ends))
    result = verdict("certificate", observation)
    assert (result.ok, result.got) == (False, "28 days left")
    assert verdict("https", observation).ok


@pytest.mark.parametrize(
    ("page", "ok"),
    [
        (SiteResponse(301, {"location": "https://www.foobar.com/"}), True),
        (SiteResponse(302, {"location": "https://www.foobar.com/"}), False),
        (SiteResponse(301, {"location": "http://www.foobar.com/"}), False),
        (SiteResponse(200, {}), False),
        (SiteResponse(error="timed out"), False),
    ],
)
def test_redirect(page: SiteResponse, ok: bool) -> None:
    assert verdict("redirect", Observation({}, responses={"redirect": page})).ok is ok


@pytest.mark.parametrize(
    ("listing", "unchanged", "got"),
    [
        ("table", True, "the confirmed rules are loaded"),
        ("", False, "no rules are loaded: all ports are open"),
        ("table", False, "the loaded rules were changed by hand"),
    ],
)
def test_a_firewall_that_was_flushed_or_changed_fails_its_check(
    listing: str, unchanged: bool, got: str
) -> None:
    facts = FirewallFacts(listing, unchanged, "", "")
    results = Results.of("web-01", {firewall_probe(RULES).name: facts})
    observation = Observation({}, {"web-01": results})
    assert verdict("firewall/web-01", observation).got == got
    assert verdict("firewall/web-01", observation).ok is unchanged
    assert not verdict("firewall/web-02", observation).ok


@pytest.mark.parametrize("machine", ["lb-01", "web-01", "web-02"])
def test_hardening_is_reverted(machine: str) -> None:
    here = context("secured").lab.machine(machine)
    brought = [r for u in hardening.units(context("secured"), here) for r in u.resources]
    undone = [r for u in hardening.absent(context("secured"), here) for r in u.resources]
    places = {r.marker for r in undone if isinstance(r, Absent)}
    for resource in brought:
        assert isinstance(resource, File | Sysctls)
        assert (resource.path if isinstance(resource, File) else RECORD) in places
    for unit in hardening.units(context("secured"), here):
        assert f"{hardening.STAMPS}/{unit.name}" in places


def test_databases_are_sandboxed_one_after_the_other_the_primary_last() -> None:
    serving = context("secured", primary="web-01", rolling=True)
    needs = {
        (m.name, unit.name): unit.needs
        for m in serving.lab.machines
        for unit in hardening.units(serving, m)
    }
    assert needs["web-01", "sandbox-mysql"] == ("web-02/sandbox-mysql",)
    assert needs["web-02", "sandbox-mysql"] == ()
    new = context("secured")
    assert not any(u.needs for m in new.lab.machines for u in hardening.units(new, m))
