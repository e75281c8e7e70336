"""`dns.*`: the names of the lab: for a workstation, and along the way of a request."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from provision.commands.base import console, session, show_json, task
from provision.core import state
from provision.core.errors import LabError, UsageError
from provision.services.dns import names
from provision.teaching.trace import Hop, trace


@task(
    help={
        "write": "put the lines into the hosts file, between markers",
        "remove": "take them out again",
        "file": "another file than this computer's hosts file",
    }
)
def hosts(c: Any, write: bool = False, remove: bool = False, file: str = "", lab: str = "") -> None:
    """Print the lines for this computer's hosts file, or put them there, or take them out."""
    if write and remove:
        raise UsageError("--write and --remove are opposites", "give one of them")
    path = Path(file).expanduser() if file else names.hosts_file()
    if remove:
        again = "sudo env PATH=$PATH invoke dns.hosts --remove"
        done = names.change_hosts(path, [], lab or "default", again)
        print(f"{path}: {'the lines are gone' if done else 'there are no lines of a lab'}")
        return
    now = session(lab)
    lines = names.hosts_lines(now.lab)
    if not write:
        print("\n".join(lines))
        return
    again = f"sudo env PATH=$PATH {state.up(now.lab.directory, 'dns.hosts')} --write"
    done = names.change_hosts(path, lines, now.lab.name, again)
    print(f"{path}: {'written' if done else 'unchanged'}; {now.lab.site} is lab {now.lab.name} now")


@task(
    name="trace",
    positional=["path"],
    help={"path": "of the page, such as /notes", "json": "for programs"},
)
def trace_(c: Any, path: str = "/", lab: str = "", json: bool = False) -> None:
    """Show the way of one request, from the name to a row of the database, hop by hop."""
    if not path.startswith("/") or any(c.isspace() or ord(c) < 33 or ord(c) > 126 for c in path):
        raise UsageError(f"{path!r} is not a path", "such as /, /healthz or /api/notes?limit=1")
    now = session(lab)
    with now.fleet() as fleet:
        hops = trace(now.context, fleet, path)
    if json:
        show_json([hop.values() for hop in hops])
    else:
        _draw(hops)
    broken = [hop for hop in hops if not hop.ok]
    if broken:
        sys.stdout.flush()
        raise LabError(f"the way ends at {broken[0].where}", "invoke lab.check")


def _draw(hops: list[Hop]) -> None:
    """A panel a hop, with an arrow and the time between them."""
    from rich.panel import Panel
    from rich.text import Text

    screen = console()
    width = min(100, screen.width)
    for place, hop in enumerate(hops):
        if place:
            screen.print(Text(" " * 6 + "│\n" + " " * 6 + "▼"), style="dim")
        text = Text()
        for number, (name, value) in enumerate(hop.said):
            text.append("\n" if number else "")
            text.append(f"{name:<10}", style="bold")
            text.append(value)
        colour = "green" if hop.ok else "red"
        title = Text(f"{place + 1}  {hop.what} · {hop.where}")
        screen.print(Panel(text, title=title, title_align="left", border_style=colour, width=width))
