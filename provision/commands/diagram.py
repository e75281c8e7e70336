"""`lab.diagram`: the topology as a picture, in a terminal, as SVG, as PNG, as JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from provision.commands.base import console, lab_name, number, session, show_json, task
from provision.commands.explain import seen_now
from provision.core.errors import LabError, UsageError
from provision.core.state import State
from provision.engine.context import Context
from provision.teaching import diagram as pictures
from provision.topology import labs

WIDTH = "1920"
"""Pixels of a PNG, as slides and projectors have them."""


@task(
    help={
        "svg": "write it into this file, sharp at any size",
        "png": "write it into this file, for slides",
        "width": f"of the PNG, pixels (default: {WIDTH})",
        "topology": "draw this design instead of the lab as it is: a name, or a file",
        "json": "for programs",
    }
)
def diagram(
    c: Any,
    svg: str = "",
    png: str = "",
    width: str = "",
    topology: str = "",
    lab: str = "",
    json: bool = False,
) -> None:
    """Draw the topology with its real addresses, coloured by how everything is now."""
    vector = _target(svg, "--svg", ".svg")
    pixels = _target(png, "--png", ".png")
    if width and not pixels:
        raise UsageError("--width is of a PNG, and none is asked for", "add --png lab.png")
    wide = int(number(width or WIDTH, "--width", 320, 4096))
    picture = _picture(lab_name(lab), topology)
    if json:
        show_json(picture.values())
    if vector or pixels:
        from provision.teaching.drawing.layout import drawing

        shapes = drawing(picture)
        if vector:
            from provision.teaching.drawing.svg import svg as written

            _write(vector, written(shapes).encode())
        if pixels:
            from provision.teaching.drawing.png import png as painted  # Pillow: for this alone

            _write(pixels, painted(shapes, wide))
    if not vector and not pixels and not json:
        _draw(picture)


def _target(option: str, name: str, suffix: str) -> Path | None:
    """The file that an option names; the name has to say what is in it."""
    if not option:
        return None
    path = Path(option).expanduser()
    if path.suffix.lower() != suffix:
        raise UsageError(
            f"{name} {option}: such a picture's name ends in {suffix}",
            f"{name} {path.with_suffix(suffix)}" if path.name else f"{name} lab{suffix}",
        )
    return path


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise LabError(
            f"{path} cannot be written: {error.strerror or error}",
            "name a file in a folder that is there and that you may write to",
        ) from None
    print(f"{path} is written", file=sys.stderr)


def _picture(name: str, topology: str) -> pictures.Diagram:
    """The lab as it is; the design, when one is asked for or the lab was never up."""
    here, recorded = labs.open_lab(name, topology=topology or None)
    if recorded is not None and not topology:
        now = session(name)
        return pictures.diagram(now.context, seen_now(now))
    if not topology:
        print(f"note: there is no lab {name} yet, so this is its design", file=sys.stderr)
    planned = State(topology=here.topology.name, primary=here.topology.primary)
    return pictures.design(Context(here, planned))


def _draw(picture: pictures.Diagram) -> None:
    """Rows of boxes, an arrow between rows."""
    from rich.align import Align
    from rich.columns import Columns
    from rich.panel import Panel
    from rich.text import Text

    screen = console()
    width = min(100, screen.width)
    colours = {"green": "green", "orange": "yellow", "red": "red", "grey": "dim"}

    def centred(what: Any) -> None:
        screen.print(Align.center(what), width=width)

    centred(Text(picture.title, style="bold"))
    centred(Panel(Text(picture.site), border_style="blue", expand=False))
    sources = {target: source for source, target in picture.replication}
    for layer in picture.layers:
        centred(Text(f"│  {layer.asked}\n▼" if layer.asked else " ", style="dim"))
        boxes = []
        for box in layer.boxes:
            text = Text(
                f"{box.address}\n{box.state}", style="dim" if box.state == "running" else ""
            )
            for program in box.programs:
                said = f"\n{program.name}: {program.state}" if program.bad else f"\n{program.name}"
                text.append(said, style="bold red" if program.bad else "default not dim")
            note = box.note + (f" of {sources[box.name]}" if box.name in sources else "")
            text.append(f"\n{note}" if note else "", style="italic magenta not dim")
            boxes.append(
                Panel(
                    text, title=f"[bold]{box.name}[/]", border_style=colours[box.colour], width=26
                )
            )
        centred(Columns(boxes, padding=(0, 3)))
