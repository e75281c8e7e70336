"""A lab leaves nothing behind on the host."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from provision.core.lab import ROOT
from provision.providers.lxc.paths import HOST
from provision.providers.lxc.privileged import run
from tests.live.conftest import RunningLab

pytestmark = [pytest.mark.live, pytest.mark.alone]


COUNTED = re.compile(r'"counter": \{"packets": \d+, "bytes": \d+\}')


def lines(text: str) -> set[str]:
    return set(text.splitlines())


def tables() -> set[str]:
    text = run("reading", ["nft", "-j", "list", "ruleset"]).stdout
    # Packet counters change all the time.
    entries = json.loads(COUNTED.sub('"counter": null', text))["nftables"]
    names = {f"{t['table']['family']} {t['table']['name']}" for t in entries if "table" in t}
    rules = {json.dumps(r["rule"]["expr"]) + r["rule"]["table"] for r in entries if "rule" in r}
    return names | rules


def processes() -> set[str]:
    """All processes, as ``pid start-time command cgroups``."""
    running = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            started = (folder / "stat").read_text().rpartition(")")[2].split()[19]
            groups = (folder / "cgroup").read_text().replace("\n", " ")
            command = (folder / "cmdline").read_text().replace("\0", " ")
            if command:
                running.add(f"{folder.name} {started} {command} {groups}")
    return running


def groups() -> set[str]:
    return {str(p) for p in Path("/sys/fs/cgroup").rglob("*lxc*") if p.is_dir()}


def host() -> dict[str, set[str]]:
    """The objects of each kind that a lab creates on this host."""
    return {
        "links": {p.name for p in Path("/sys/class/net").iterdir()},
        "addresses": lines(subprocess.check_output(["ip", "-o", "address"], text=True)),
        "routes": lines(subprocess.check_output(["ip", "route"], text=True)),
        "nft": tables(),
        "processes": processes(),
        "mounts": lines(Path("/proc/mounts").read_text()),
        "groups": groups(),
        "folders": {str(p) for p in HOST.glob("*")},
        "sockets": {
            line.split()[-1]
            for line in Path("/proc/net/unix").read_text().splitlines()
            if str(HOST) in line
        },
        "labs": {str(p) for p in (ROOT / ".lab").iterdir() if p.is_dir()},
        "forwarding": {Path("/proc/sys/net/ipv4/ip_forward").read_text()},
    }


def containing(marks: Iterable[str], objects: dict[str, set[str]]) -> dict[str, set[str]]:
    """The objects whose text contains one of these marks; those of other labs do not."""
    return {
        kind: {text for text in texts if any(mark in text for mark in marks)}
        for kind, texts in objects.items()
    }


def test_nothing_is_left_of_a_lab(other_lab: Callable[..., RunningLab]) -> None:
    lab = other_lab("residue")
    others = {p.name for p in HOST.glob("*") if p.is_dir()}
    before = host()
    lab.up()
    definition = lab.session().lab
    marks = [definition.id, str(definition.gateway), str(definition.network), f".lab/{lab.name}"]
    during = containing(marks, host())
    marked = {kind for kind, texts in during.items() if texts}
    # The marks select the objects of the running lab: without this, an empty result proves nothing.
    assert marked >= {
        "links",
        "addresses",
        "routes",
        "nft",
        "processes",
        "groups",
        "folders",
        "labs",
    }

    lab.invoke("lab.kill", "web-02")
    lab.invoke("lab.halt")
    lab.up()
    lab.destroy()
    after = host()
    assert {k: v for k, v in containing(marks, after).items() if v} == {}
    if others | {p.name for p in HOST.glob("*") if p.is_dir()} == set():
        # Without other labs on this host, unmarked objects must be unchanged too.
        for kind in ("links", "addresses", "routes", "nft", "mounts", "groups", "forwarding"):
            assert after[kind] == before[kind], kind


def test_destroy_of_a_lab_that_is_not_there(other_lab: Callable[..., RunningLab]) -> None:
    lab = other_lab("nothing")
    result = lab.invoke("lab.destroy", "--yes")
    assert f"there is no lab {lab.name}: nothing to do" in result.stdout
