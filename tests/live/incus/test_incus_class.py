"""A class spread over two members of a real Incus cluster; one of the members dies."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from provision.core import classroom
from provision.providers.incus import record
from tests.live.conftest import PREFIX, pool, wait_until
from tests.live.incus import members
from tests.live.incus.daemon import Members
from tests.live.test_class import RunningClass

pytestmark = [pytest.mark.live, pytest.mark.alone]

CLASS = """\
title: Test
topology: simple
provider: incus
prefix: {prefix}k-
network: {network}
teams: [red, blue]
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Members]:
    """A cluster of two members; only the first one has the database."""
    with members.running("m1", "m2") as running:
        yield running


@pytest.fixture(scope="module")
def spread(cluster: Members, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningClass]:
    """A class of two labs."""
    assert classroom.load() is None, "this checkout has a class: invoke class.destroy --yes"
    file = tmp_path_factory.mktemp("class") / "class.yml"
    file.write_text(CLASS.format(prefix=PREFIX, network=pool() or "10.77.0.0/16"))
    running = RunningClass(file)
    started = time.monotonic()
    try:
        running.invoke("class.up", str(file))
        print(f"class.up of two labs with images: {time.monotonic() - started:.0f} s")
        yield running
    finally:
        running.invoke("class.destroy", "--yes")
    assert not classroom.folder().exists()


def places(spread: RunningClass) -> dict[str, str]:
    """The member of each team's lab."""
    found = {}
    for name in ("red", "blue"):
        placed = record.load(spread.lab(name).session().lab)
        assert placed is not None
        found[name] = placed.member
    return found


def test_labs_are_spread_over_the_members(spread: RunningClass) -> None:
    assert spread.states() == {"red": "up", "blue": "up"}
    assert sorted(places(spread).values()) == ["m1", "m2"]
    labs = spread.json("class.status")["class_labs"]
    assert {lab["team"]: lab["member"] for lab in labs} == places(spread)
    table = spread.invoke("class.status").stdout.splitlines()
    for name, member in places(spread).items():
        assert any({name, member} <= set(line.split()) for line in table), table
    for name in ("red", "blue"):
        spread.lab(name).invoke("lab.check")
        assert spread.lab(name).get("/").status_code == 200


def test_a_member_dies(spread: RunningClass, cluster: Members) -> None:
    by_member = {member: team for team, member in places(spread).items()}
    lives, lost = by_member["m1"], by_member["m2"]
    cluster.members[1].kill()

    def noticed() -> bool:
        return spread.states()[lost] == "unknown"

    seconds = wait_until(noticed, "the lab to be unknown", 60)
    print(f"class.status knows it after {seconds:.0f} s")
    labs = {lab["team"]: lab for lab in spread.json("class.status")["class_labs"]}
    assert labs[lives]["state"] == "up"
    assert (labs[lives]["member"], labs[lost]["member"]) == ("m1", "m2")
    assert "is on member m2 of the Incus cluster, which does not respond" in labs[lost]["problem"]
    assert f"incus cluster remove --force {members.REMOTE}:m2" in labs[lost]["problem"]
    spread.lab(lives).invoke("lab.check")
    assert spread.lab(lives).get("/").status_code == 200
    refused = spread.invoke("class.up", status=1)
    assert "is on member m2 of the Incus cluster" in refused.stdout + refused.stderr
    spread.lab(lives).invoke("lab.kill", "web-01")
    spread.lab(lives).invoke("lab.start", "web-01")
    spread.lab(lives).up()  # after a crash, it makes the database writable again

    cluster.members[0].exec("cluster", "remove", "--force", "--yes", "m2")
    assert spread.states() == {lives: "up", lost: "absent"}
    spread.invoke("class.up")
    assert spread.states() == {lives: "up", lost: "up"}
    assert {*places(spread).values()} == {"m1"}
    for name in (lives, lost):
        spread.lab(name).invoke("lab.check")
    spread.invoke("class.reset", "--yes")
    assert spread.states() == {lives: "up", lost: "up"}
