"""Reading a file through the pool: recorded ones without a network, others from the archive.

Every command opens the pool, and few read from it: what only a download needs is imported there.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from provision.core.pool import store as stored
from provision.core.pool.store import Entry

if TYPE_CHECKING:
    import urllib.request

CONNECT_SECONDS = 20.0
DEAD_SECONDS = 30.0
"""How long an archive that did not respond is not asked again."""

NOT_FOUND, BAD_GATEWAY, UNAVAILABLE = 404, 502, 504


class PoolError(Exception):
    """A file is not available.

    Args:
        status: for an HTTP response.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass
class Pool:
    """The package pool with the archive behind it; safe for several threads and processes.

    Args:
        folder: of the recorded files.
        mirror: URL of the mirror of Debian's main archive that this host uses.
        proxies: HTTP proxies of this host by scheme.
        direct: hosts that are reached without a proxy.
        offline: ask no archive.
        used: names of the files that were read.
    """

    folder: Path
    mirror: str = stored.CANONICAL
    proxies: Mapping[str, str] = field(default_factory=dict)
    direct: Sequence[str] = ()
    offline: bool = False
    used: set[str] = field(default_factory=set)
    _downloaded: bool = False
    _dead: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, url: str) -> Path:
        """The local file with the content of a URL.

        Raises:
            PoolError: when it is not recorded and cannot be downloaded.
        """
        entry = stored.parse_url(url)
        if entry is None:
            raise PoolError(NOT_FOUND, "not a file of a Debian archive")
        path = stored.path_of(self.folder, entry)
        if not self._fresh(entry, path):
            try:
                self._download(entry, path)
            except PoolError:
                if entry.immutable or not path.exists():
                    raise  # otherwise the recorded list serves on
            else:
                self._downloaded = True
        self.used.add(entry.name)
        return path

    def _fresh(self, entry: Entry, path: Path) -> bool:
        if not path.exists():
            return False
        marker = self.folder / stored.STALE
        if entry.immutable or not marker.exists():
            return True
        return path.stat().st_ctime > marker.stat().st_mtime

    def _download(self, entry: Entry, path: Path) -> None:
        """Record a file; nothing incomplete or foreign takes its name."""
        import urllib.error

        bases = [] if entry.base == stored.CANONICAL else [entry.base]
        if entry.archive == "debian":
            bases.append(self.mirror)
        reasons = []
        for base in dict.fromkeys(bases):
            try:
                return self._download_from(f"{base.rstrip('/')}/{entry.path}", entry, path)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == NOT_FOUND and entry.path.startswith("pool/"):
                    self._mark_stale()
                reasons.append(PoolError(error.code, f"{base}: {error.code} {error.reason}"))
            except (OSError, EOFError, ValueError) as error:
                reasons.append(PoolError(UNAVAILABLE, f"{base} does not respond ({error})"))
        text = "; ".join(str(reason) for reason in reasons)
        raise PoolError(reasons[-1].status, f"not in the package pool, and {text}")

    def _download_from(self, url: str, entry: Entry, path: Path) -> None:
        import shutil
        import urllib.error

        host = urlsplit(url).netloc
        if self.offline:
            raise OSError("LAB_OFFLINE is set")
        if time.monotonic() < self._dead.get(host, 0.0):
            raise OSError("it did not respond a moment ago")
        stored.make_folder(self.folder, self.folder)
        temporary = stored.temporary(self.folder)
        try:
            try:
                response = self._opener(host).open(url, timeout=CONNECT_SECONDS)
            except urllib.error.HTTPError:
                raise
            except OSError as error:
                self._dead[host] = time.monotonic() + DEAD_SECONDS
                raise OSError(getattr(error, "reason", error)) from None
            with response, temporary.open("wb") as file:
                shutil.copyfileobj(response, file, 1 << 20)
                length = response.headers.get("Content-Length")
                modified = response.headers.get("Last-Modified")
            if length is not None and temporary.stat().st_size != int(length):
                raise EOFError("the download ended early")
            if why := stored.problem(entry, temporary):
                raise ValueError(why)
            if modified:
                import email.utils

                with contextlib.suppress(ValueError, TypeError):
                    seconds = email.utils.parsedate_to_datetime(modified).timestamp()
                    os.utime(temporary, (seconds, seconds))
            temporary.chmod(0o644)
            stored.give_to_owner(self.folder, temporary)
            stored.make_folder(self.folder, path.parent)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def _opener(self, host: str) -> urllib.request.OpenerDirector:
        import urllib.request

        proxies = (
            {} if host.rpartition(":")[0] in self.direct or host in self.direct else self.proxies
        )
        return urllib.request.build_opener(urllib.request.ProxyHandler(dict(proxies)))

    def _mark_stale(self) -> None:
        """The archive has newer versions: the next update reads its lists again."""
        with self._lock, contextlib.suppress(OSError):
            marker = self.folder / stored.STALE
            marker.touch()
            stored.give_to_owner(self.folder, marker)
            for path in (self.folder / stored.SETS).glob("*.json"):  # of the former versions
                path.unlink(missing_ok=True)

    def refresh(self) -> None:
        """Read the package lists from the archive again, at the next update of each machine."""
        self._mark_stale()

    def keep_bound(self) -> None:
        """After downloads: remove what exceeds the bound of the pool and is needed no more."""
        if self._downloaded:
            from provision.core.pool.prune import prune

            with contextlib.suppress(OSError):
                prune(self.folder)

    def apt_options(self) -> tuple[str, ...]:
        """Settings for apt that reads from this pool.

        A recorded list is older than its Valid-Until after a week or so. Its signature is checked
        all the same.
        """
        if any(
            stored.is_expired(path, time.time()) for path in self.folder.glob("*/dists/*/InRelease")
        ):
            return ("Acquire::Check-Valid-Until=false",)
        return ()
