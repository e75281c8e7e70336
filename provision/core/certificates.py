"""Create and read X.509 certificates; pure functions for `pki`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True, repr=False)
class CertificateAndKey:
    """A certificate and its private key."""

    key: EllipticCurvePrivateKey
    cert: x509.Certificate

    @property
    def pem(self) -> str:
        """The certificate, as PEM."""
        return self.cert.public_bytes(Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        """The private key, as PEM (PKCS #8)."""
        return encode_key(self.key)


# --- create --------------------------------------------------------------------------------------


def new_key() -> EllipticCurvePrivateKey:
    """A private key on P-256."""
    return generate_private_key(SECP256R1())


def new_ca_certificate(
    key: EllipticCurvePrivateKey, name: str, start: datetime, end: datetime
) -> x509.Certificate:
    """A self-signed CA certificate that may sign servers' certificates, but no other CA's."""
    public = key.public_key()
    builder = (
        _builder(name, public, _subject(name), start, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        # RFC 5280 4.2.1.3: VERIFY_X509_STRICT, the default of Python 3.13, requires it.
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    return builder.sign(key, SHA256())


def new_server_certificate(
    name: str, alt_names: frozenset[str], start: datetime, end: datetime, ca: CertificateAndKey
) -> CertificateAndKey:
    """A certificate for a server that is also a client; its validity is limited to the CA's.

    Args:
        name: of the subject.
        alt_names: the host names and addresses of the server.
    """
    key = new_key()
    issuer = ca.cert
    start, end = max(start, issuer.not_valid_before_utc), min(end, issuer.not_valid_after_utc)
    names = x509.SubjectAlternativeName([_general_name(text) for text in sorted(alt_names)])
    usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    signer = ca.key.public_key()
    builder = (
        _builder(name, key.public_key(), issuer.subject, start, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        .add_extension(names, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )
    return CertificateAndKey(key, builder.sign(ca.key, SHA256()))


def _builder(
    name: str,
    public: EllipticCurvePublicKey,
    issuer: x509.Name,
    start: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "foobar-lab"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(IPv4Address(text))
    except ValueError:
        return x509.DNSName(text)


# --- read ----------------------------------------------------------------------------------------


def is_signed_by(cert: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether a CA signed the certificate."""
    try:
        cert.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def common_name(cert: x509.Certificate) -> str:
    """The common name of the subject."""
    names = cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else "(no common name)"


def alt_names(cert: x509.Certificate) -> frozenset[str]:
    """The host names and addresses of the subject."""
    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    addresses = names.get_values_for_type(x509.IPAddress)
    return frozenset({*names.get_values_for_type(x509.DNSName), *map(str, addresses)})


def parse_key(text: str) -> EllipticCurvePrivateKey | None:
    """A private key from PEM; None unless it is an elliptic-curve key."""
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, EllipticCurvePrivateKey) else None


def parse_pair(key_pem: str | None, cert_pem: str | None) -> CertificateAndKey | None:
    """A certificate and its key from PEM; None if one is invalid or they do not match."""
    key = parse_key(key_pem) if key_pem else None
    if key is None or not cert_pem:
        return None
    try:
        cert = x509.load_pem_x509_certificate(cert_pem.encode())
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        same = cert.public_key().public_bytes(*form) == key.public_key().public_bytes(*form)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return CertificateAndKey(key, cert) if same else None


def encode_key(key: EllipticCurvePrivateKey) -> str:
    """A private key as PEM (PKCS #8)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
