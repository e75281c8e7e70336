"""Drill files: what is valid, and where every error is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from provision.core.errors import LabError, UsageError
from provision.drills import catalogue, lint, skeleton
from provision.drills.schema import FILE
from provision.drills.source import DrillFileError, load
from tests import json_schema

GOOD = catalogue.FOLDER / "web" / "site-link-removed.md"


def changed(tmp_path: Path, *replacements: tuple[str, str], name: str = GOOD.name) -> Path:
    """A copy of a good drill in which some texts are replaced."""
    text = GOOD.read_text(encoding="utf-8")
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new, 1)
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_is_valid() -> None:
    assert lint.lint(GOOD) == []


@pytest.mark.parametrize("path", catalogue.paths(), ids=lambda path: path.stem)
def test_every_drill_of_the_catalogue_is_valid(path: Path) -> None:
    assert lint.lint(path) == []
    schema = json.loads(FILE.read_text(encoding="utf-8"))
    assert list(json_schema.validate(dict(load(path).front), schema)) == []


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("level: 1", "level: 5", "level: invalid value 5; expected an integer from 1 to 4"),
        ("level: 1", "level: one", "level: invalid value 'one'; expected an integer"),
        ("level: 1\n", "", "missing key level"),
        ("minutes:", "minuts:", "minuts: unknown key 'minuts'; did you mean minutes?"),
        ("layer: web", "layer: wep", "layer: unknown value 'wep'; did you mean web?"),
        ("layer: web", "layer: web\nlayer: web", "layer: duplicate key (first on line 6)"),
        ("run: |\n      rm", "runs: |\n      rm", "unknown key 'runs'; did you mean run?"),
        ("    get: /\n    times", "    times", "needs exactly one of check, get, run, load"),
        ("after: reboot {{ machine }}", "after: later", "invalid value 'later'"),
        ("forbidden: [lab.up", "forbidden: [lab.app", "unknown value 'lab.app'; did you mean"),
        ("explain: server", "explain: servers", "no topic 'servers'; did you mean server?"),
        ("service: nginx", "service: apache", "no check blames 'apache'"),
        ("id: site", "id: cite", "is 'cite-link-removed', and the file is"),
        ("rm /etc/nginx", "rm {{ file }}", "'file' is undefined"),
        ("rm /etc/nginx", "rm {{ file", "template"),
        ("machine: {machine: nginx}", "machine: {machine: ngins}", "no machine with role ngins"),
        ("except: machine", "except: mashine", "there is no variable 'mashine'"),
        ('X-Served-By: "^{{', 'X-Served-By: "(^{{', "is no regular expression"),
        ("{machine: nginx, except: machine}", "{token: 3, except: machine}", "machine only"),
        ("times: 10\n    expect: {servers", "expect: {exit: 1, servers", "apply to get"),
    ],
)
def test_an_error_names_file_line_and_key(tmp_path: Path, old: str, new: str, error: str) -> None:
    path = changed(tmp_path, (old, new))
    errors = lint.lint(path)
    assert errors, "no error"
    assert all(re.match(rf"{re.escape(str(path))}:\d+: ", text) for text in errors), errors
    assert any(error in text for text in errors), errors
    before = path.read_text().partition(new or "minutes:")[0]
    first = before.count("\n") + 1
    allowed = {2} if not new else {first - 1, *range(first, first + new.count("\n") + 1)}
    lines = {int(text.removeprefix(f"{path}:").split(":")[0]) for text in errors if error in text}
    assert lines <= allowed, (errors, allowed)


def test_all_errors_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    path = changed(tmp_path, ("level: 1", "level: 9"), ("layer: web", "layer: x"))
    with pytest.raises(DrillFileError) as caught:
        load(path)
    assert len(str(caught.value.what).splitlines()) == 2


def test_all_errors_of_several_files_are_reported_at_once(tmp_path: Path) -> None:
    first = changed(tmp_path, ("level: 1", "level: 9"))
    second = tmp_path / "empty.md"
    second.write_text("no front matter\n")
    third = tmp_path / "open.md"
    third.write_text("---\nid: open\n")
    with pytest.raises(DrillFileError) as caught:
        catalogue.load_all([first, second, third])
    assert "level" in caught.value.what
    assert "empty.md:1: a drill starts with a line ---" in caught.value.what
    assert "open.md:3: the front matter has no end" in caught.value.what


def test_yaml_that_cannot_be_parsed(tmp_path: Path) -> None:
    path = changed(tmp_path, ("topologies: [distributed", "topologies: [distributed, ["))
    assert any(re.search(r":\d+: invalid YAML", error) for error in lint.lint(path))


def test_a_drill_is_found_by_id_or_path() -> None:
    assert catalogue.find("site-link-removed") == GOOD
    assert catalogue.find(str(GOOD)) == GOOD
    with pytest.raises(UsageError, match="did you mean site-link-removed") as caught:
        catalogue.find("site-link-remove")
    assert caught.value.hint == "invoke drill.list shows all drills"


def test_a_skeleton_is_a_valid_drill(tmp_path: Path) -> None:
    path = skeleton.write("my-drill", "web", tmp_path)
    assert lint.lint(path) == []
    with pytest.raises(UsageError, match="exists already"):
        skeleton.write("my-drill", "web", tmp_path)
    with pytest.raises(UsageError, match="invalid id"):
        skeleton.write("My drill", "web", tmp_path)
    with pytest.raises(UsageError, match="unknown layer"):
        skeleton.write("other", "wep", tmp_path)


def test_a_missing_file_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="does not exist"):
        load(tmp_path / "none.md")


# --- the catalogue as a whole ---------------------------------------------------------------------


def test_the_catalogue_has_drills_of_every_level() -> None:
    drills = catalogue.load_all(catalogue.paths())
    assert {drill.level for drill in drills} == {1, 2, 3, 4}
    assert len({drill.layer for drill in drills}) > len(catalogue.layers()) / 2
    with_variables = [drill for drill in drills if drill.front.get("vars")]
    assert len(with_variables) > len(drills) / 2


def test_drills_are_selected_by_level_layer_and_topology() -> None:
    drills = catalogue.load_all(catalogue.paths())
    chosen = catalogue.matching(drills, level=1, layer="web", topology="distributed")
    assert GOOD.stem in {drill.id for drill in chosen}
    assert {(drill.level, drill.layer) for drill in chosen} == {(1, "web")}
