"""All drills of the checkout, and finding one by its id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from provision.core.errors import LabError, UsageError, not_among
from provision.core.lab import ROOT
from provision.core.suggestions import similar_path, suggestion
from provision.drills.drill import Drill
from provision.drills.schema import drill_schema
from provision.drills.source import DrillFileError, load

FOLDER = ROOT / "configs" / "drills"


def paths(folder: Path = FOLDER) -> tuple[Path, ...]:
    """The files of all drills, sorted."""
    return tuple(sorted(folder.glob("*/*.md")))


def ids(folder: Path = FOLDER) -> tuple[str, ...]:
    """The ids of all drills; the files are not read."""
    return tuple(sorted(path.stem for path in paths(folder)))


def layers() -> tuple[str, ...]:
    """The layers that a drill can be about."""
    return tuple(drill_schema()["properties"]["layer"]["enum"])


def require_layer(layer: str) -> None:
    """Refuse a layer that no drill can be about.

    Raises:
        UsageError: with all layers.
    """
    if layer not in layers():
        raise not_among(f"unknown layer {layer!r}", layer, layers())


def find(text: str, folder: Path = FOLDER) -> Path:
    """The file of a drill by id, or by its path.

    Raises:
        UsageError: when there is none.
    """
    for path in paths(folder):
        if path.stem == text:
            return path
    if text.endswith(".md") or "/" in text:
        if not Path(text).is_file():
            what = f"there is no drill {text}{similar_path(Path(text))}"
            raise UsageError(what, "invoke drill.list shows all drills")
        return Path(text)
    raise UsageError(
        f"there is no drill {text!r}{suggestion(text, ids(folder))}",
        "invoke drill.list shows all drills",
    )


def load_all(files: Iterable[Path]) -> tuple[Drill, ...]:
    """Read several drills.

    Raises:
        DrillFileError: with the errors of all of them.
    """
    drills, errors = [], []
    for path in files:
        try:
            drills.append(load(path))
        except LabError as error:
            errors.append(error)
    if errors:
        raise DrillFileError("\n".join(error.what for error in errors), errors[0].hint)
    by_id: dict[str, Drill] = {}
    for drill in drills:
        if drill.id in by_id:
            raise DrillFileError(f"{drill.path}: id {drill.id} is used by {by_id[drill.id].path}")
        by_id[drill.id] = drill
    return tuple(sorted(drills, key=lambda drill: (drill.level, drill.layer, drill.id)))


def matching(
    drills: Sequence[Drill], *, level: int = 0, layer: str = "", topology: str = ""
) -> tuple[Drill, ...]:
    """Those of a level, a layer, a topology; 0 and an empty string mean any.

    Raises:
        UsageError: for an unknown layer, or a topology that no drill has.
    """
    if layer:
        require_layer(layer)
    topologies = sorted({name for drill in drills for name in drill.topologies})
    if topology and topology not in topologies:
        raise not_among(f"no drill is for topology {topology!r}", topology, topologies)
    return tuple(
        drill
        for drill in drills
        if level in (0, drill.level)
        and layer in ("", drill.layer)
        and (not topology or topology in drill.topologies)
    )
