"""The lab's own certificate authority: for MySQL's TLS, and for HTTPS on both sides of HAProxy.

The private keys are secrets (``.lab/<lab>/secrets/*.key``, PKCS #8); the certificates are not
(``.lab/<lab>/ca.pem``, ``.lab/<lab>/certs/*.pem``). What is still good is used again.
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
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from provision.core import certificates, state
from provision.core.certificates import Pair, certified, read_key, read_pair, signed
from provision.core.errors import LabError
from provision.core.secrets import Secrets, read

BACKDATED = timedelta(days=1)
"""For machines whose clocks are behind."""

CA_DAYS = 3652
LEAF_DAYS = 397
"""Just below the 398 days that browsers accept (CA/Browser Forum, Baseline Requirements 6.3.2)."""

RENEW = timedelta(days=30)
"""A certificate with less left is made anew."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?")
_WHEN = "%Y-%m-%d %H:%M UTC"


@dataclass(frozen=True)
class Staged:
    """A certificate that serves, and the one that takes its place, each with its private key.

    The machine switches to the second by itself when the first is about to end, so that it needs
    neither the controller nor any key that signs.
    """

    certificate: str
    key: str
    next_certificate: str
    next_key: str

    def __repr__(self) -> str:
        return "Staged(…)"


@dataclass(frozen=True)
class Facts:
    """What a certificate says, for people.

    Args:
        name: as it is called in the lab's folder.
        path: its file.
        names: the names and addresses that it certifies, sorted.
        start: when it begins.
        end: when it ends.
        days: whole days that are left; negative afterwards.
        fingerprint: SHA-256 of it.
    """

    name: str
    path: Path
    names: tuple[str, ...]
    start: datetime
    end: datetime
    days: int
    fingerprint: str


