"""What commands print on narrow screens: no name and no command is broken, charts fit."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Callable

import pytest

from provision import checks
from provision.checks.observation import Observation
from provision.checks.paths import TracedPath, paths
from provision.commands import base, diagram, dns, monitor_screen, progress, show, show_checks
from provision.commands.tables import Lines
from provision.core.lab import ROOT
from provision.drills import catalogue, lint
from provision.drills.render import LabValues, render
from provision.monitoring.agent.prometheus import Series, View
from provision.teaching import diagram as pictures
from provision.teaching import explain as texts
from provision.teaching.trace import Hop
from tests.unit.samples import RECORDED, context, observation

WIDTHS = (40, 60, 80)
WIDE = 4000
FRAMES = re.compile("[╭╮╰╯│─━▼•┤└]+")

Draw = Callable[[], None]


@pytest.fixture
def printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Draw, int], str]:
    """What is printed on a terminal of a width, without colors."""

    def run(draw: Draw, width: int) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        draw()
        return capsys.readouterr().out

    return run


def words(text: str) -> set[str]:
    return set(FRAMES.sub(" ", text.lower()).split())


def no_word_is_broken(
    printed: Callable[[Draw, int], str], draw: Draw, without: set[str] | None = None
) -> None:
    """Every word of the widest screen is on narrow ones.

    Args:
        without: words that are only on wide ones.
    """
    whole = words(printed(draw, WIDE)) - (without or set())
    for width in WIDTHS:
        text = printed(draw, width)
        assert not whole - words(text), f"at {width}: {sorted(whole - words(text))}\n{text}"


def commands_of(markdown: str) -> list[str]:
    """The lines of its code blocks."""
    return re.findall(r"(?<=\n)    (\S.*)$", markdown, re.MULTILINE)


def markdowns() -> dict[str, str]:
    """Every explanation and the story and hints of every drill, with the values of a lab."""
    known = {}
    for topology in ("distributed", "scaled"):
        here = context(topology)
        for topic in texts.TOPICS:
            known[f"{topic}-{topology}"] = texts.text(here, topic, Observation({}))
    for drill in catalogue.load_all(catalogue.paths()):
        lab = lint.sample_lab(drill.topologies[0])
        exercise = render(drill, LabValues(lab, lab.topology.primary, "09:41"), "7")
        hints = [hint.text for hint in exercise.hints]
        known[drill.id] = "\n\n".join([exercise.story, *hints, exercise.lesson])
    return known


MARKDOWNS = markdowns()


@pytest.mark.parametrize("name", MARKDOWNS)
def test_explanations_and_drills(name: str, printed: Callable[[Draw, int], str]) -> None:
    text = MARKDOWNS[name]
    first_headers = words(" ".join(re.findall(r"^\| *([^|]*)[^\n]*\n\|-", text, re.MULTILINE)))
    no_word_is_broken(printed, lambda: base.print_markdown(text), first_headers)
    for width in WIDTHS:
        shown = [
            line.strip() for line in printed(lambda: base.print_markdown(text), width).splitlines()
        ]
        for command in commands_of(text):
            assert command.strip() in shown, f"{command!r} is broken at {width}"


@pytest.mark.parametrize("topology", ["simple", "distributed", "secured", "scaled"])
def test_diagrams(topology: str, printed: Callable[[Draw, int], str]) -> None:
    picture = pictures.planned_diagram(context(topology), everything=True)
    no_word_is_broken(printed, lambda: diagram._draw(picture))


def test_a_traced_request(printed: Callable[[Draw, int], str]) -> None:
    long = "etag-0123456789abcdef0123456789abcdef0123456789"
    hops = [
        Hop("name server", "lb-01", (("name", "www.foobar.com"), ("address", "192.168.56.10"))),
        Hop("Nginx", "web-01", (("header", f"ETag: {long}"), ("log", "a b c d e f g" * 8)), False),
    ]
    no_word_is_broken(printed, lambda: dns._draw(hops))
    assert "╭" in printed(lambda: dns._draw(hops[:1]), 40)
    assert "╭" not in printed(lambda: dns._draw(hops[1:]), 40)


def test_checks_and_paths(printed: Callable[[Draw, int], str]) -> None:
    here = context("scaled")
    judged = checks.judge(here, Observation({}))
    no_word_is_broken(printed, lambda: show_checks.print_checks(base.console(), judged))
    traced = [TracedPath(hops, hops[-1], "connection refused") for hops in paths(here.lab)]
    no_word_is_broken(printed, lambda: show_checks.print_paths(base.console(), traced, "two"))
    command = "next: invoke lab.check --lab two"
    assert command in printed(lambda: show_checks.print_paths(base.console(), traced, "two"), 40)


def test_status_names_every_machine_service_and_state(printed: Callable[[Draw, int], str]) -> None:
    here, seen = context(str(RECORDED / "lab.yml")), observation()
    values = show.status_values(here, seen)
    for width in WIDTHS:
        text = printed(lambda: show.status(base.console(), here, seen, values), width)
        for entry in values["machines"]:
            for word in (entry["machine"], entry["state"], *entry.get("services", ())):
                assert word in words(text), f"{word} at {width}\n{text}"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("server", ["", "web-01"])
def test_charts_fit(width: int, server: str, printed: Callable[[Draw, int], str]) -> None:
    here = context("secured")
    steps = tuple((float(5 * n), float(n % 9)) for n in range(61))
    series = {
        "requests": tuple(Series({"server": name}, steps) for name in ("web-01", "web-02")),
        "errors": (Series({"code": "5xx"}, steps),),
    }
    view = View(300.0, 300, 5, series=series)

    def draw() -> None:
        base.console().print(monitor_screen.screen(here, view, base.console().width))
        base.console().print(monitor_screen.rate(here, view, server, base.console().width))

    text = printed(draw, width)
    charts = [line for line in text.splitlines() if re.search("[▁-█┤└]|min ago", line)]
    assert max(map(len, charts)) <= width, text
    assert len(charts) > 10


def test_progress_breaks_no_word() -> None:
    shown = progress.Progress(quiet=True)
    shown("web-01", "waiting for prometheus-node-exporter [3/5] on 192.168.100.110")
    for width in (30, *WIDTHS):
        lines = [line.plain for line in shown._table().lines(width)]
        assert {"prometheus-node-exporter", "[3/5]", "192.168.100.110"} <= words("\n".join(lines))
        assert max(map(len, lines)) <= max(width, len("prometheus-node-exporter") + 14)


def test_lines_break_between_words() -> None:
    lines = Lines(["[green]ok[/]  the site responds with prometheus-node-exporter"])
    options = type("Options", (), {"max_width": 30})()
    parts = [line.plain for line in lines.__rich_console__(None, options)]
    assert parts == ["ok  the site responds with", "prometheus-node-exporter"]


def test_only_one_console_prints_to_stdout() -> None:
    """Its default is not to break lines; what needs frames says so."""
    made, broken = set(), set()
    for path in (ROOT / "provision").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Console":
                made.add(path.name)
            if isinstance(node, ast.keyword) and ast.unparse(node) == "soft_wrap=False":
                broken.add(path.name)
    assert made == {"base.py", "progress.py"}
    assert broken == {"base.py", "diagram.py", "dns.py"}


def test_commands_of_explanations_can_be_typed() -> None:
    lines = [line for text in MARKDOWNS.values() for line in commands_of(text)]
    assert len(lines) > 20
    for line in lines:
        if line.startswith("invoke "):
            assert shlex.split(line, comments=True)
