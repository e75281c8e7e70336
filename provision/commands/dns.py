"""`dns.*`: the lab's names in a hosts file, and the trace of a request."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from provision.commands import tables
from provision.commands.base import console, open_session, publish, task, url_path
from provision.commands.results import site as results
from provision.core.errors import LabError, UsageError
from provision.services.dns import hosts_file
from provision.teaching.trace import Hop, trace


@task(
    result=results.HostLines,
    help={
        "write": "write the lines to the hosts file, between markers",
        "remove": "remove them from the hosts file",
        "file": "a hosts file (default: the one of this computer)",
    },
)
def hosts(c: Any, write: bool = False, remove: bool = False, file: str = "", lab: str = "") -> None:
    """Print, write or remove lines of the hosts file."""
    if write and remove:
        raise UsageError("--write and --remove exclude each other", "pass one of them")
    path = Path(file).expanduser() if file else hosts_file.default_path()
    if remove:
        again = "sudo env PATH=$PATH invoke dns.hosts --remove"
        done = hosts_file.update(path, [], lab or "default", again)
        publish(results.HostLines(file=str(path), lines=[], changed=done))
        print(f"{path}: {'lines removed' if done else 'no lines of a lab'}")
        return
    session = open_session(lab)
    lines = hosts_file.host_lines(session.lab)
    publish(results.HostLines(file=str(path), lines=lines, changed=False))
    if not write:
        print("\n".join(lines))
        return
    again = "sudo env PATH=$PATH invoke dns.hosts --write"
    done = hosts_file.update(path, lines, session.lab.name, again)
    publish(results.HostLines(file=str(path), lines=lines, changed=done))
    outcome = "written" if done else "unchanged"
    print(f"{path}: {outcome}; {session.lab.site} resolves to lab {session.lab.name}")


@task(
    result=results.Trace,
    name="trace",
    positional=["path"],
    help={"path": "URL path, such as /notes"},
)
def trace_(c: Any, path: str = "/", lab: str = "") -> None:
    """Trace one request down to the database."""
    checked = url_path(path)
    session = open_session(lab)
    with session.fleet() as fleet:
        hops = trace(session.context, fleet, checked)
    values = [
        results.HopValues(
            component=hop.component, location=hop.location, ok=hop.ok, details=dict(hop.details)
        )
        for hop in hops
    ]
    if not publish(results.Trace(path=path, hops=values)):
        _draw(hops)
    broken = [hop for hop in hops if not hop.ok]
    if broken:
        sys.stdout.flush()
        raise LabError(f"the request fails at {broken[0].location}", "invoke lab.check")


HOP = tables.layout(
    "dns.trace",
    tables.Column("NAME"),
    tables.Column("VALUE", prose=True),
    header=False,
)
WIDTH, FRAME = 100, 4
"""Columns of a panel at most, and of its frame with the margins in it."""


def _draw(hops: list[Hop]) -> None:
    """One panel per hop, with arrows between them; without frames when a word would not fit."""
    from rich.panel import Panel
    from rich.text import Text

    screen = console()
    width = min(WIDTH, screen.width)
    for index, hop in enumerate(hops):
        if index:
            screen.print(Text(" " * 6 + "│\n" + " " * 6 + "▼"), style="dim")
        details = [(Text(name, "bold"), Text(value)) for name, value in hop.details]
        grid = tables.Grid(HOP, details)
        color = "green" if hop.ok else "red"
        title = Text(f"{index + 1}  {hop.component} · {hop.location}")
        if max(line.cell_len for line in [title, *grid.lines(width - FRAME)]) > width - FRAME:
            title.stylize(f"bold {color}")
            screen.print(title)
            screen.print(grid)
            continue
        panel = Panel(grid, title=title, title_align="left", border_style=color, width=width)
        screen.print(panel, soft_wrap=False)
