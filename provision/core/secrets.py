"""What only this lab may know: its SSH key, its passwords, its private TLS keys.

They are files of mode 0600 under ``.lab/<lab>/secrets`` (0700), made once and kept; Windows has no
modes, there they are as closed as the folder that the checkout is in. They reach a machine only
through stdin or a 0600 file; `Secrets.redact` keeps them out of what is shown.
"""

from __future__ import annotations

import json
import os
import re
import secrets as random
import shlex
import stat
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

from provision.core import platform as controller
from provision.core import state
from provision.core.errors import LabError

SSH_KEY = "id_ed25519"
PASSWORDS = "passwords.json"
HIDDEN = "********"
"""What stands for a secret in a text that is shown."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Secrets:
    """The secrets of one lab.

    Args:
        directory: the lab's, ``.lab/<lab>``; they are in ``secrets`` below it. Nothing is made
            before something is asked for.
    """

    def __init__(self, directory: Path) -> None:
        self.lab = directory
        self.directory = directory / "secrets"
        self._seen: tuple[tuple[str, int, int], ...] | None = None
        self._known: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Secrets({str(self.lab)!r})"

    def ssh_key(self) -> Path:
        """The file of the lab's private key (ed25519, OpenSSH's format); ``.pub`` is beside it.

        Raises:
            LabError: when it is damaged, can be read by others, or cannot be made.
        """
        path = self.folder() / SSH_KEY
        with state.guard(self.directory / ".lock"):
            text = read(path)
            if text is None:
                key = Ed25519PrivateKey.generate()
                form = (Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
                state.write(path, key.private_bytes(*form).decode())
            else:
                key = self._understand(path, text)
            public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
            line = f"{public.decode()} foobar-lab {self.lab.name}\n"
            beside = path.with_name(f"{path.name}.pub")
            if read(beside, private=False) != line:
                state.write(beside, line)
        return path

    def public_key(self) -> str:
        """The line for ``authorized_keys``, without the line's end."""
        path = self.ssh_key()
        return (read(path.with_name(f"{path.name}.pub"), private=False) or "").strip()

    def password(self, name: str) -> str:
        """The password of that name: 32 URL-safe characters, made the first time it is asked for.

        Args:
            name: what it is for, such as ``mysql-app``.

        Raises:
            LabError: when the passwords' file is damaged, can be read by others, or cannot be
                written.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a password's name: {name!r}")
        self.folder()
        with state.guard(self.directory / ".lock"):
            passwords = self._passwords()
            if name not in passwords:
                passwords[name] = _new_password()
                text = json.dumps(passwords, indent=2, sort_keys=True) + "\n"
                state.write(self.directory / PASSWORDS, text)
        return passwords[name]

    def known(self) -> tuple[str, ...]:
        """Every secret text that is in the files, longest first: passwords, lines of private keys.

        Raises:
            LabError: when a file is damaged or can be read by others.
        """
        if not self.directory.is_dir():
            return ()
        found = set(self._passwords().values())
        for path in self._key_files():
            found |= _lines(read(path) or "")
        return tuple(sorted(found, key=lambda secret: (-len(secret), secret)))

    def redact(self, text: str) -> str:
        """The text with every known secret replaced by `HIDDEN`.

        It never fails, since it is used on error messages: a file that cannot be understood adds
        nothing to what this process has seen before.
        """
        for secret in self._fresh():
            text = text.replace(secret, HIDDEN)
        return text

    def folder(self) -> Path:
        """The directory of the secrets, made when it is not there.

        Raises:
            LabError: when others can look into it, or it cannot be made.
        """
        try:
            self.lab.mkdir(parents=True, exist_ok=True)
            self.directory.mkdir(mode=0o700, exist_ok=True)
            mode = stat.S_IMODE(self.directory.stat().st_mode)
        except OSError as error:
            raise state.unreadable(self.directory, error) from None
        _closed(self.directory, mode)
        return self.directory

    def _fresh(self) -> tuple[str, ...]:
        """What to hide now: read again when a file has changed, since another process may add."""
        try:
            with os.scandir(self.directory) as entries:
                infos = [(e.name, e.stat()) for e in entries if not e.name.startswith(".")]
            now = tuple(sorted((name, i.st_mtime_ns, i.st_size) for name, i in infos))
            if now != self._seen:
                known = set(self.known()) | set(self._known)
                self._known = tuple(sorted(known, key=lambda secret: (-len(secret), secret)))
                self._seen = now
        except (OSError, LabError):
            pass
        return self._known

    def _key_files(self) -> list[Path]:
        return [self.directory / SSH_KEY, *sorted(self.directory.glob("*.key"))]

    def _passwords(self) -> dict[str, str]:
        path = self.directory / PASSWORDS
        text = read(path)
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
            f"rm {shlex.quote(str(path))} && {state.up(self.lab)} (new passwords are made and set)",
        )

    def _understand(self, path: Path, text: str) -> Ed25519PrivateKey:
        try:
            key = load_ssh_private_key(text.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if isinstance(key, Ed25519PrivateKey):
            return key
        remove, add = state.up(self.lab, "lab.destroy"), state.up(self.lab)
        raise LabError(
            f"{path} is damaged: it is not an ed25519 private key in OpenSSH's format",
            "put a copy of it back; without one, the machines must be made anew: "
            f"{remove}; rm -f {shlex.quote(str(path))}; {add}",
        )


def read(path: Path, *, private: bool = True) -> str | None:
    """A file of the lab as text; None when there is none.

    Args:
        path: the file.
        private: refuse it when its group or others may read or write it.

    Raises:
        LabError: when it cannot be read, is not text, or is open to others.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise state.unreadable(path, error) from None
    if private:
        _closed(path, mode)
    return data.decode("utf-8", errors="replace")


def _closed(path: Path, mode: int) -> None:
    if controller.open_to_others(mode):
        right = "700" if path.is_dir() else "600"
        raise LabError(
            f"{path} is a secret that other users can reach (its mode is {mode:04o})",
            f"chmod {right} {shlex.quote(str(path))}",
        )


def _new_password() -> str:
    """32 characters, the most that CHANGE REPLICATION SOURCE takes (MySQL 9.7 manual, 15.4.2.2).

    It has each of the classes that MySQL's validate_password asks for, and starts with a letter,
    so that no program takes it for an option.
    """
    while True:
        password = random.token_urlsafe(24)
        classes = (r"[a-z]", r"[A-Z]", r"[0-9]", r"[_-]")
        if password[0].isalpha() and all(re.search(c, password) for c in classes):
            return password


def _lines(key: str) -> set[str]:
    """The lines of a private key that must not be shown; a diff shows it line by line."""
    lines = {line.strip() for line in key.splitlines()}
    return {line for line in lines if len(line) >= 8 and "-----" not in line}
