"""The lab's certificates, judged by OpenSSL through real handshakes."""

from __future__ import annotations

import shlex
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from provision.core.errors import LabError
from provision.core.pki import Authority
from provision.core.secrets import HIDDEN, Secrets

WEB = ("web-01", [IPv4Address("192.168.56.11")], ["web-01", "web-01.foobar.com"])
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    return tmp_path / ".lab" / "two"


def at(**later: float) -> Callable[[], datetime]:
    """A clock."""
    return lambda: NOW + timedelta(**later)


def parsed(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def handshake(lab: Path, name: str, asked: str, ca: str, *, client: str = "") -> str:
    """Connect to a server with that certificate as if it were at ``asked``.

    Returns:
        ``ok``, or why the client refused.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(lab / "certs" / f"{name}.pem", lab / "secrets" / f"{name}.key")
    user = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    user.verify_flags |= ssl.VERIFY_X509_STRICT
    user.load_verify_locations(cadata=ca)
    assert user.check_hostname
    if client:
        server.verify_mode = ssl.CERT_REQUIRED
        server.verify_flags |= ssl.VERIFY_X509_STRICT
        server.load_verify_locations(cadata=ca)
        user.load_cert_chain(lab / "certs" / f"{client}.pem", lab / "secrets" / f"{client}.key")
    here, there = socket.socketpair()

    def serve() -> None:
        with here:
            try:
                with server.wrap_socket(here, server_side=True) as session:
                    session.sendall(b"hello")
            except (ssl.SSLError, OSError):
                return

    thread = threading.Thread(target=serve)
    thread.start()
    with there:
        try:
            with user.wrap_socket(there, server_hostname=asked) as session:
                return "ok" if session.recv(5) == b"hello" else "no greeting"
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        except ssl.SSLError as error:
            return str(error)
        finally:
            there.close()
            thread.join()


# --- what they are good for ----------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["192.168.56.11", "web-01", "web-01.foobar.com"])
def test_a_strict_client_accepts_name_and_address(lab: Path, asked: str) -> None:
    authority = Authority(lab)
    authority.issue(*WEB)
    assert handshake(lab, "web-01", asked, authority.pem()) == "ok"


@pytest.mark.parametrize("asked", ["192.168.56.12", "web-02", "foobar.com", "x.web-01.foobar.com"])
def test_nobody_else_can_pass_for_another(lab: Path, asked: str) -> None:
    authority = Authority(lab)
    authority.issue(*WEB)
    assert "mismatch" in handshake(lab, "web-01", asked, authority.pem())


def test_another_labs_authority_is_not_trusted(lab: Path) -> None:
    Authority(lab).issue(*WEB)
    other = Authority(lab.with_name("other")).pem()
    assert "unable to get local issuer" in handshake(lab, "web-01", "web-01", other)


def test_a_replica_shows_its_own_certificate(lab: Path) -> None:
    authority = Authority(lab)
    authority.issue(*WEB)
    authority.issue("web-02", [IPv4Address("192.168.56.12")], ["web-02"])
    assert handshake(lab, "web-01", "web-01", authority.pem(), client="web-02") == "ok"


def test_the_site_gets_one_from_the_same_authority(lab: Path) -> None:
    authority = Authority(lab)
    authority.issue("www.foobar.com", names=["www.foobar.com", "foobar.com"])
    assert handshake(lab, "www.foobar.com", "www.foobar.com", authority.pem()) == "ok"
    assert handshake(lab, "www.foobar.com", "foobar.com", authority.pem()) == "ok"


def test_a_server_cannot_issue_certificates(lab: Path) -> None:
    cert = parsed(Authority(lab).issue(*WEB)[0])
    assert cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert not cert.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    use = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(use) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def test_openssl_itself_verifies_the_chain(lab: Path) -> None:
    Authority(lab).issue(*WEB)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"]
    done = subprocess.run(
        [*command, lab / "ca.pem", lab / "certs" / "web-01.pem"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_how_long_they_last(lab: Path) -> None:
    authority = Authority(lab, at())
    leaf, root = parsed(authority.issue(*WEB)[0]), parsed(authority.pem())
    yesterday = NOW - timedelta(days=1)
    assert leaf.not_valid_before_utc == root.not_valid_before_utc == yesterday
    assert leaf.not_valid_after_utc == yesterday + timedelta(days=397)
    assert root.not_valid_after_utc > NOW + timedelta(days=3650)


# --- files ---------------------------------------------------------------------------------------


def test_where_they_are_and_who_may_read(lab: Path) -> None:
    pem, key = Authority(lab).issue(*WEB)
    assert (lab / "certs" / "web-01.pem").read_text() == pem
    assert (lab / "secrets" / "web-01.key").read_text() == key
    assert key.startswith("-----BEGIN PRIVATE KEY-----")  # PKCS #8
    modes = {
        str(p.relative_to(lab)): oct(p.stat().st_mode & 0o777) for p in lab.rglob("*.[pk]e[my]")
    }
    assert modes == {
        "ca.pem": "0o644",
        "certs/web-01.pem": "0o644",
        "secrets/ca.key": "0o600",
        "secrets/web-01.key": "0o600",
    }


def test_private_keys_are_redacted(lab: Path) -> None:
    _, key = Authority(lab).issue(*WEB)
    shown = Secrets(lab).redact(key + (lab / "secrets" / "ca.key").read_text())
    lines = [line for line in shown.splitlines() if not line.startswith("-----")]
    assert set(lines) == {HIDDEN}
    assert "two" in repr(Authority(lab))
    assert key not in repr(Authority(lab))


@pytest.mark.parametrize("name", ["ca", "", "../web", "Web", "web-01/x", "-web"])
def test_a_name_that_is_no_file(lab: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a certificate's name"):
        Authority(lab).issue(name, names=["web-01"])


def test_a_certificate_for_nobody(lab: Path) -> None:
    with pytest.raises(ValueError, match="nothing to certify for web-01"):
        Authority(lab).issue("web-01")


# --- used again, or made anew --------------------------------------------------------------------


def test_used_again_while_it_is_good(lab: Path) -> None:
    first = Authority(lab, at()).issue(*WEB)
    name, addresses, names = WEB
    assert Authority(lab, at(days=365)).issue(name, addresses, names[::-1]) == first


def test_made_anew_with_less_than_thirty_days(lab: Path) -> None:
    first = Authority(lab, at()).issue(*WEB)
    again = Authority(lab, at(days=367)).issue(*WEB)
    assert again != first
    assert parsed(again[0]).not_valid_after_utc > NOW + timedelta(days=700)
    assert Authority(lab, at(days=367)).issue(*WEB) == again


def test_made_anew_for_other_names(lab: Path) -> None:
    authority = Authority(lab)
    first = authority.issue(*WEB)
    name, addresses, names = WEB
    assert authority.issue(name, [IPv4Address("192.168.57.11")], names) != first
    assert authority.issue(name, addresses, names[:1]) != first
    assert handshake(lab, "web-01", "192.168.56.11", authority.pem()) == "ok"


def test_made_anew_when_key_and_certificate_do_not_match(lab: Path) -> None:
    authority = Authority(lab)
    authority.issue(*WEB)
    authority.issue("web-02", names=["web-02"])
    key = lab / "secrets" / "web-01.key"
    key.write_text((lab / "secrets" / "web-02.key").read_text())
    authority.issue(*WEB)
    assert handshake(lab, "web-01", "web-01", authority.pem()) == "ok"


@pytest.mark.parametrize("file", ["certs/web-01.pem", "secrets/web-01.key"])
@pytest.mark.parametrize("text", [None, "", "rubbish\n"])
def test_made_anew_when_a_file_is_lost_or_damaged(lab: Path, file: str, text: str | None) -> None:
    authority = Authority(lab)
    first = authority.issue(*WEB)
    (lab / file).unlink()
    if text is not None:
        (lab / file).write_text(text)
        (lab / file).chmod(0o600)
    assert authority.issue(*WEB) != first
    assert handshake(lab, "web-01", "web-01", authority.pem()) == "ok"


def test_made_anew_by_a_new_authority(lab: Path) -> None:
    first = Authority(lab).issue(*WEB)
    (lab / "ca.pem").unlink()
    (lab / "secrets" / "ca.key").unlink()
    assert Authority(lab).issue(*WEB) != first
    assert handshake(lab, "web-01", "web-01", Authority(lab).pem()) == "ok"


def test_made_anew_when_it_is_older_than_its_authority(lab: Path) -> None:
    first = Authority(lab, at()).issue(*WEB)
    (lab / "ca.pem").unlink()  # the same key signs a new one, a minute later
    later = Authority(lab, at(minutes=1))
    again = later.issue(*WEB)
    assert again != first
    assert parsed(again[0]).not_valid_before_utc >= parsed(later.pem()).not_valid_before_utc


def test_one_authority_for_several_threads(lab: Path) -> None:
    found: list[tuple[str, str]] = []
    threads = [
        threading.Thread(target=lambda: found.append(Authority(lab).issue(*WEB))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1


# --- what cannot be mended here ------------------------------------------------------------------


def refused(authority: Authority) -> LabError:
    with pytest.raises(LabError) as caught:
        authority.issue(*WEB)
    with pytest.raises(LabError) as again:
        authority.pem()
    assert str(caught.value) == str(again.value)
    return caught.value


def test_the_authoritys_key_is_missing(lab: Path) -> None:
    Authority(lab).issue(*WEB)
    (lab / "secrets" / "ca.key").unlink()
    error = refused(Authority(lab))
    assert f"certificate authority is missing: {lab}/secrets/ca.key" in error.what
    assert f"rm -f {lab}/secrets/ca.key {lab}/ca.pem && invoke lab.up --lab two" in error.advice
    assert not (lab / "secrets" / "ca.key").exists()


@pytest.mark.parametrize("file", ["ca.key", "web-01.key"])
def test_a_key_that_others_can_read(lab: Path, file: str) -> None:
    authority = Authority(lab)
    first = authority.issue(*WEB)
    (lab / "secrets" / file).chmod(0o644)
    with pytest.raises(LabError, match="other users can reach") as caught:
        authority.issue(*WEB)
    assert caught.value.advice == shlex.join(["chmod", "600", str(lab / "secrets" / file)])
    subprocess.run(caught.value.advice, shell=True, check=True)
    assert authority.issue(*WEB) == first


def test_the_authoritys_key_is_damaged(lab: Path) -> None:
    Authority(lab).issue(*WEB)
    (lab / "secrets" / "ca.key").write_text("-----BEGIN PRIVATE KEY-----\n")
    assert "ca.key is damaged" in refused(Authority(lab)).what


def test_the_authoritys_certificate_is_of_another_key(lab: Path) -> None:
    Authority(lab).issue(*WEB)
    (lab / "ca.pem").write_text(Authority(lab.with_name("other")).pem())
    error = refused(Authority(lab))
    assert "is not a certificate of the key" in error.what
    (lab / "ca.pem").unlink()  # as advised
    assert "rm " in error.advice
    Authority(lab).issue(*WEB)
    assert handshake(lab, "web-01", "web-01", Authority(lab).pem()) == "ok"


def test_a_clock_that_is_behind(lab: Path) -> None:
    Authority(lab, at()).issue(*WEB)
    Authority(lab, at(hours=-23)).issue(*WEB)  # a day is forgiven
    error = refused(Authority(lab, at(days=-30)))
    assert "is valid from" in error.what
    assert f"clock says {NOW - timedelta(days=30):%Y-%m-%d}" in error.what
    assert "timedatectl" in error.advice


def test_an_authority_that_ends(lab: Path) -> None:
    Authority(lab, at()).issue(*WEB)
    late = Authority(lab, at(days=3600)).issue(*WEB)
    assert (
        parsed(late[0]).not_valid_after_utc
        <= parsed((lab / "ca.pem").read_text()).not_valid_after_utc
    )
    error = refused(Authority(lab, at(days=3640)))
    assert "ends on" in error.what
    (lab / "ca.pem").unlink()  # as advised
    Authority(lab, at(days=3640)).issue(*WEB)
