"""The one table of every command: it fits the screen and never breaks a word.

When a table is wider than the screen, columns of prose wrap between words, then columns are left
out, the least important first. When the essential columns do not fit either, each row becomes a
record with one line per value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GAP = 2
PROSE = 24
"""The least width of a column of prose, unless it has another."""


@dataclass(frozen=True)
class Column:
    """A column.

    Args:
        rank: 0 for an essential column; of the others, the highest is left out first.
        prose: its text may wrap between words.
        right: aligned to the right, as numbers are.
        least: width below which prose is not narrowed, nor below its longest word.
    """

    name: str
    rank: int = 0
    prose: bool = False
    right: bool = False
    least: int = PROSE


@dataclass(frozen=True)
class Layout:
    """The columns of a table.

    Args:
        name: the task that prints it; unique.
        header: whether the names of the columns are printed above them.
    """

    name: str
    columns: tuple[Column, ...]
    header: bool = True


LAYOUTS: dict[str, Layout] = {}
"""The tables of all commands that were imported, by name."""


def layout(name: str, *columns: Column, header: bool = True) -> Layout:
    """Declare a table."""
    declared = LAYOUTS[name] = Layout(name, columns, header)
    return declared


class Grid:
    """Rows of a layout; a Rich renderable that fits the width it is given.

    Args:
        rows: cells are Rich's markup or texts.
    """

    def __init__(self, layout: Layout, rows: Iterable[Sequence[Any]]) -> None:
        from rich.text import Text

        self._layout = layout
        width = len(layout.columns)
        self._rows = [
            [
                Text.from_markup(cell) if isinstance(cell, str) else cell
                for cell in (*row, *[""] * (width - len(row)))
            ]
            for row in rows
        ]

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        yield from self.lines(options.max_width)

    def lines(self, width: int) -> Iterator[Any]:
        """The lines of the table on a screen of this width, as Rich texts."""
        natural = self._natural_widths()
        fitted = fit(self._layout.columns, natural, self._least_widths(natural), width)
        if not fitted:
            yield from self._records(width)
            return
        if self._layout.header:
            names = [self._text(self._layout.columns[i].name, "bold") for i in fitted]
            yield self._line(list(fitted), names, list(fitted.values()))
        for row in self._rows:
            cells = [wrapped(row[i], space) for i, space in fitted.items()]
            for number in range(max(map(len, cells))):
                parts = [cell[number] if number < len(cell) else self._text() for cell in cells]
                yield self._line(list(fitted), parts, list(fitted.values()))
        columns = enumerate(self._layout.columns)
        left_out = [c.name or "?" for i, c in columns if i not in fitted and natural[i]]
        if left_out:
            yield from wrapped(
                self._text(f"(not shown in {width} columns: {', '.join(left_out)})", "dim"), width
            )

    def _natural_widths(self) -> list[int]:
        """The width of each column on an unlimited screen; 0 for one without any text."""
        widths = []
        for index, column in enumerate(self._layout.columns):
            widest = max((row[index].cell_len for row in self._rows), default=0)
            header = len(column.name) if self._layout.header else 0
            widths.append(max(widest, header) if widest or column.rank == 0 else 0)
        return widths

    def _least_widths(self, natural: Sequence[int]) -> list[int]:
        least = list(natural)
        for index, column in enumerate(self._layout.columns):
            if column.prose and natural[index]:
                words = [word for row in self._rows for word in row[index].plain.split()]
                longest = max([len(column.name), column.least, *map(len, words)])
                least[index] = min(natural[index], longest)
        return least

    def _line(self, columns: Sequence[int], cells: Sequence[Any], widths: Sequence[int]) -> Any:
        line = self._text()
        for index, cell, width in zip(columns, cells, widths, strict=True):
            space = " " * (width - cell.cell_len)
            right = self._layout.columns[index].right
            line.append(space if right else "")
            line.append_text(cell)
            line.append(("" if right else space) + " " * GAP)
        line.rstrip()
        return line

    def _records(self, width: int) -> Iterator[Any]:
        """One paragraph per row: the first value, and one line for each of the others.

        A table without a header has no names of values either.
        """
        columns, named = self._layout.columns, self._layout.header
        names = [column.name.lower() if named else "" for column in columns]
        indent = 2 + (max(map(len, names[1:])) + GAP if named else 0)
        for row in self._rows:
            yield from wrapped(row[0], width)
            for name, cell in zip(names[1:], row[1:], strict=True):
                if not cell.plain.strip():
                    continue
                label = f"  {name}".ljust(indent)
                for number, part in enumerate(wrapped(cell, max(1, width - indent))):
                    line = self._text(" " * indent if number else label, "dim")
                    line.append_text(part)
                    yield line

    @staticmethod
    def _text(text: str = "", style: str = "") -> Any:
        from rich.text import Text

        return Text(text, style, no_wrap=True, overflow="ignore")


def fit(
    columns: Sequence[Column], natural: Sequence[int], least: Sequence[int], width: int
) -> Mapping[int, int]:
    """The width of each column that is shown, by its index; empty when the table does not fit.

    Args:
        natural: width of each column on an unlimited screen; 0 leaves it out.
        least: width below which it is not narrowed.
        width: of the screen.
    """
    shown = [index for index in range(len(columns)) if natural[index]]
    while True:
        gaps = GAP * (len(shown) - 1)
        widths = {index: natural[index] for index in shown}
        excess = sum(widths.values()) + gaps - width
        while excess > 0:
            narrowable = [index for index in shown if widths[index] > least[index]]
            if not narrowable:
                break
            widths[max(narrowable, key=widths.__getitem__)] -= 1  # the widest gives way
            excess -= 1
        else:
            return widths
        droppable = [index for index in shown if columns[index].rank]
        if not droppable:
            return {}
        shown.remove(max(droppable, key=lambda index: (columns[index].rank, index)))


def wrapped(text: Any, width: int) -> list[Any]:
    """The lines of a text, broken between words only."""
    from rich.text import Text

    lines: list[Any] = []
    for paragraph in text.split("\n", allow_blank=True):
        current = Text(no_wrap=True, overflow="ignore")
        if paragraph.cell_len <= width:
            lines.append(paragraph)
            continue
        for word in paragraph.split(" "):
            if current.plain and current.cell_len + 1 + word.cell_len > width:
                lines.append(current)
                current = Text(no_wrap=True, overflow="ignore")
            current.append(" " if current.plain else "")
            current.append_text(word)
        lines.append(current)
    for line in lines:
        line.no_wrap, line.overflow = True, "ignore"
    return lines


class Lines:
    """Lines of text in Rich's markup; a renderable that breaks them between words only."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = tuple(lines)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        for line in self._lines:
            yield from wrapped(Text.from_markup(line), options.max_width)


def show(console: Any, layout: Layout, rows: Iterable[Sequence[Any]]) -> None:
    """Print rows of a layout."""
    console.print(Grid(layout, rows), soft_wrap=True)


class Screen:
    """A table that updates in place on a terminal, and is printed repeatedly otherwise."""

    def __init__(self, console: Any) -> None:
        self._console = console
        self._live: Any = None

    def __enter__(self) -> Screen:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            from rich.live import Live

            self._console.soft_wrap = False  # a line must not take two of the screen
            self._live = Live(
                console=self._console, auto_refresh=False, vertical_overflow="visible"
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, shown: Any) -> None:
        """Replace what is shown: a `Grid` or another renderable."""
        if self._live is not None:
            self._live.update(shown, refresh=True)
        else:
            self._console.print(shown)
