"""Settings from the environment, validated before the application starts."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62})", re.ASCII)
_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,253}", re.ASCII)
_NUMBER = re.compile(r"[1-9][0-9]?", re.ASCII)
_SCHEMA = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)


class SettingsError(ValueError):
    """Settings are missing or invalid; `problems` has all reasons."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(
            f"foobar cannot start, {len(problems)} invalid setting(s):\n{lines}\n"
            "Settings are environment variables; see the EnvironmentFile= of the service:"
            " systemctl cat foobar"
        )
        self.problems = problems


@dataclass(frozen=True)
class Server:
    """One MySQL server: the name that operators use, and its address."""

    name: str
    address: str


@dataclass(frozen=True)
class Settings:
    """The configuration of the process."""

    host: str
    site: str
    servers: tuple[Server, ...]
    read_order: tuple[str, ...]
    user: str
    password: str = field(repr=False)
    database: str
    ca: Path
    machines: tuple[Server, ...] = ()
    threads: int = 1

    def address_of(self, name: str) -> str | None:
        """Return the address of the machine called `name`, or None if it is unknown."""
        known = (*self.machines, *self.servers)
        return next((s.address for s in known if s.name == name), None)

    @property
    def local(self) -> str:
        """Name of the preferred database server for reads."""
        return self.read_order[0]


class _Reader:
    """Reads variables and collects problems."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def text(self, name: str, default: str | None = None) -> str:
        value = self._environ.get(name, "").strip() or (default or "")
        if not value:
            self.problems.append(f"{name} is missing")
        return value

    def matching(self, name: str, pattern: re.Pattern[str], what: str, default: str | None) -> str:
        value = self.text(name, default)
        if value and not pattern.fullmatch(value):
            self.problems.append(f"{name} is not {what}: {value[:80]!r}")
        return value

    def number(self, name: str, default: str) -> int:
        return int(self.matching(name, _NUMBER, "a number from 1 to 99", default) or default)

    def servers(self, name: str, *, optional: bool = False) -> tuple[Server, ...]:
        servers: list[Server] = []
        listed = self._environ.get(name, "") if optional else self.text(name)
        for part in listed.split(","):
            if not part.strip():
                continue
            label, _, address = (piece.strip() for piece in part.partition("="))
            if not (_NAME.fullmatch(label) and _ADDRESS.fullmatch(address)):
                self.problems.append(
                    f"{name} has {part.strip()[:80]!r} where name=address is expected"
                )
            elif label in {server.name for server in servers}:
                self.problems.append(f"{name} has the duplicate name {label}")
            else:
                servers.append(Server(label, address))
        return tuple(servers)

    def order(self, name: str, servers: tuple[Server, ...]) -> tuple[str, ...]:
        names = tuple(part.strip() for part in self.text(name).split(",") if part.strip())
        allowed = {server.name for server in servers}
        for server in names:
            if allowed and server not in allowed:
                self.problems.append(f"{name} has {server[:80]!r}, not in FOOBAR_DB_HOSTS")
        if len(set(names)) != len(names):
            self.problems.append(f"{name} has a duplicate name")
        return names

    def authority(self, name: str, default: str) -> Path:
        path = Path(self.text(name, default))
        try:
            ssl.create_default_context(cafile=str(path))
        except OSError as error:
            # ssl.SSLError (a file without a certificate) is an OSError, too.
            self.problems.append(f"{name} is not a readable CA file: {path}: {error}")
        return path


def from_environment(environ: Mapping[str, str]) -> Settings:
    """Read and validate all settings.

    Args:
        environ: FOOBAR_DB_HOSTS ("web-01=192.168.56.11,web-02=192.168.56.12"),
            FOOBAR_DB_READ ("web-02,web-01", the nearest first), FOOBAR_DB_USER and
            FOOBAR_DB_PASSWORD are required. FOOBAR_HOST (this machine's host name),
            FOOBAR_DB_NAME (foobar), FOOBAR_DB_CA (/etc/foobar/ca.pem), FOOBAR_SITE
            (www.foobar.com) and FOOBAR_THREADS (of a gunicorn process; 1) have the defaults in
            brackets. FOOBAR_MACHINES (none) lists all machines like FOOBAR_DB_HOSTS; the page shows
            their addresses.

    Raises:
        SettingsError: with all missing and invalid variables.
    """
    read = _Reader(environ)
    servers = read.servers("FOOBAR_DB_HOSTS")
    settings = Settings(
        host=read.matching("FOOBAR_HOST", _NAME, "a host name", socket.gethostname()),
        site=read.matching("FOOBAR_SITE", _ADDRESS, "a host name", "www.foobar.com"),
        servers=servers,
        read_order=read.order("FOOBAR_DB_READ", servers),
        user=read.text("FOOBAR_DB_USER"),
        password=read.text("FOOBAR_DB_PASSWORD"),
        database=read.matching("FOOBAR_DB_NAME", _SCHEMA, "a schema name", "foobar"),
        ca=read.authority("FOOBAR_DB_CA", "/etc/foobar/ca.pem"),
        machines=read.servers("FOOBAR_MACHINES", optional=True),
        threads=read.number("FOOBAR_THREADS", "1"),
    )
    if read.problems:
        raise SettingsError(tuple(read.problems))
    return settings
