"""Independent clients with real cookies: each writes notes, and reads its own back."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from uuid import uuid4

import requests

from provision.core.lab import ROOT
from tests.live.conftest import RunningLab
from tests.live.consistency.history import (
    ACKNOWLEDGED,
    FOUND,
    MISSING,
    REFUSED,
    UNAVAILABLE,
    UNKNOWN,
    Attempt,
    History,
    NoteRead,
)

SESSIONS = 4
REST_SECONDS = 0.2
"""Between two requests of a session."""

TIMEOUT = 20.0
ATTEMPTS = 12
"""Of one write; then the session goes on to another one."""

REMEMBERED_SECONDS = 50.0
"""How long a session expects to see a note; its cookie lasts a minute."""


@dataclass
class Clients:
    """Sessions that run in threads from `start` to `stop`."""

    lab: RunningLab
    seed: int
    author: str = field(default_factory=lambda: f"c{uuid4().hex[:10]}")
    _attempts: list[Attempt] = field(default_factory=list)
    _reads: list[NoteRead] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _sessions: int = 0

    def start(self) -> None:
        """Start new sessions; those of earlier rounds have ended."""
        self._stopped.clear()
        url = self.lab.url
        for _ in range(SESSIONS):
            self._sessions += 1
            thread = threading.Thread(target=self._run, args=(self._sessions, url), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End all sessions."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(TIMEOUT + 5)
            assert not thread.is_alive(), "a client does not end"
        self._threads.clear()

    @property
    def history(self) -> History:
        """The requests that have ended."""
        with self._lock:
            return History(tuple(self._attempts), tuple(self._reads))

    def _run(self, session: int, url: str) -> None:
        choose = random.Random(f"{self.seed}-{session}")
        own: list[tuple[str, float]] = []
        with requests.Session() as http:
            http.trust_env = False
            http.verify = str(ROOT / ".lab" / self.lab.name / "ca.pem")
            while not self._stopped.is_set():
                note = uuid4().hex
                if self._write(http, session, url, note):
                    own.append((note, time.monotonic()))
                    self._read(http, session, url, note)
                recent = [n for n, at in own if time.monotonic() - at < REMEMBERED_SECONDS]
                if recent:
                    self._read(http, session, url, choose.choice(recent))

    def _write(self, http: requests.Session, session: int, url: str, note: str) -> bool:
        """Store a note; a write that was not acknowledged is sent again with the same id."""
        body = {"id": note, "author": self.author, "text": note}
        for _ in range(ATTEMPTS):
            sent = time.monotonic()
            try:
                response = http.post(f"{url}/api/notes", json=body, timeout=TIMEOUT)
                result = _write_result(response)
            except requests.RequestException:
                result = UNKNOWN
            attempt = Attempt(session, note, sent, time.monotonic(), result)
            with self._lock:
                self._attempts.append(attempt)
            if self._stopped.wait(REST_SECONDS) or result == ACKNOWLEDGED:
                return result == ACKNOWLEDGED
        return False

    def _read(self, http: requests.Session, session: int, url: str, note: str) -> None:
        sent = time.monotonic()
        try:
            status = http.get(f"{url}/api/notes/{note}", timeout=TIMEOUT).status_code
        except requests.RequestException:
            status = 0
        result = {200: FOUND, 404: MISSING}.get(status, UNAVAILABLE)
        with self._lock:
            self._reads.append(NoteRead(session, note, sent, time.monotonic(), result))
        self._stopped.wait(REST_SECONDS)


def _write_result(response: requests.Response) -> str:
    """What the client knows: the application says whether a failed write may exist."""
    if response.status_code in (200, 201):
        return ACKNOWLEDGED
    if response.status_code != 503:
        return UNKNOWN
    try:
        outcome = response.json().get("outcome", REFUSED)
    except ValueError:
        outcome = UNKNOWN
    return REFUSED if outcome == REFUSED else UNKNOWN
