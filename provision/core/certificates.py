"""X.509 for the lab's authority (pki.py): how certificates are made, and what one says. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
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
class Pair:
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
        return key_text(self.key)


# --- making --------------------------------------------------------------------------------------


def new_key() -> EllipticCurvePrivateKey:
    """A private key on P-256."""
    return generate_private_key(SECP256R1())


def root(
    key: EllipticCurvePrivateKey, name: str, start: datetime, end: datetime
) -> x509.Certificate:
    """An authority's own certificate, which signs servers' certificates and no other authority's.

    Args:
        key: of the authority.
        name: of the authority.
        start: when it begins.
        end: when it ends.
    """
    subject = _subject(name)
    public = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        # RFC 5280 4.2.1.3: VERIFY_X509_STRICT, the default of Python 3.13, insists on it.
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    return builder.sign(key, SHA256())


def leaf(
    name: str, wanted: frozenset[str], start: datetime, end: datetime, authority: Pair
) -> Pair:
    """A new certificate for a server that is also a client, within its authority's time.

    Args:
        name: of the subject.
        wanted: names and addresses that a client may verify.
        start: when it begins, at the earliest.
        end: when it ends, at the latest.
        authority: who signs it.
    """
    key = new_key()
    issuer = authority.cert
    alternatives = x509.SubjectAlternativeName([_general(text) for text in sorted(wanted)])
    use = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    signer = authority.key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(start, issuer.not_valid_before_utc))
        .not_valid_after(min(end, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(use), critical=False)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )
    return Pair(key, builder.sign(authority.key, SHA256()))


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


def _general(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(IPv4Address(text))
    except ValueError:
        return x509.DNSName(text)


# --- understanding -------------------------------------------------------------------------------


def signed(cert: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether that authority signed it."""
    try:
        cert.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def common_name(cert: x509.Certificate) -> str:
    """Whom it is of."""
    found = cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else "nobody"


def certified(cert: x509.Certificate) -> frozenset[str]:
    """The names and addresses that it certifies."""
    try:
        found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    addresses = found.get_values_for_type(x509.IPAddress)
    return frozenset({*found.get_values_for_type(x509.DNSName), *map(str, addresses)})


def read_key(text: str) -> EllipticCurvePrivateKey | None:
    """A private key out of PEM; None when it is none on an elliptic curve."""
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, EllipticCurvePrivateKey) else None


def read_pair(key_pem: str | None, text: str | None) -> Pair | None:
    """Key and certificate, when both can be read and belong together."""
    key = read_key(key_pem) if key_pem else None
    if key is None or not text:
        return None
    try:
        cert = x509.load_pem_x509_certificate(text.encode())
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        same = cert.public_key().public_bytes(*form) == key.public_key().public_bytes(*form)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return Pair(key, cert) if same else None


def key_text(key: EllipticCurvePrivateKey) -> str:
    """A private key, as PEM (PKCS #8)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