class Authority:
    """The authority of one lab; its files are made when a certificate is first asked for.

    Args:
        directory: the lab's, ``.lab/<lab>``.
        now: the clock.
    """

    def __init__(self, directory: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)):
        self.directory = directory
        self.key_path = directory / "secrets" / "ca.key"
        self.path = directory / "ca.pem"
        self.notes: list[str] = []
        """What was found and mended on the way, for people."""
        self._now = now
        self._secrets = Secrets(directory)

    def __repr__(self) -> str:
        return f"Authority({str(self.directory)!r})"

    def pem(self) -> str:
        """The authority's certificate, for everybody who verifies.

        Raises:
            LabError: when its key is missing or open to others, when the two do not belong
                together, when it ends soon, or when this clock is before its beginning.
        """
        folder = self._secrets.folder()
        with state.guard(folder / ".lock"):
            return self._authority().pem

    def issue(
        self,
        name: str,
        addresses: Iterable[IPv4Address] = (),
        names: Iterable[str] = (),
        days: int = LEAF_DAYS,
    ) -> tuple[str, str]:
        """A certificate for a server that is also a client (a replica is both).

        Args:
            name: of the files and of the subject: a machine, or a site such as www.foobar.com.
            addresses: that a client may verify.
            names: that a client may verify.
            days: how long a new one is valid, from yesterday on. The one that is there is used
                again while it has more than 30 days left, belongs to its key and this authority,
                and has these very names.

        Returns:
            The certificate and its private key, as PEM.

        Raises:
            LabError: as `pem`, or when the private key's file is open to others.
        """
        if not _NAME.fullmatch(name) or name == "ca":
            raise ValueError(f"not a certificate's name: {name!r}")
        wanted = frozenset({*map(str, addresses), *names})
        if not wanted:
            raise ValueError(f"nothing to certify for {name}: no address and no name")
        folder = self._secrets.folder()
        with state.guard(folder / ".lock"):
            authority = self._authority()
            pair = self._load(name)
            if pair is None or not self._good(pair, authority, wanted):
                pair = self._leaf(name, wanted, days, authority)
                self._save(name, pair)
        return pair.pem, pair.key_pem

    def staged(
        self,
        name: str,
        addresses: Iterable[IPv4Address] = (),
        names: Iterable[str] = (),
        days: int = LEAF_DAYS,
    ) -> Staged:
        """A server's certificate, and its successor, which begins before the first one ends.

        When the first has 30 days left, its successor takes its place and gets one of its own.

        Args:
            name: as for `issue`; the successor's files are called ``NAME.next``.
            addresses: that a client may verify.
            names: that a client may verify.
            days: how long each is valid.

        Raises:
            LabError: as `issue`.
        """
        wanted = frozenset({*map(str, addresses), *names})
        folder = self._secrets.folder()
        with state.guard(folder / ".lock"):
            authority = self._authority()
            first, second = self._load(name), self._load(f"{name}.next")
            if first is None or not self._good(first, authority, wanted):
                if second is not None and self._good(second, authority, wanted):
                    first, second = second, None
                else:
                    first = self._leaf(name, wanted, days, authority)
                self._save(name, first)
            start = first.cert.not_valid_after_utc - RENEW - BACKDATED
            if second is None or not self._follows(second, start, authority, wanted):
                second = self._leaf(name, wanted, days, authority, start)
                self._save(f"{name}.next", second)
        return Staged(first.pem, first.key_pem, second.pem, second.key_pem)

    def fact(self, name: str) -> Facts | None:
        """What a certificate says, ``ca`` for the authority's own; None when there is none."""
        path = self.path if name == "ca" else self.directory / "certs" / f"{name}.pem"
        text = read(path, private=False)
        if not text:
            return None
        cert = x509.load_pem_x509_certificate(text.encode())
        return Facts(
            name,
            path,
            tuple(sorted(certified(cert))),
            cert.not_valid_before_utc,
            cert.not_valid_after_utc,
            (cert.not_valid_after_utc - self._now()).days,
            cert.fingerprint(SHA256()).hex(":").upper(),
        )

    def renew(self, name: str) -> None:
        """Forget a certificate and its successor, so that the next lab.up makes new ones."""
        folder = self._secrets.folder()
        with state.guard(folder / ".lock"):
            for each in (name, f"{name}.next"):
                for path in self._files(each):
                    path.unlink(missing_ok=True)

    def _files(self, name: str) -> tuple[Path, Path]:
        return self._secrets.folder() / f"{name}.key", self.directory / "certs" / f"{name}.pem"

    def _load(self, name: str) -> Pair | None:
        key_path, path = self._files(name)
        return read_pair(read(key_path), read(path, private=False))

    def _save(self, name: str, pair: Pair) -> None:
        key_path, path = self._files(name)
        state.write(key_path, pair.key_pem)
        state.write(path, pair.pem, 0o644)

    def _follows(
        self, pair: Pair, start: datetime, authority: Pair, wanted: frozenset[str]
    ) -> bool:
        """Whether a certificate is the successor of one that is replaced from ``start`` on."""
        cert = pair.cert
        latest = min(start + timedelta(days=2), authority.cert.not_valid_after_utc)
        return (
            signed(cert, authority.cert)
            and cert.not_valid_before_utc <= latest
            and cert.not_valid_after_utc >= start + RENEW + BACKDATED
            and certified(cert) == wanted
        )

    def _good(self, pair: Pair, authority: Pair, wanted: frozenset[str]) -> bool:
        """Whether a certificate can be used again."""
        cert, now = pair.cert, self._now()
        if not signed(cert, authority.cert):
            return False
        if cert.not_valid_before_utc < authority.cert.not_valid_before_utc:
            self.notes.append(
                f"the certificate of {certificates.common_name(cert)} (from "
                f"{cert.not_valid_before_utc:{_WHEN}}) is older than its authority (from "
                f"{authority.cert.not_valid_before_utc:{_WHEN}}): it was made anew"
            )
        return (
            authority.cert.not_valid_before_utc <= cert.not_valid_before_utc <= now
            and now + RENEW < cert.not_valid_after_utc <= authority.cert.not_valid_after_utc
            and certified(cert) == wanted
        )

    def _authority(self) -> Pair:
        """The authority's pair, checked; made when there is neither key nor certificate."""
        key_text, text = read(self.key_path), read(self.path, private=False)
        pem = shlex.quote(str(self.path))
        both = f"{shlex.quote(str(self.key_path))} {pem}"
        up = state.up(self.directory)
        anew = f"rm -f {both} && {up} (a new authority; all certificates are made anew)"
        if key_text is None and text is not None:
            raise LabError(
                f"the key of this lab's certificate authority is missing: {self.key_path}",
                f"put a copy of it back; without one: {anew}",
            )
        key = certificates.new_key() if key_text is None else read_key(key_text)
        if key is None:
            raise LabError(
                f"{self.key_path} is damaged: it is not an EC private key in PEM",
                f"put a copy of it back; without one: {anew}",
            )
        if text is None:
            # The key first: with it alone the certificate can be made, but not the other way round.
            if key_text is None:
                state.write(self.key_path, certificates.key_text(key))
            made = Pair(key, self._root(key))
            state.write(self.path, made.pem, 0o644)
            return made
        pair = read_pair(key_text, text)
        if pair is None:
            raise LabError(
                f"{self.path} is not a certificate of the key {self.key_path}",
                f"rm {pem} && {up} (it is made again from the key)",
            )
        self._in_time(pair.cert, f"rm {pem} && {up} (it is made again from the key)")
        return pair

    def _in_time(self, cert: x509.Certificate, renew: str) -> None:
        now = self._now()
        start, end = cert.not_valid_before_utc, cert.not_valid_after_utc
        if now < start:
            raise LabError(
                f"the certificate authority {self.path} is valid from {start:{_WHEN}}, but this "
                f"clock says {now:{_WHEN}}: one of them is wrong",
                f"set the clock (timedatectl set-ntp true); if the clock is right: {renew}",
            )
        if now + RENEW >= end:
            raise LabError(
                f"the certificate authority {self.path} ends on {end:{_WHEN}} (this clock says "
                f"{now:{_WHEN}})",
                f"if the clock is right: {renew}",
            )

    def _root(self, key: EllipticCurvePrivateKey) -> x509.Certificate:
        start = self._now().replace(microsecond=0) - BACKDATED
        name = f"foobar-lab {self.directory.name} CA"
        return certificates.root(key, name, start, start + timedelta(days=CA_DAYS))

    def _leaf(
        self,
        name: str,
        wanted: frozenset[str],
        days: int,
        authority: Pair,
        start: datetime | None = None,
    ) -> Pair:
        begin = start or self._now().replace(microsecond=0) - BACKDATED
        return certificates.leaf(name, wanted, begin, begin + timedelta(days=days), authority)
