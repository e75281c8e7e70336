"""Markdown on a terminal: no line of a command and no word of a table is broken."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Markdown, Paragraph, TableElement
from rich.text import Text

from provision.commands.tables import Column, Grid, Layout, wrapped

LEAST = 9
"""A column of a table is not narrowed below this, nor below its longest word."""


class CodeLines(CodeBlock):
    """A code block whose lines can be copied: one that is wider than the screen is not broken."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Highlighted when it fits, plain otherwise."""
        lines = str(self.text).rstrip().splitlines()
        if max(map(len, lines), default=0) + 2 <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        for line in ("", *lines, ""):
            yield Text(line, "markdown.code", no_wrap=True, overflow="ignore")


class WholeWords(Paragraph):
    """A paragraph that is broken between words only."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Its lines."""
        yield from wrapped(self.text, options.max_width)


class GridTable(TableElement):
    """A table as all commands print them."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Columns, or records on a narrow screen."""
        header = self.header.row.cells if self.header and self.header.row else []
        columns = [Column(cell.content.plain, prose=True, least=LEAST) for cell in header]
        rows = [[cell.content for cell in row.cells] for row in self.body.rows] if self.body else []
        if columns and rows:
            yield from Grid(Layout("markdown", tuple(columns)), rows).lines(options.max_width)


class WholeMarkdown(Markdown):
    """Markdown with the elements of this module."""

    elements: ClassVar[Any] = {
        **Markdown.elements,
        "paragraph_open": WholeWords,
        "fence": CodeLines,
        "code_block": CodeLines,
        "table_open": GridTable,
    }
