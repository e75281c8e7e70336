"""The lab's certificates, verified by OpenSSL in real handshakes."""

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
from provision.core.pki import CertificateAuthority
from provision.core.secrets import REDACTED, Secrets
from provision.engine.resources.certificate import certificate_difference

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


def handshake(lab: Path, name: str, server_name: str, ca: str, *, client: str = "") -> str:
    """Connect to a server with a certificate, under a host name or an address.

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
            with user.wrap_socket(there, server_hostname=server_name) as session:
                return "ok" if session.recv(5) == b"hello" else "no greeting"
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        except ssl.SSLError as error:
            return str(error)
        finally:
            there.close()
            thread.join()


# --- verification by a client --------------------------------------------------------------------


@pytest.mark.parametrize("server_name", ["192.168.56.11", "web-01", "web-01.foobar.com"])
def test_strict_client_accepts_name_and_address(lab: Path, server_name: str) -> None:
    authority = CertificateAuthority(lab)
    authority.issue(*WEB)
    assert handshake(lab, "web-01", server_name, authority.pem()) == "ok"


@pytest.mark.parametrize(
    "server_name", ["192.168.56.12", "web-02", "foobar.com", "x.web-01.foobar.com"]
)
def test_client_refuses_another_name(lab: Path, server_name: str) -> None:
    authority = CertificateAuthority(lab)
    authority.issue(*WEB)
    assert "mismatch" in handshake(lab, "web-01", server_name, authority.pem())


def test_ca_of_another_lab_is_not_trusted(lab: Path) -> None:
    CertificateAuthority(lab).issue(*WEB)
    other = CertificateAuthority(lab.with_name("other")).pem()
    assert "unable to get local issuer" in handshake(lab, "web-01", "web-01", other)


def test_replica_authenticates_with_its_own_certificate(lab: Path) -> None:
    authority = CertificateAuthority(lab)
    authority.issue(*WEB)
    authority.issue("web-02", [IPv4Address("192.168.56.12")], ["web-02"])
    assert handshake(lab, "web-01", "web-01", authority.pem(), client="web-02") == "ok"


def test_certificate_of_the_site(lab: Path) -> None:
    authority = CertificateAuthority(lab)
    authority.issue("www.foobar.com", names=["www.foobar.com", "foobar.com"])
    assert handshake(lab, "www.foobar.com", "www.foobar.com", authority.pem()) == "ok"
    assert handshake(lab, "www.foobar.com", "foobar.com", authority.pem()) == "ok"


def test_server_certificate_cannot_sign(lab: Path) -> None:
    cert = parsed(CertificateAuthority(lab).issue(*WEB)[0])
    assert cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert not cert.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    use = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(use) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def test_openssl_verifies_the_chain(lab: Path) -> None:
    CertificateAuthority(lab).issue(*WEB)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"]
    result = subprocess.run(
        [*command, lab / "ca.pem", lab / "certs" / "web-01.pem"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_validity(lab: Path) -> None:
    authority = CertificateAuthority(lab, at())
    leaf, root = parsed(authority.issue(*WEB)[0]), parsed(authority.pem())
    yesterday = NOW - timedelta(days=1)
    assert leaf.not_valid_before_utc == root.not_valid_before_utc == yesterday
    assert leaf.not_valid_after_utc == yesterday + timedelta(days=397)
    assert root.not_valid_after_utc > NOW + timedelta(days=3650)


def test_how_a_certificate_differs(lab: Path, tmp_path: Path) -> None:
    authority = CertificateAuthority(lab)
    expected = authority.issue(*WEB)[0]
    before, after = certificate_difference(authority.issue("old", *WEB[1:], days=12)[0], expected)
    assert (before.startswith("valid from "), before.endswith(", 11 days left")) == (True, True)
    assert (after.startswith("valid from "), after.endswith(", 396 days left")) == (True, True)
    other = authority.issue("web-02", [IPv4Address("192.168.56.12")], ["web-02"])[0]
    before, after = certificate_difference(other, expected)
    assert (before.startswith("for web-02, "), after.startswith("for web-01, ")) == (True, True)
    foreign = CertificateAuthority(tmp_path / "other").issue(*WEB)[0]
    before, after = certificate_difference(foreign, expected)
    assert before.startswith("issued by another authority, valid from ")
    assert after.startswith("valid from ")
    assert certificate_difference("", expected)[0] == ""
    assert certificate_difference("-----BEGIN", expected)[0] == "not a certificate"


# --- files ---------------------------------------------------------------------------------------


def test_files_and_modes(lab: Path) -> None:
    pem, key = CertificateAuthority(lab).issue(*WEB)
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
    _, key = CertificateAuthority(lab).issue(*WEB)
    shown = Secrets(lab).redact(key + (lab / "secrets" / "ca.key").read_text())
    lines = [line for line in shown.splitlines() if not line.startswith("-----")]
    assert set(lines) == {REDACTED}
    assert "two" in repr(CertificateAuthority(lab))
    assert key not in repr(CertificateAuthority(lab))


@pytest.mark.parametrize("name", ["ca", "", "../web", "Web", "web-01/x", "-web"])
def test_invalid_certificate_name(lab: Path, name: str) -> None:
    with pytest.raises(ValueError, match="invalid certificate name"):
        CertificateAuthority(lab).issue(name, names=["web-01"])


def test_certificate_without_names(lab: Path) -> None:
    with pytest.raises(ValueError, match="certificate web-01 needs an address"):
        CertificateAuthority(lab).issue("web-01")


# --- reuse and renewal --------------------------------------------------------------------------


def test_valid_certificate_is_reused(lab: Path) -> None:
    first = CertificateAuthority(lab, at()).issue(*WEB)
    name, addresses, names = WEB
    assert CertificateAuthority(lab, at(days=365)).issue(name, addresses, names[::-1]) == first


def test_renewed_with_less_than_30_days_left(lab: Path) -> None:
    first = CertificateAuthority(lab, at()).issue(*WEB)
    again = CertificateAuthority(lab, at(days=367)).issue(*WEB)
    assert again != first
    assert parsed(again[0]).not_valid_after_utc > NOW + timedelta(days=700)
    assert CertificateAuthority(lab, at(days=367)).issue(*WEB) == again


def test_replaced_for_other_names(lab: Path) -> None:
    authority = CertificateAuthority(lab)
    first = authority.issue(*WEB)
    name, addresses, names = WEB
    assert authority.issue(name, [IPv4Address("192.168.57.11")], names) != first
    assert authority.issue(name, addresses, names[:1]) != first
    assert handshake(lab, "web-01", "192.168.56.11", authority.pem()) == "ok"


def test_replaced_when_key_and_certificate_do_not_match(lab: Path) -> None:
    authority = CertificateAuthority(lab)
    authority.issue(*WEB)
    authority.issue("web-02", names=["web-02"])
    key = lab / "secrets" / "web-01.key"
    key.write_text((lab / "secrets" / "web-02.key").read_text())
    authority.issue(*WEB)
    assert handshake(lab, "web-01", "web-01", authority.pem()) == "ok"


@pytest.mark.parametrize("file", ["certs/web-01.pem", "secrets/web-01.key"])
@pytest.mark.parametrize("text", [None, "", "rubbish\n"])
def test_replaced_when_a_file_is_missing_or_damaged(lab: Path, file: str, text: str | None) -> None:
    authority = CertificateAuthority(lab)
    first = authority.issue(*WEB)
    (lab / file).unlink()
    if text is not None:
        (lab / file).write_text(text)
        (lab / file).chmod(0o600)
    assert authority.issue(*WEB) != first
    assert handshake(lab, "web-01", "web-01", authority.pem()) == "ok"


def test_replaced_by_a_new_ca(lab: Path) -> None:
    first = CertificateAuthority(lab).issue(*WEB)
    (lab / "ca.pem").unlink()
    (lab / "secrets" / "ca.key").unlink()
    assert CertificateAuthority(lab).issue(*WEB) != first
    assert handshake(lab, "web-01", "web-01", CertificateAuthority(lab).pem()) == "ok"


def test_replaced_when_older_than_its_ca(lab: Path) -> None:
    first = CertificateAuthority(lab, at()).issue(*WEB)
    (lab / "ca.pem").unlink()  # the same key signs a new one, a minute later
    later = CertificateAuthority(lab, at(minutes=1))
    again = later.issue(*WEB)
    assert again != first
    assert parsed(again[0]).not_valid_before_utc >= parsed(later.pem()).not_valid_before_utc


def test_several_threads_get_one_certificate(lab: Path) -> None:
    issued: list[tuple[str, str]] = []
    threads = [
        threading.Thread(target=lambda: issued.append(CertificateAuthority(lab).issue(*WEB)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(issued) == 6
    assert len(set(issued)) == 1


# --- errors -------------------------------------------------------------------------------------


def error_of(authority: CertificateAuthority) -> LabError:
    with pytest.raises(LabError) as caught:
        authority.issue(*WEB)
    with pytest.raises(LabError) as again:
        authority.pem()
    assert str(caught.value) == str(again.value)
    return caught.value


def test_missing_ca_key(lab: Path) -> None:
    CertificateAuthority(lab).issue(*WEB)
    (lab / "secrets" / "ca.key").unlink()
    error = error_of(CertificateAuthority(lab))
    assert f"CA is missing: {lab}/secrets/ca.key" in error.what
    assert f"rm -f {lab}/secrets/ca.key {lab}/ca.pem && invoke lab.up (" in error.hint
    assert not (lab / "secrets" / "ca.key").exists()


@pytest.mark.parametrize("file", ["ca.key", "web-01.key"])
def test_key_accessible_to_others(lab: Path, file: str) -> None:
    authority = CertificateAuthority(lab)
    first = authority.issue(*WEB)
    (lab / "secrets" / file).chmod(0o644)
    with pytest.raises(LabError, match="other users can access") as caught:
        authority.issue(*WEB)
    assert caught.value.hint == shlex.join(["chmod", "600", str(lab / "secrets" / file)])
    subprocess.run(caught.value.hint, shell=True, check=True)
    assert authority.issue(*WEB) == first


def test_damaged_ca_key(lab: Path) -> None:
    CertificateAuthority(lab).issue(*WEB)
    (lab / "secrets" / "ca.key").write_text("-----BEGIN PRIVATE KEY-----\n")
    assert "ca.key is damaged" in error_of(CertificateAuthority(lab)).what


def test_ca_certificate_of_another_key(lab: Path) -> None:
    CertificateAuthority(lab).issue(*WEB)
    (lab / "ca.pem").write_text(CertificateAuthority(lab.with_name("other")).pem())
    error = error_of(CertificateAuthority(lab))
    assert "does not match the key" in error.what
    (lab / "ca.pem").unlink()  # as the hint says
    assert "rm " in error.hint
    CertificateAuthority(lab).issue(*WEB)
    assert handshake(lab, "web-01", "web-01", CertificateAuthority(lab).pem()) == "ok"


def test_clock_is_behind(lab: Path) -> None:
    CertificateAuthority(lab, at()).issue(*WEB)
    CertificateAuthority(lab, at(hours=-23)).issue(*WEB)  # within the backdated day
    error = error_of(CertificateAuthority(lab, at(days=-30)))
    assert "is valid from" in error.what
    assert f"clock shows {NOW - timedelta(days=30):%Y-%m-%d}" in error.what
    assert "timedatectl" in error.hint


def test_ca_expires(lab: Path) -> None:
    CertificateAuthority(lab, at()).issue(*WEB)
    late = CertificateAuthority(lab, at(days=3600)).issue(*WEB)
    assert (
        parsed(late[0]).not_valid_after_utc
        <= parsed((lab / "ca.pem").read_text()).not_valid_after_utc
    )
    error = error_of(CertificateAuthority(lab, at(days=3640)))
    assert "expires on" in error.what
    (lab / "ca.pem").unlink()  # as the hint says
    CertificateAuthority(lab, at(days=3640)).issue(*WEB)
