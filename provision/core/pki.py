"""The lab's certificate authority (CA): for MySQL's TLS, and for HTTPS on both sides of HAProxy.

Private keys are secrets (``.lab/<lab>/secrets/*.key``, PKCS #8); certificates are not
(``.lab/<lab>/ca.pem``, ``.lab/<lab>/certs/*.pem``). A valid certificate is reused.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from provision.core import certificates
from provision.core.atomic import write_atomically
from provision.core.certificates import CertificateAndKey, is_signed_by, parse_pair
from provision.core.errors import LabError
from provision.core.files import read_private, read_text
from provision.core.locks import file_lock
from provision.core.secrets import Secrets

BACKDATED = timedelta(days=1)
"""New certificates are valid from yesterday on, for machines whose clock is behind."""

CA_DAYS = 3652
SERVER_DAYS = 397
"""Just below the 398 days that browsers accept (CA/Browser Forum, Baseline Requirements 6.3.2)."""

RENEW_BEFORE = timedelta(days=30)
"""A certificate is renewed when less than this is left."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?")
_TIME = "%Y-%m-%d %H:%M UTC"


@dataclass(frozen=True)
class StagedCertificate:
    """A server's certificate and its successor, each with its private key, as PEM.

    The machine switches to the successor when the first one is about to expire; it needs neither
    the controller nor a signing key for that.
    """

    certificate: str
    key: str
    next_certificate: str
    next_key: str

    def __repr__(self) -> str:
        return "StagedCertificate(…)"


@dataclass(frozen=True)
class CertificateDetails:
    """A certificate's human-readable content.

    Args:
        name: of its files.
        names: the host names and addresses of the subject, sorted.
        days: full days until it expires; negative afterwards.
        fingerprint: SHA-256.
    """

    name: str
    path: Path
    names: tuple[str, ...]
    start: datetime
    end: datetime
    days: int
    fingerprint: str


