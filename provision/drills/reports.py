"""Reports about the runs in a lab, for a teacher: CSV, and one HTML page without other files."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = (
    "run",
    "team",
    "drill",
    "seed",
    "outcome",
    "started",
    "solved",
    "ended",
    "seconds",
    "minutes",
    "exam",
    "hints",
    "checks",
    "assisted",
    "shortcuts",
    "counted_commands",
    "commands",
)

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: .3em .7em; border-bottom: 1px solid #ccc; vertical-align: top; }
td.solved { color: #06632c; } td.unsolved, td.given-up, td.failed { color: #a01818; }
pre { margin: 0; font-size: 13px; }
"""

Row = Mapping[str, Any]


def as_csv(rows: Sequence[Row], first: Sequence[str] = ()) -> str:
    """One line per run, with a header (RFC 4180).

    Args:
        first: further columns before the others.
    """
    columns = (*first, *COLUMNS)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(name, "")) for name in columns])
    return stream.getvalue()


def as_html(rows: Sequence[Row], title: str) -> str:
    """A page with one table."""
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in COLUMNS)
    body = "\n".join(
        f"<tr>{''.join(_html_cell(row, name) for name in COLUMNS)}</tr>" for row in rows
    )
    text = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{text}</h1>\n"
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>\n</body></html>\n"
    )


def _html_cell(row: Row, name: str) -> str:
    value = row.get(name, "")
    if name == "commands":
        text = html.escape(_cell(value))
        return f"<td><pre>{text}</pre></td>"
    kind = f' class="{html.escape(str(value).replace(" ", "-"))}"' if name == "outcome" else ""
    return f"<td{kind}>{html.escape(_cell(value))}</td>"


def _cell(value: Any) -> str:
    """A value as text that no spreadsheet takes for a formula."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        rows = []
        for name, item in value.items():
            lines = item if isinstance(item, list | tuple) else [item]
            rows += [f"{name}: {line}" for line in lines]
        return "\n".join(rows)
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    text = str(value)
    return f"'{text}" if text[:1] in "=+-@" and text[1:2] else text
