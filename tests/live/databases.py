"""Helpers of the tests of databases: status, writes, and the pair of the session's lab."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from provision.core.errors import HostError
from tests.live.conftest import RunningLab, wait_until

WEBS = ("web-01", "web-02")


def status(lab: RunningLab) -> dict[str, dict[str, Any]]:
    """The JSON of db.status, by machine."""
    return {server["machine"]: server for server in lab.json("db.status")["databases"]}


def writable(lab: RunningLab) -> list[str]:
    """The machines whose database is writable."""
    machines = []
    with lab.fleet() as fleet:
        for name in WEBS:
            if name in fleet.hosts:
                result = fleet.host(name).run("mysql", "-Ne", "SELECT @@read_only")
                if result.stdout.strip() == "0":
                    machines.append(name)
    return machines


def is_writable(lab: RunningLab, machine: str) -> bool:
    return lab.sql(machine, "SELECT @@read_only") == "0"


def primary(lab: RunningLab) -> str:
    return lab.session().state.primary


def replica(lab: RunningLab) -> str:
    return next(name for name in WEBS if name != primary(lab))


def write(lab: RunningLab, text: str) -> str:
    """Write a note through the load balancer; returns its id."""
    note = str(uuid.uuid4())
    with requests.Session() as http:
        http.trust_env = False
        response = http.post(
            f"{lab.url}/api/notes", json={"id": note, "author": "t", "text": text}, timeout=10
        )
    assert response.status_code in (200, 201), response.text
    return note


def notes(lab: RunningLab, machine: str) -> list[str]:
    return lab.sql(machine, "SELECT id FROM foobar.notes").splitlines()


def texts(lab: RunningLab, machine: str) -> list[str]:
    return lab.sql(machine, "SELECT text FROM foobar.notes ORDER BY seq").splitlines()


def responds(lab: RunningLab, machine: str) -> bool:
    try:
        return lab.run(machine, "true").ok
    except HostError:
        return False


class Writers:
    """Writes notes with unique ids through the load balancer in background threads."""

    def __init__(self, lab: RunningLab, threads: int = 3) -> None:
        self.url = lab.url
        self.acknowledged: list[tuple[float, str]] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write) for _ in range(threads)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.acknowledged) > 10, "the first writes")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        with requests.Session() as http:
            http.trust_env = False
            while not self._stop.is_set():
                note = str(uuid.uuid4())
                body = {"id": note, "author": "stream", "text": note}
                try:
                    response = http.post(f"{self.url}/api/notes", json=body, timeout=10)
                except requests.RequestException:
                    continue
                if response.status_code in (200, 201):
                    self.acknowledged.append((time.monotonic(), note))
                time.sleep(0.02)

    def wait_for_writes(self, seconds: float = 30.0) -> None:
        """Wait until writes that begin from now on are acknowledged."""
        since = time.monotonic()
        wait_until(
            lambda: sum(when > since for when, _ in list(self.acknowledged)) > 5,
            "writes after the change",
            seconds,
        )

    def missing(self, lab: RunningLab, machine: str) -> set[str]:
        """Acknowledged writes that a database lacks."""
        return {note for _, note in self.acknowledged} - set(notes(lab, machine))


@pytest.fixture
def pair(lab: RunningLab) -> Iterator[RunningLab]:
    """The session's lab; restored afterwards, with web-01 as primary."""
    yield lab
    lab.up()
    if primary(lab) != "web-01":
        lab.invoke("db.promote", "web-01")
    wait_until(lambda: status(lab)["web-01"]["semi_sync"], "semi-sync again")
