"""HTTPS: certificates with successors, where they are put, and what the configurations say."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509

from provision import checks
from provision import registry as roles
from provision.checks import secured
from provision.checks.observation import Page, Seen
from provision.core import pki
from provision.core.errors import LabError
from provision.core.pki import Authority
from provision.engine.resources import File
from provision.engine.resources.files import Absent
from provision.services.hardening import role as hardening
from provision.services.tls import clocks
from provision.services.tls import role as tls
from provision.services.tls.https import Shown
from provision.services.tls.resources import Clock, clock_words
from tests.unit.samples import context

NOW = datetime.now(UTC).replace(microsecond=0)
SITE = ("www.foobar.com", [IPv4Address("192.168.56.10")], ["www.foobar.com", "lb-01"])


def at(days: float) -> Callable[[], datetime]:
    """A clock."""
    return lambda: NOW + timedelta(days=days)


def parsed(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


# --- renewal, with dates that are not today's ----------------------------------------------------


def test_the_successor_begins_before_the_first_one_ends(tmp_path: Path) -> None:
    pair = Authority(tmp_path / "lab").staged(*SITE)
    first, second = parsed(pair.certificate), parsed(pair.next_certificate)
    assert first.not_valid_before_utc < NOW < first.not_valid_after_utc
    overlap = first.not_valid_after_utc - second.not_valid_before_utc
    assert overlap > timedelta(days=tls.DAYS)
    assert second.not_valid_after_utc - second.not_valid_before_utc == timedelta(days=pki.LEAF_DAYS)
    assert pair.key != pair.next_key


@pytest.mark.parametrize("days", [0, 1, 200, 365])
def test_good_certificates_stay(tmp_path: Path, days: float) -> None:
    before = Authority(tmp_path / "lab").staged(*SITE)
    assert Authority(tmp_path / "lab", at(days)).staged(*SITE) == before


@pytest.mark.parametrize("days", [366.5, 380, 396, 420, 700])
def test_before_or_after_its_end_the_successor_takes_over(tmp_path: Path, days: float) -> None:
    before = Authority(tmp_path / "lab").staged(*SITE)
    after = Authority(tmp_path / "lab", at(days)).staged(*SITE)
    assert (after.certificate, after.key) == (before.next_certificate, before.next_key)
    assert after.next_certificate != before.next_certificate
    assert parsed(after.next_certificate).not_valid_after_utc > NOW + timedelta(days=1000)


def test_after_two_years_both_are_new(tmp_path: Path) -> None:
    before = Authority(tmp_path / "lab").staged(*SITE)
    after = Authority(tmp_path / "lab", at(800)).staged(*SITE)
    assert len({before.certificate, before.next_certificate, after.certificate}) == 3
    assert parsed(after.certificate).not_valid_before_utc < NOW + timedelta(days=800)


def test_other_names_make_both_anew(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "lab")
    before = authority.staged(*SITE)
    after = authority.staged(SITE[0], [IPv4Address("192.168.60.10")], SITE[2])
    assert after.certificate != before.certificate
    assert after.next_certificate != before.next_certificate


def test_near_the_authoritys_end_nothing_is_made_again_and_again(tmp_path: Path) -> None:
    Authority(tmp_path / "lab").pem()
    late = Authority(tmp_path / "lab", at(3450))
    assert late.staged(*SITE) == late.staged(*SITE)


def test_renew_makes_both_anew(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "lab")
    before = authority.staged(*SITE)
    authority.renew(SITE[0])
    after = authority.staged(*SITE)
    assert after.certificate != before.certificate
    assert after.next_certificate != before.next_certificate


def test_a_certificate_older_than_its_authority_is_made_anew_and_told(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "lab", at(-3))
    before = authority.staged(*SITE)
    (tmp_path / "lab" / "ca.pem").unlink()  # made again from its key: younger than what it signed
    now = Authority(tmp_path / "lab")
    assert now.staged(*SITE).certificate != before.certificate
    assert re.fullmatch(
        r"the certificate of www\.foobar\.com \(from .*\) is older than its authority "
        r"\(from .*\): it was made anew",
        now.notes[0],
    )


# --- where it is put -----------------------------------------------------------------------------


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
            for unit in roles.desired(secured, machine)
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
    for path in (tls.BUNDLE, tls.NEXT):
        cert = parsed(desired[machine][path].content)
        found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert set(found.get_values_for_type(x509.DNSName)) == names
        address = context("secured").lab.machine(machine).address
        assert found.get_values_for_type(x509.IPAddress) == [address]


@pytest.mark.parametrize("machine", ["lb-01", "web-01", "web-02"])
def test_keys_are_secret_and_the_authoritys_stays_here(
    desired: dict[str, dict[str, File]], place: Path, machine: str
) -> None:
    files = desired[machine]
    for path in (tls.BUNDLE, tls.NEXT):
        assert files[path].secret
        assert files[path].mode == "0600"
    assert "PRIVATE KEY" not in files[tls.CA].content
    authority = context("secured", root=place).authority.key_path.read_text()
    assert not any(authority in file.content for file in files.values())


def test_haproxy_verifies_each_web_server(desired: dict[str, dict[str, File]]) -> None:
    text = desired["lb-01"]["/etc/haproxy/haproxy.cfg"].content
    assert f"default-server ssl verify required ca-file {tls.CA}" in text
    for name in ("web-01", "web-02"):
        pattern = rf"(?m)server {name} \S+:443 .*verifyhost {name}$"
        assert re.search(pattern, text), text
    assert "ssl-min-ver TLSv1.2" in text
    assert "alpn h2,http/1.1" in text
    assert "set-header X-Forwarded-Proto https" in text


@pytest.mark.parametrize("machine", ["lb-01", "web-01", "web-02"])
def test_distributed_knows_nothing_of_it(machine: str) -> None:
    plain = context("distributed")
    for unit in roles.desired(plain, plain.lab.machine(machine)):
        for resource in unit.resources:
            text = resource.content if isinstance(resource, File) else ""
            assert tls.FOLDER not in text, resource.name
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
    assert clock_words(ahead) == words


def test_a_wrong_clock_stops_the_run() -> None:
    past = NOW.timestamp() - 86400 * 30
    (difference,) = Clock().differences({"now": past})
    assert difference.before == "30 days behind"
    (action,) = Clock().actions({"now": past})
    assert action["do"] == "refuse"
    assert "the machine's clock is 30 days behind" in action["why"]
    secured = context("secured")
    first = roles.desired(secured, secured.lab.machines[0])[0]
    assert first.name == "clock"


def verdict(name: str, seen: Seen) -> checks.Verdict:
    (found,) = [c for c in secured.checks(context("secured")) if c.name == name]
    return found.judge(seen)


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        ((-7200.0, -7201.0), "this computer's clock is wrong, it seems: those of all machines are"),
        ((-7200.0, 0.5), "that of lb-01 is 2 hours behind; certificates"),
        ((-7200.0, 400 * 86400.0), "that of lb-01 is 2 hours behind, that of web-01 is 400 days"),
    ],
)
def test_a_wrong_clock_is_told_once(ahead: tuple[float, float], said: str) -> None:
    with pytest.raises(LabError) as caught:
        clocks.judge(dict(zip(("lb-01", "web-01"), ahead, strict=True)))
    assert said in str(caught.value)
    assert "timedatectl" in str(caught.value)


def test_clocks_that_agree() -> None:
    clocks.judge({"lb-01": 0.1, "web-01": -59.0})
    clocks.judge({})


def test_a_certificate_that_nobody_renewed_fails_its_check() -> None:
    ends = NOW.timestamp() + 28 * 86400
    seen = Seen({}, tls=Shown("TLSv1.3", "TLS_AES_128_GCM_SHA256", ends))
    found = verdict("certificate", seen)
    assert (found.ok, found.got) == (False, "28 days left")
    assert verdict("https", seen).ok


@pytest.mark.parametrize(
    ("page", "ok"),
    [
        (Page(301, {"location": "https://www.foobar.com/"}), True),
        (Page(302, {"location": "https://www.foobar.com/"}), False),
        (Page(301, {"location": "http://www.foobar.com/"}), False),
        (Page(200, {}), False),
        (Page(error="timed out"), False),
    ],
)
def test_redirect(page: Page, ok: bool) -> None:
    assert verdict("redirect", Seen({}, pages={"redirect": page})).ok is ok


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        ({"listing": "table", "unchanged": True}, "loaded, as it was confirmed"),
        ({"listing": "", "unchanged": False}, "no rules are loaded: everything is open"),
        ({"listing": "table", "unchanged": False}, "the loaded rules were changed by hand"),
    ],
)
def test_a_firewall_that_was_flushed_or_changed_fails_its_check(
    answer: dict[str, object], got: str
) -> None:
    seen = Seen({}, {"web-01": {"firewall": [answer]}})
    assert verdict("firewall/web-01", seen).got == got
    assert verdict("firewall/web-01", seen).ok is (got == "loaded, as it was confirmed")
    assert not verdict("firewall/web-02", seen).ok


@pytest.mark.parametrize("machine", ["lb-01", "web-01", "web-02"])
def test_hardening_is_taken_back(machine: str) -> None:
    here = context("secured").lab.machine(machine)
    brought = [r for u in hardening.units(context("secured"), here) for r in u.resources]
    undone = [r for u in hardening.absent(context("secured"), here) for r in u.resources]
    places = {r.place() for r in undone if isinstance(r, Absent)}
    for resource in brought:
        assert isinstance(resource, File)
        assert resource.path in places
    for unit in hardening.units(context("secured"), here):
        assert f"{hardening.STAMPS}/{unit.name}" in places


def test_databases_are_confined_one_after_the_other_the_primary_last() -> None:
    serving = context("secured", primary="web-01", rolling=True)
    found = {
        (m.name, unit.name): unit.needs
        for m in serving.lab.machines
        for unit in hardening.units(serving, m)
    }
    assert found["web-01", "sandbox-mysql"] == ("web-02/sandbox-mysql",)
    assert found["web-02", "sandbox-mysql"] == ()
    new = context("secured")
    assert not any(u.needs for m in new.lab.machines for u in hardening.units(new, m))
