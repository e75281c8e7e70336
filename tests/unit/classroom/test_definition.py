"""Class files: every error at once with line and key; teams, seeds, labs."""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision.classroom import definition
from provision.core.errors import LabError
from provision.core.exit_status import ExitStatus
from provision.core.limits import Limits

COURSE = "drills: [site-link-removed]\n"


def write(folder: Path, text: str, course: str = "") -> Path:
    if course:
        (folder / "course.yml").write_text(course)
    file = folder / "class.yml"
    file.write_text(text)
    return file


def errors(folder: Path, text: str, course: str = "") -> list[str]:
    """The lines of the error, without the path of the file."""
    with pytest.raises(LabError) as caught:
        definition.load(write(folder, text, course))
    assert caught.value.status == ExitStatus.USAGE
    assert "class.yml again" in caught.value.hint or "looks like" in caught.value.hint
    return [line.replace(f"{folder}/", "") for line in caught.value.what.splitlines()]


def test_a_complete_file(tmp_path: Path) -> None:
    text = """
title: Friday
topology: distributed
provider: lxc
course: course.yml
network: 10.99.0.0/16
prefix: f-
limits: {memory: 2048, cpu: 50}
teams: [Red Team, blue]
"""
    read = definition.load(write(tmp_path, text, COURSE))
    assert read.title == "Friday"
    assert read.provider == "lxc"
    assert read.topology is not None
    assert read.topology.name == "distributed"
    assert read.course == str(tmp_path / "course.yml")
    assert read.pool == IPv4Network("10.99.0.0/16")
    assert read.limits == Limits(memory=2048, cpu=50)
    assert dict(read.seeds) == {"Red Team": "Red Team", "blue": "blue"}
    assert read.lab("Red Team") == "f-red-team"


def test_teams_with_seeds_a_number_and_those_of_the_course(tmp_path: Path) -> None:
    read = definition.load(write(tmp_path, "teams: {red: 17, blue: x}\n"))
    assert dict(read.seeds) == {"red": "17", "blue": "x"}
    read = definition.load(write(tmp_path, "teams: 2\n"))
    assert list(read.seeds) == ["team-01", "team-02"]
    course = COURSE + "teams: {red: 1, blue: 2}\n"
    read = definition.load(write(tmp_path, "course: course.yml\n", course))
    assert dict(read.seeds) == {"red": "1", "blue": "2"}
    read = definition.load(write(tmp_path, "course: course.yml\nteams: [blue]\n", course))
    assert dict(read.seeds) == {"blue": "2"}


def test_all_errors_at_once(tmp_path: Path) -> None:
    text = """\
topologie: distributed
topology: distribbuted
provider: lcx
network: 8.8.0.0/16
prefix: F
limits: {memory: 1, disc: 3000}
teams: [red, red, "no/name", default, Blue!]
"""
    found = errors(tmp_path, text)
    assert [line.partition(": ")[0] for line in found] == [
        "class.yml:1", "class.yml:2", "class.yml:3", "class.yml:4", "class.yml:5", "class.yml:6",
        "class.yml:6", *["class.yml:7"] * 4,
    ]  # fmt: skip
    for part in (
        "unknown key 'topologie'; did you mean topology?",
        "topology: unknown topology 'distribbuted'; did you mean distributed?",
        "provider: unknown provider 'lcx'; did you mean lxc?",
        "network: 8.8.0.0/16 must be private",
        "prefix: invalid value 'F'",
        "limits.memory: invalid value 1; expected an integer from 256",
        "limits.disc: unknown key 'disc'; did you mean disk?",
        "teams.red: duplicate team",
        "teams.no/name: is no name of a team",
        "teams.default: its lab would be 'default'",
        "teams.Blue!: is no name of a team",
    ):
        assert any(part in line for line in found), (part, found)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("teams: 0\n", "class.yml:1: teams: invalid value 0; expected an integer from 1 to 250"),
        ("teams: []\n", "class.yml:1: teams: invalid value (empty list)"),
        ("title: x\n", "class.yml:1: teams: missing key"),
        ("", "class.yml:1: invalid value (null)"),
        ("teams: [a b, a-b]\n", "teams.a-b: its lab would be a-b, as that of team a b"),
        ("teams: {red: 1, red: 2}\n", "teams.red: duplicate key (first on line 1)"),
        ("teams: [abcdefghijklmnopq]\n", "its lab would be 'abcdefghijklmnopq': expected 1 to 15"),
        ("teams: [red]\ncourse: none.yml\n", "class.yml:2: course: file none.yml does not exist"),
        ("teams: [red\n", "invalid YAML"),
    ],
)
def test_one_error(tmp_path: Path, text: str, part: str) -> None:
    found = errors(tmp_path, text)
    assert len(found) == 1, found
    assert part in found[0]


def test_errors_of_the_course_are_reported_too(tmp_path: Path) -> None:
    found = errors(tmp_path, "course: course.yml\nteams: []\n", "drills: [no-such-drill]\n")
    assert len(found) == 2
    assert "course.yml:1: drills[0]: there is no drill 'no-such-drill'" in found[1]
    text = "course: course.yml\ntopology: simple\nteams: [red]\n"
    found = errors(tmp_path, text, COURSE)
    assert "drill site-link-removed needs topology distributed" in found[0]
    found = errors(tmp_path, "course: course.yml\nteams: [green]\n", COURSE + "teams: [red]\n")
    assert found == ["class.yml:2: teams.green: is no team of the course"]


def test_a_number_of_teams(tmp_path: Path) -> None:
    read = definition.of("2", prefix="k-", network="10.98.0.0/16", topology="simple")
    assert [read.lab(team) for team in read.seeds] == ["k-team-01", "k-team-02"]
    assert read.pool == IPv4Network("10.98.0.0/16")
    for text, options, part in (
        ("0", {}, "a class of 0 teams"),
        ("-1", {}, "a class of -1 teams"),
        ("251", {}, "a class of 251 teams"),
        ("2", {"prefix": "Bad"}, "prefix: invalid value 'Bad'"),
        ("2", {"topology": "nothing"}, "unknown topology 'nothing'"),
        ("2", {"network": "10.98.0.0/25"}, "must be private"),
        ("2", {"network": "here"}, "network: invalid value 'here'"),
        ("class.yml", {"topology": "simple"}, "are for a number of teams"),
        (str(tmp_path / "none.yml"), {}, "cannot be read"),
    ):
        with pytest.raises(LabError, match=re.escape(part)) as caught:
            definition.of(text, **options)
        assert caught.value.status == ExitStatus.USAGE
