"""The board's page in headless Chromium, with SSH servers on loopback instead of a lab."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.drills import events
from tests.browser import Page, browser
from tests.unit.board.rooms import TEACHER, RunningBoard, Wire

pytestmark = pytest.mark.live

ROWS = "[...document.querySelectorAll('.screen:not([hidden]) .xterm-rows')].at(-1)?.innerText"


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def board(tmp_path: Path, wire: Wire) -> Iterator[RunningBoard]:
    """Reached directly, and over a wire that can be cut."""
    running = RunningBoard(tmp_path / "board", hosts=(f"127.0.0.1:{wire.port}",))
    wire.target = running.port
    yield running
    running.close()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with browser(tmp_path / "profile") as opened:
        opened.size(1280, 720)
        yield opened


def open_terminal(page: Page, machine: str) -> None:
    """Choose a machine in the list of the terminals."""
    choice = "document.querySelector('.tabs select')"
    page.wait(f"[...({choice})?.options ?? []].some(o => o.text === '{machine}')")
    page.eval(
        f"(s => {{ s.selectedIndex = [...s.options].findIndex(o => o.text === '{machine}');"
        f" s.dispatchEvent(new Event('change')) }})({choice})"
    )
    page.wait(f"({ROWS})?.includes('{machine}$')")


def test_a_dropped_connection_goes_on_with_its_scrollback(
    board: RunningBoard, wire: Wire, page: Page
) -> None:
    page.open(f"http://127.0.0.1:{wire.port}/#code={board.codes['red']}")
    open_terminal(page, "web-01")
    page.type("A=kept; echo before; sleep 3; echo while it was $((20+3)) away\n")
    page.wait(f"({ROWS})?.includes('before\\n')")
    wire.drop()
    page.wait("document.body.innerText.includes('connection lost, connecting again')")
    time.sleep(4)
    wire.cut = False
    page.wait(f"({ROWS})?.includes('while it was 23 away')")
    page.type("echo $A and $((40+2))\n")
    page.wait(f"({ROWS})?.includes('kept and 42')")
    rows = page.eval(ROWS)
    assert rows.count("\nbefore\n") == 1
    assert rows.count("while it was 23 away") == 1
    page.wait("document.querySelector('#status').textContent === 'live'")
    # The same after the page was loaded again: the whole scrollback is there.
    page.call("Page.reload")
    page.wait(f"({ROWS})?.includes('kept and 42')")
    assert "before" in page.eval(ROWS)


def test_a_teacher_watches_and_takes_part_when_invited(
    board: RunningBoard, page: Page, tmp_path: Path
) -> None:
    page.open(f"http://{board.host}/#code={board.codes['red']}")
    open_terminal(page, "web-01")
    page.type("echo from the team\n")
    page.wait(f"({ROWS})?.includes('\\nfrom the team')")
    with browser(tmp_path / "teacher") as teacher:
        teacher.size(1280, 720)
        teacher.open(f"http://{board.host}/#code={TEACHER}")
        teacher.press("Watch (1)")
        teacher.wait(f"({ROWS})?.includes('from the team')")
        teacher.wait("document.body.innerText.includes('read-only')")
        page.wait("document.body.innerText.includes('the teacher watches this terminal')")
        teacher.eval("document.querySelector('.xterm-helper-textarea').focus()")
        teacher.type("echo intruder\n")
        page.press("Invite the teacher")
        teacher.wait("document.body.innerText.includes('you take part')")
        teacher.type("echo from the teacher $((1+1))\n")
        page.wait(f"({ROWS})?.includes('from the teacher 2')")
        assert "intruder" not in page.eval(ROWS)
        teacher.eval("location.hash = 'view=class'")
        teacher.press("Record all")
        page.wait("!document.querySelector('#recorded').hidden")
        for kind in ("starting", "started"):
            events.append(board.directory("red"), 1, kind, drill="x", path="/none", minutes=5)
        page.eval("document.querySelector('.xterm-helper-textarea').focus()")
        page.type("echo recorded $((3+4))\n")
        page.wait(f"({ROWS})?.includes('recorded 7')")
        teacher.press("Stop recording")
        page.wait("document.querySelector('#recorded').hidden")
        teacher.eval("location.hash = 'view=replay&team=red'")
        teacher.press("web-01", ".recordings button")
        teacher.press("0:", ".markers button")
        teacher.wait("document.querySelector('.markers').innerText.includes('run 1: starts x')")
        teacher.wait(
            "document.querySelector('.player .xterm-rows').innerText.includes('recorded 7')"
        )
        teacher.eval("location.hash = 'view=report'")
        teacher.wait("document.querySelector('.report td')?.textContent === 'red'")
        assert not teacher.messages
    assert not page.messages
    assert {url.split("/")[2] for url in page.requests} == {board.host}


def test_the_page_is_usable_with_the_keyboard_and_fits_a_phone(
    board: RunningBoard, page: Page
) -> None:
    page.open(f"http://{board.host}/")
    page.wait("document.activeElement?.id === 'code'")
    page.type(board.codes["red"].lower() + "\n")
    open_terminal(page, "web-01")
    page.wait("document.activeElement?.classList.contains('xterm-helper-textarea')")
    page.key("ArrowUp", modifiers=2 + 8)
    page.wait("document.activeElement?.getAttribute('role') === 'tab'")
    page.key("Tab", number=9)
    page.wait("document.activeElement?.getAttribute('aria-label') === 'Close web-01'")
    for dark in (False, True):
        for width, height in ((1280, 720), (390, 844)):
            page.size(width, height, dark=dark)
            page.wait(f"document.documentElement.scrollWidth <= {width}")
    unnamed = page.eval(
        "[...document.querySelectorAll('button, select, input')]"
        ".filter(e => !(e.textContent.trim() || e.getAttribute('aria-label'))).length"
    )
    assert unnamed == 0
    assert not page.messages
