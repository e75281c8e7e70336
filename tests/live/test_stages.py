"""From one design to the next and back, on the same machines, with the data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.live.conftest import RunningLab

pytestmark = pytest.mark.live


def states(lab: RunningLab) -> dict[str, str]:
    found = json.loads(lab.invoke("lab.status", "--json").stdout)
    return {m["name"]: m["state"] for m in found["machines"]}


def note(lab: RunningLab, text: str) -> None:
    with requests.Session() as http:
        http.trust_env = False
        body = {"author": "a", "text": text}
        done = http.post(f"{lab.url}/api/notes", json=body, timeout=10)
    assert done.status_code == 201, done.text


def notes(lab: RunningLab) -> list[str]:
    return sorted(each["text"] for each in lab.get("/api/notes").json())


def test_simple_distributed_and_back(other_lab: Callable[[str], RunningLab]) -> None:
    lab = other_lab("stages")
    said = lab.up("--topology", "simple").stdout
    assert "through web-01" in said
    assert states(lab) == {"web-01": "running"}
    note(lab, "one")

    lab.up("--topology", "distributed")
    assert list(states(lab)) == ["lb-01", "web-01", "web-02"]
    assert notes(lab) == ["one"]
    assert lab.sql("web-02", "SELECT text FROM foobar.notes") == "one"
    assert lab.get("/").headers["X-Balanced-By"] == "lb-01"
    # What web-01 was in the earlier stage and is no more.
    assert not lab.run("web-01", "systemctl", "is-active", "--quiet", "dnsmasq").ok
    note(lab, "two")
    assert "0 changed" in lab.up().stdout

    # The data must not stay behind on a machine that the new stage does not have.
    lab.invoke("db.promote", "web-02")
    note(lab, "three")
    done = lab.invoke("lab.up", "--topology", "simple", "--yes", check=False)
    assert done.returncode == 1
    assert "is written on web-02" in done.stderr
    assert "invoke db.promote web-01 --lab" in done.stderr
    assert len(states(lab)) == 3
    lab.invoke("db.promote", "web-01")

    # Nobody is there to be asked: what would go is named, and nothing changes.
    done = lab.invoke("lab.up", "--topology", "simple", check=False)
    assert done.returncode == 2
    assert "web-02  nginx, app, mysql; a copy of the data, all of which is on web-01" in done.stderr
    assert "lb-01   haproxy, dns; no data" in done.stderr
    assert "--yes" in done.stderr
    assert len(states(lab)) == 3

    # A replica with a row of its own is said to have one.
    lab.sql("web-02", "SET GLOBAL super_read_only=0; CREATE TABLE lab.x (a INT)")
    done = lab.invoke("lab.up", "--topology", "simple", check=False)
    assert "web-02  nginx, app, mysql; transactions that web-01 does not have: " in done.stderr

    lab.up("--topology", "simple", "--yes")
    assert states(lab) == {"web-01": "running"}
    assert notes(lab) == ["one", "three", "two"]
    assert lab.session().provider.strays(lab.session().lab) == []
    assert "0 changed" in lab.up().stdout

    # The new web-02 has MySQL's number of the old one, and yet all that the old one wrote.
    lab.up("--topology", "distributed")
    rows = lab.sql("web-02", "SELECT text FROM foobar.notes ORDER BY text")
    assert rows.split() == ["one", "three", "two"]


APART = """
domain: foobar.com
network: 192.168.56.0/24
primary: db-01
machines:
  web-01: {address: 192.168.56.11, roles: [nginx, app, dns]}
  db-01: {address: 192.168.56.41, roles: [mysql]}
"""


def test_the_data_moves_to_machines_that_had_no_database(
    other_lab: Callable[[str], RunningLab], tmp_path: Path
) -> None:
    """The databases of the two designs have no machine in common, as distributed and scaled."""
    apart = tmp_path / "apart.yml"
    apart.write_text(APART)
    lab = other_lab("move")
    lab.up("--topology", "simple")
    note(lab, "one")
    said = lab.up("--topology", str(apart)).stdout
    assert "the data moves from web-01 to db-01" in said
    assert notes(lab) == ["one"]
    assert lab.get("/").headers["X-Read-From"] == "db-01"
    assert not lab.run("web-01", "systemctl", "is-active", "--quiet", "mysql").ok
    note(lab, "two")
    assert "0 changed" in lab.up().stdout

    done = lab.invoke("lab.up", "--topology", "simple", check=False)
    assert done.returncode == 2
    assert "db-01  mysql; all of its data moves to web-01 first" in done.stderr
    lab.up("--topology", "simple", "--yes")
    assert states(lab) == {"web-01": "running"}
    assert notes(lab) == ["one", "two"]
    note(lab, "three")
    assert "0 changed" in lab.up().stdout
