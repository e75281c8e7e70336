"""`lab.diagram`: a diagram of the lab in the terminal, as SVG, PNG or JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from provision import registry
from provision.commands.base import console, lab_name, number, open_session, publish, task
from provision.commands.explain import observe_lab
from provision.commands.results import teaching as results
from provision.core.atomic import atomic_file
from provision.core.errors import UsageError
from provision.core.files import cannot_write
from provision.core.state import State, lab_names
from provision.core.suggestions import suggestion
from provision.teaching import diagram as pictures
from provision.topology import labs

WIDTH = "1920"
"""Pixels of a PNG: full HD, for slides."""
BOX, FRAME = 26, 4
"""In the terminal, columns of a machine's box, and of its frame with the margins in it."""


@task(
    result=results.DiagramValues,
    help={
        "svg": "write an SVG file (default: draw in the terminal)",
        "png": "write a PNG file (default: draw in the terminal)",
        "width": f"width of the PNG in pixels (default: {WIDTH})",
        "topology": "a topology to draw (default: the lab)",
        "all": "also services that are no part of the site, such as exporters and ssh",
    },
)
def diagram(
    c: Any,
    svg: str = "",
    png: str = "",
    width: str = "",
    topology: str = "",
    all: bool = False,
    lab: str = "",
) -> None:
    """Draw the lab with addresses, colored by its state."""
    vector = _target(svg, "--svg", ".svg")
    pixels = _target(png, "--png", ".png")
    if width and not pixels:
        raise UsageError("--width applies to --png only", "add --png lab.png")
    wide = int(number(width or WIDTH, "--width", 320, 4096))
    picture = _picture(lab_name(lab), topology, everything=all)
    files = [str(path) for path in (vector, pixels) if path]
    if vector or pixels:
        from provision.teaching.drawing.layout import drawing

        shapes = drawing(picture)
        if vector:
            from provision.teaching.drawing.svg import svg as written

            _write(vector, written(shapes).encode())
        if pixels:
            from provision.teaching.drawing.png import png as painted  # Pillow: for this alone

            _write(pixels, painted(shapes, wide))
    if not publish(_values(picture, files)) and not files:
        _draw(picture)


def _values(picture: pictures.Diagram, files: list[str]) -> results.DiagramValues:
    return results.DiagramValues(
        title=picture.title,
        site=picture.site,
        layers=[
            results.DiagramLayer(
                role=layer.role,
                title=layer.title,
                connection=layer.connection,
                boxes=[_box(box) for box in layer.boxes],
            )
            for layer in picture.layers
        ],
        replication=[
            results.ReplicationArrow(source=source, replica=replica)
            for source, replica in picture.replication
        ],
        files=files,
    )


def _box(box: pictures.MachineBox) -> results.Box:
    return results.Box(
        machine=box.name,
        address=box.address,
        state=box.state,
        color=box.color,
        note=box.note,
        programs=[
            results.Program(service=p.name, state=p.state, ok=not p.bad) for p in box.programs
        ],
    )


def _target(option: str, name: str, suffix: str) -> Path | None:
    """The path of an option; its suffix must match the format."""
    if not option:
        return None
    path = Path(option).expanduser()
    if path.suffix.lower() != suffix:
        raise UsageError(
            f"{name} {option}: the file name must end in {suffix}",
            f"{name} {path.with_suffix(suffix)}" if path.name else f"{name} lab{suffix}",
        )
    return path


def _write(path: Path, content: bytes) -> None:
    try:
        with atomic_file(path, 0o644) as file:
            file.write(content)
    except OSError as error:
        raise cannot_write(path, error) from None
    print(f"wrote {path}", file=sys.stderr)


def _picture(name: str, topology: str, *, everything: bool = False) -> pictures.Diagram:
    """The lab's current state; a topology, when one is given or the lab does not exist."""
    # A lab that was never up is drawn on its topology's own network: none has to be free.
    here, recorded = labs.open_lab(name, topology=topology or None, keep_addresses=True)
    if recorded is not None and not topology:
        session = open_session(name)
        return pictures.diagram(session.context, observe_lab(session), everything=everything)
    if not topology:
        similar = suggestion(name, lab_names())
        what = f"note: lab {name} does not exist yet; this is its topology{similar}"
        print(what, file=sys.stderr)
    planned = State(topology=here.topology.name, primary=here.topology.primary)
    return pictures.planned_diagram(registry.context(here, planned), everything=everything)


def _draw(picture: pictures.Diagram) -> None:
    """One row of boxes per layer, with arrows between the rows."""
    from rich.align import Align
    from rich.columns import Columns
    from rich.panel import Panel
    from rich.text import Text

    screen = console()
    width = min(100, screen.width)
    names = [
        word for x in picture.layers for b in x.boxes for p in b.programs for word in p.name.split()
    ]
    box_width = max([BOX, *(len(name) + FRAME for name in names)])
    colors = {"green": "green", "orange": "yellow", "red": "red", "grey": "dim"}

    def centered(what: Any) -> None:
        screen.print(Align.center(what), width=width, soft_wrap=False)

    centered(Text(picture.title, style="bold"))
    centered(Panel(Text(picture.site), border_style="blue", expand=False))
    sources = {target: source for source, target in picture.replication}
    for layer in picture.layers:
        for line in ("│", layer.connection, "▼") if layer.connection else (" ",):
            centered(Text(line, style="dim"))
        boxes = []
        for box in layer.boxes:
            text = Text(
                f"{box.address}\n{box.state}", style="dim" if box.state == "running" else ""
            )
            for program in box.programs:
                label = f"{program.name}: {program.state}" if program.bad else program.name
                text.append(f"\n{label}", style="bold red" if program.bad else "default not dim")
            note = box.note + (f" of {sources[box.name]}" if box.name in sources else "")
            text.append(f"\n{note}" if note else "", style="italic magenta not dim")
            boxes.append(
                Panel(
                    text,
                    title=f"[bold]{box.name}[/]",
                    border_style=colors[box.color],
                    width=box_width,
                )
            )
        centered(Columns(boxes, padding=(0, 3)))