class CertificateAuthority:
    """The CA of one lab. Its files are created when the first certificate is needed.

    Args:
        directory: the lab's, ``.lab/<lab>``.
        clock: returns the current time, in UTC.
    """

    def __init__(
        self, directory: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.directory = directory
        self.key_path = directory / "secrets" / "ca.key"
        self.path = directory / "ca.pem"
        self.notes: list[str] = []
        """Problems that were found and fixed, human-readable."""
        self._clock = clock
        self._secrets = Secrets(directory)

    def __repr__(self) -> str:
        return f"CertificateAuthority({str(self.directory)!r})"

    def pem(self) -> str:
        """The CA's certificate.

        Raises:
            LabError: when the CA's key is missing or accessible to others, when the two do not
                match, when the certificate expires soon, or when it is not valid yet.
        """
        with file_lock(self._secrets.folder() / ".lock"):
            return self._ca().pem

    def issue(
        self,
        name: str,
        addresses: Iterable[IPv4Address] = (),
        names: Iterable[str] = (),
        days: int = SERVER_DAYS,
    ) -> tuple[str, str]:
        """A certificate for a server that is also a client (a replica is both), and its key.

        An existing certificate is reused while it has more than 30 days left, matches its key, is
        signed by this CA, and has exactly these names and addresses.

        Args:
            name: of the files and the subject: a machine, or a site such as www.foobar.com.
            days: validity of a new certificate, counted from yesterday.

        Returns:
            The certificate and its private key, as PEM.

        Raises:
            LabError: as `pem`, or when the private key's file is accessible to others.
        """
        if not _NAME.fullmatch(name) or name == "ca":
            raise ValueError(f"invalid certificate name {name!r}")
        alt_names = frozenset({*map(str, addresses), *names})
        if not alt_names:
            raise ValueError(f"certificate {name} needs an address or a host name")
        with file_lock(self._secrets.folder() / ".lock"):
            ca = self._ca()
            pair = self._load(name)
            if pair is None or not self._is_valid(pair, ca, alt_names):
                pair = self._issue(name, alt_names, days, ca)
                self._save(name, pair)
        return pair.pem, pair.key_pem

    def issue_staged(
        self,
        name: str,
        addresses: Iterable[IPv4Address] = (),
        names: Iterable[str] = (),
        days: int = SERVER_DAYS,
    ) -> StagedCertificate:
        """A certificate and its successor, which becomes valid before the first one expires.

        When the first has 30 days left, its successor replaces it and gets a successor itself.

        Args:
            name: as for `issue`; the successor's files are called ``NAME.next``.
            days: validity of each.

        Raises:
            LabError: as `issue`.
        """
        alt_names = frozenset({*map(str, addresses), *names})
        with file_lock(self._secrets.folder() / ".lock"):
            ca = self._ca()
            first, second = self._load(name), self._load(f"{name}.next")
            if first is None or not self._is_valid(first, ca, alt_names):
                if second is not None and self._is_valid(second, ca, alt_names):
                    first, second = second, None
                else:
                    first = self._issue(name, alt_names, days, ca)
                self._save(name, first)
            start = first.cert.not_valid_after_utc - RENEW_BEFORE - BACKDATED
            if second is None or not self._is_successor(second, start, ca, alt_names):
                second = self._issue(name, alt_names, days, ca, start)
                self._save(f"{name}.next", second)
        return StagedCertificate(first.pem, first.key_pem, second.pem, second.key_pem)

    def details(self, name: str) -> CertificateDetails | None:
        """The content of a certificate, ``ca`` for the CA's own; None if there is none."""
        path = self.path if name == "ca" else self._files(name)[1]
        text = read_text(path)
        if not text:
            return None
        cert = x509.load_pem_x509_certificate(text.encode())
        return CertificateDetails(
            name,
            path,
            tuple(sorted(certificates.alt_names(cert))),
            cert.not_valid_before_utc,
            cert.not_valid_after_utc,
            (cert.not_valid_after_utc - self._clock()).days,
            cert.fingerprint(SHA256()).hex(":").upper(),
        )

    def discard(self, name: str) -> None:
        """Delete a certificate and its successor, so that the next lab.up issues new ones."""
        with file_lock(self._secrets.folder() / ".lock"):
            for path in (*self._files(name), *self._files(f"{name}.next")):
                path.unlink(missing_ok=True)

    def _files(self, name: str) -> tuple[Path, Path]:
        directory = self.directory
        return directory / "secrets" / f"{name}.key", directory / "certs" / f"{name}.pem"

    def _load(self, name: str) -> CertificateAndKey | None:
        key_path, path = self._files(name)
        return parse_pair(read_private(key_path), read_text(path))

    def _save(self, name: str, pair: CertificateAndKey) -> None:
        key_path, path = self._files(name)
        write_atomically(key_path, pair.key_pem)
        write_atomically(path, pair.pem, 0o644)

    def _is_successor(
        self,
        pair: CertificateAndKey,
        start: datetime,
        ca: CertificateAndKey,
        alt_names: frozenset[str],
    ) -> bool:
        """Whether a certificate can replace one whose renewal begins at ``start``."""
        cert = pair.cert
        latest_start = min(start + timedelta(days=2), ca.cert.not_valid_after_utc)
        return (
            is_signed_by(cert, ca.cert)
            and cert.not_valid_before_utc <= latest_start
            and cert.not_valid_after_utc >= start + RENEW_BEFORE + BACKDATED
            and certificates.alt_names(cert) == alt_names
        )

    def _is_valid(
        self, pair: CertificateAndKey, ca: CertificateAndKey, alt_names: frozenset[str]
    ) -> bool:
        """Whether a certificate can be reused."""
        cert, now = pair.cert, self._clock()
        start, ca_start = cert.not_valid_before_utc, ca.cert.not_valid_before_utc
        if not is_signed_by(cert, ca.cert):
            return False
        if start < ca_start:
            self.notes.append(
                f"the certificate of {certificates.common_name(cert)} (valid from {start:{_TIME}}) "
                f"is older than its CA (valid from {ca_start:{_TIME}}): it was replaced"
            )
        return (
            ca_start <= start <= now
            and now + RENEW_BEFORE < cert.not_valid_after_utc <= ca.cert.not_valid_after_utc
            and certificates.alt_names(cert) == alt_names
        )

    def _issue(
        self,
        name: str,
        alt_names: frozenset[str],
        days: int,
        ca: CertificateAndKey,
        start: datetime | None = None,
    ) -> CertificateAndKey:
        start = start or self._clock().replace(microsecond=0) - BACKDATED
        end = start + timedelta(days=days)
        return certificates.new_server_certificate(name, alt_names, start, end, ca)

    def _ca(self) -> CertificateAndKey:
        """The CA's certificate and key, validated; created if neither exists."""
        key_text, cert_text = read_private(self.key_path), read_text(self.path)
        files = f"{shlex.quote(str(self.key_path))} {shlex.quote(str(self.path))}"
        restore = (
            "restore it from a copy; without one: "
            f"rm -f {files} && invoke lab.up (a new CA; all certificates are replaced)"
        )
        if key_text is None and cert_text is not None:
            raise LabError(f"the key of this lab's CA is missing: {self.key_path}", restore)
        key = certificates.new_key() if key_text is None else certificates.parse_key(key_text)
        if key is None:
            raise LabError(f"{self.key_path} is damaged: it is not an EC key in PEM", restore)
        if cert_text is None:
            # Write the key first: the certificate can be created from it, but not vice versa.
            if key_text is None:
                write_atomically(self.key_path, certificates.encode_key(key))
            start = self._clock().replace(microsecond=0) - BACKDATED
            name = f"foobar-lab {self.directory.name} CA"
            end = start + timedelta(days=CA_DAYS)
            cert = certificates.new_ca_certificate(key, name, start, end)
            pair = CertificateAndKey(key, cert)
            write_atomically(self.path, pair.pem, 0o644)
            return pair
        renew = f"rm {shlex.quote(str(self.path))} && invoke lab.up (issues it again from the key)"
        existing = parse_pair(key_text, cert_text)
        if existing is None:
            raise LabError(f"{self.path} does not match the key {self.key_path}", renew)
        self._require_valid_now(existing.cert, renew)
        return existing

    def _require_valid_now(self, cert: x509.Certificate, renew: str) -> None:
        now, start, end = self._clock(), cert.not_valid_before_utc, cert.not_valid_after_utc
        if now < start:
            raise LabError(
                f"the CA {self.path} is valid from {start:{_TIME}}, but this clock shows "
                f"{now:{_TIME}}: one of them is wrong",
                f"set the clock (timedatectl set-ntp true); if the clock is right: {renew}",
            )
        if now + RENEW_BEFORE >= end:
            raise LabError(
                f"the CA {self.path} expires on {end:{_TIME}} (this clock shows {now:{_TIME}})",
                f"if the clock is right: {renew}",
            )
