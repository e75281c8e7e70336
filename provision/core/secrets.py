"""The secrets of a lab: its SSH key, its passwords, its private TLS keys.

They are files of mode 0600 in ``.lab/<lab>/secrets`` (0700), generated once and kept. Windows has
no modes; there the permissions of the checkout's folder protect them. A secret reaches a machine
only through stdin or a 0600 file; `Secrets.redact` removes secrets from text that is shown.
"""

from __future__ import annotations

import json
import os
import re
import secrets as random
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from provision.core.atomic import write_atomically
from provision.core.errors import LabError
from provision.core.files import cannot_read, read_private, read_text, require_private
from provision.core.locks import file_lock

SSH_KEY = "id_ed25519"
TEAM_KEY = "team_ed25519"
"""The key of the lab's team, in a class; it is authorized in addition to the lab's own."""

PASSWORDS = "passwords.json"
REDACTED = "********"
"""Replaces a secret in text that is shown."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Secrets:
    """The secrets of one lab. Files are created when they are first needed.

    Args:
        directory: the lab's, ``.lab/<lab>``.
    """

    def __init__(self, directory: Path) -> None:
        self.lab = directory
        self.directory = directory / "secrets"
        self._versions: tuple[tuple[str, int, int], ...] | None = None
        self._texts: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Secrets({str(self.lab)!r})"

    def ssh_key(self) -> Path:
        """The lab's private key (ed25519, OpenSSH format); ``.pub`` is next to it.

        Raises:
            LabError: when the key is damaged, accessible to others, or cannot be created.
        """
        return self._key(SSH_KEY, f"foobar-lab {self.lab.name}")

    def team_key(self) -> Path:
        """The private key of the lab's team, as `ssh_key`."""
        return self._key(TEAM_KEY, f"team of foobar-lab {self.lab.name}")

    def _key(self, name: str, comment: str) -> Path:
        path = self.folder() / name
        with file_lock(self.directory / ".lock"):
            text = read_private(path)
            if text is None:
                key = Ed25519PrivateKey.generate()
                form = (Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
                write_atomically(path, key.private_bytes(*form))
            else:
                key = self._parse_ssh_key(path, text)
            public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
            line = f"{public.decode()} {comment}\n"
            public_path = path.with_name(f"{path.name}.pub")
            if read_text(public_path) != line:
                write_atomically(public_path, line)
        return path

    def public_key(self) -> str:
        """The line for ``authorized_keys``, without a line end."""
        return _public_line(self.ssh_key())

    def authorized_keys(self) -> str:
        """The lines for ``authorized_keys``: the lab's key, and its team's when it has one."""
        keys = [self.ssh_key()]
        if (self.directory / TEAM_KEY).exists():
            keys.append(self.team_key())
        return "\n".join(map(_public_line, keys))

    def password(self, name: str) -> str:
        """The password for a purpose such as ``mysql-app``; generated on first use.

        Raises:
            LabError: when the password file is damaged, accessible to others, or not writable.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"invalid password name {name!r}")
        self.folder()
        passwords = self._passwords()
        if name in passwords:  # the file is replaced atomically, and no password is ever removed
            return passwords[name]
        with file_lock(self.directory / ".lock"):
            passwords = self._passwords()
            if name not in passwords:
                passwords[name] = _new_password()
                text = json.dumps(passwords, indent=2, sort_keys=True) + "\n"
                write_atomically(self.directory / PASSWORDS, text)
        return passwords[name]

    def texts(self) -> tuple[str, ...]:
        """Every secret text in the files, longest first: passwords, lines of private keys.

        Raises:
            LabError: when a file is damaged or accessible to others.
        """
        if not self.directory.is_dir():
            return ()
        texts = set(self._passwords().values())
        keys = [self.directory / name for name in (SSH_KEY, TEAM_KEY)]
        for path in (*keys, *self.directory.glob("*.key")):
            texts |= _key_lines(read_private(path) or "")
        return _longest_first(texts)

    def redact(self, text: str) -> str:
        """Replace every secret in a text by `REDACTED`.

        This never fails, because error messages pass through it: an unreadable file adds nothing
        to the secrets that this process has read before.
        """
        for secret in self._refreshed_texts():
            text = text.replace(secret, REDACTED)
        return text

    def folder(self) -> Path:
        """The directory of the secrets; created if it is missing.

        Raises:
            LabError: when it is accessible to others, or cannot be created.
        """
        try:
            self.lab.mkdir(parents=True, exist_ok=True)
            self.directory.mkdir(mode=0o700, exist_ok=True)
            mode = stat.S_IMODE(self.directory.stat().st_mode)
        except OSError as error:
            raise cannot_read(self.directory, error) from None
        require_private(self.directory, mode)
        return self.directory

    def _refreshed_texts(self) -> tuple[str, ...]:
        """All secrets; read again when a file has changed, since another process may add some."""
        try:
            with os.scandir(self.directory) as entries:
                infos = [(e.name, e.stat()) for e in entries if not e.name.startswith(".")]
            versions = tuple(sorted((name, i.st_mtime_ns, i.st_size) for name, i in infos))
            if versions != self._versions:
                self._texts = _longest_first({*self.texts(), *self._texts})
                self._versions = versions
        except (OSError, LabError):
            pass
        return self._texts

    def _passwords(self) -> dict[str, str]:
        path = self.directory / PASSWORDS
        text = read_private(path)
        if text is None:
            return {}
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            data = None
        if isinstance(data, dict) and all(
            _NAME.fullmatch(k) and isinstance(v, str) and len(v) >= 8 for k, v in data.items()
        ):
            return data
        raise LabError(
            f"{path} is damaged: it is not a JSON object of names and passwords",
            f"rm {shlex.quote(str(path))} && invoke lab.up (new passwords are generated and set)",
        )

    def _parse_ssh_key(self, path: Path, text: str) -> Ed25519PrivateKey:
        try:
            key = load_ssh_private_key(text.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if isinstance(key, Ed25519PrivateKey):
            return key
        raise LabError(
            f"{path} is damaged: it is not an ed25519 private key in OpenSSH format",
            f"restore it from a copy; without one: rm -f {shlex.quote(str(path))}, then for each "
            "machine invoke lab.rescue MACHINE --fix, which authorizes a new key",
        )


def _public_line(path: Path) -> str:
    return (read_text(path.with_name(f"{path.name}.pub")) or "").strip()


def _new_password() -> str:
    """32 characters, the maximum of CHANGE REPLICATION SOURCE (MySQL 9.7 manual, 15.4.2.2).

    The password has each of the classes that MySQL's validate_password requires, and starts with
    a letter, so that no program parses it as an option.
    """
    while True:
        password = random.token_urlsafe(24)
        classes = (r"[a-z]", r"[A-Z]", r"[0-9]", r"[_-]")
        if password[0].isalpha() and all(re.search(c, password) for c in classes):
            return password


def _key_lines(key: str) -> set[str]:
    """The secret lines of a private key, one by one, because a diff shows single lines."""
    lines = {line.strip() for line in key.splitlines()}
    return {line for line in lines if len(line) >= 8 and "-----" not in line}


def _longest_first(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(texts, key=lambda text: (-len(text), text)))
