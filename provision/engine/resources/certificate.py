"""How the certificate in a file differs from the expected one, in words."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509


def certificate_difference(actual: str, expected: str) -> tuple[str, str]:
    """Both certificates in words: names and issuer only where they differ, and validity.

    Args:
        actual: in PEM; empty when the file contains none.
        expected: in PEM; of the lab's authority.
    """
    cert, wanted = _parsed(actual), _parsed(expected)
    if cert is None or wanted is None:
        return _text(actual, cert), _text(expected, wanted)
    before, after = [validity(cert)], [validity(wanted)]
    names, wanted_names = _names(cert), _names(wanted)
    if names != wanted_names:
        before.insert(0, f"for {names}")
        after.insert(0, f"for {wanted_names}")
    if _authority(cert) != _authority(wanted):
        before.insert(0, "issued by another authority")
    return ", ".join(before), ", ".join(after)


def validity(cert: x509.Certificate) -> str:
    """The dates of a certificate, and how many days are left until its end."""
    dates = (cert.not_valid_before_utc, cert.not_valid_after_utc)
    first, last = (f"{date:%Y-%m-%d %H:%M} UTC" for date in dates)
    left = (cert.not_valid_after_utc - datetime.now(UTC)).total_seconds() / 86_400
    return f"valid from {first} to {last}, {left:.0f} days left"


def _parsed(pem: str) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return None


def _text(pem: str, cert: x509.Certificate | None) -> str:
    if cert is not None:
        return validity(cert)
    return "not a certificate" if pem else ""


def _names(cert: x509.Certificate) -> str:
    try:
        extension = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound):
        return "no name"
    return ", ".join(extension.value.get_values_for_type(x509.DNSName)) or "no name"


def _authority(cert: x509.Certificate) -> bytes | None:
    """The key identifier of the issuer; None for a certificate without one."""
    try:
        extension = cert.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (ValueError, x509.ExtensionNotFound):
        return None
    return extension.value.key_identifier
