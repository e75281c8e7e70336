"""The board with a real lab, in headless Chromium."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from provision.core.lab import ROOT
from provision.drills import flow
from provision.drills.run import require_current
from tests.browser import Page, browser
from tests.live.conftest import RunningLab, wait_until

pytestmark = pytest.mark.live

DRILL = "site-link-removed"
ROWS = "[...document.querySelectorAll('.screen:not([hidden]) .xterm-rows')].at(-1)?.innerText"


@dataclass
class ServedBoard:
    """A board that runs, and its addresses with their codes."""

    learner: str
    teacher: str
    pid: int

    @property
    def host(self) -> str:
        return self.learner.split("/")[2]


@contextlib.contextmanager
def served(lab: RunningLab) -> Iterator[ServedBoard]:
    """The board of a lab; it ends in order."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = lab.start("board.serve", "--port", str(port))
    try:
        command.wait_for_output("Ctrl-C ends it")
        learner, teacher = re.findall(r"(http://\S+#code=\S+)", command.output)
        yield ServedBoard(learner, teacher, command.process.pid)
    finally:
        command.signal(15)
        assert command.wait(90) == 0, command.output


def click_machine(page: Page, name: str) -> None:
    """Open the terminal of a machine, as a click on it in the topology does."""
    page.click(f"[data-machine={name}]")
    page.wait(
        f"document.querySelector('.tab[aria-selected=true]')?.textContent.startsWith('{name}')"
    )
    page.wait(f"({ROWS})?.includes('$')")


def type_line(page: Page, line: str) -> None:
    """Type a line, and wait until it has run: the shell computes a number that nobody typed."""
    number = random.randrange(10**6, 10**7)
    page.type(f"{line}; echo =$(({number}+1))=\n")
    page.wait(f"({ROWS})?.includes('={number + 1}=')")


def solution(lab: RunningLab) -> list[tuple[str, tuple[str, ...]]]:
    """The lines that solve the running drill, without recording that they were shown."""
    session = lab.session()
    exercise = flow.exercise_of(session, require_current(session.lab.directory))
    return [(step.machine, step.lines) for step in exercise.solution]


def shapes(page: Page) -> None:
    """Nothing is wider than the window, at the sizes of a projector and of a phone."""
    for width, height in ((1280, 720), (390, 844)):
        page.size(width, height)
        page.wait(f"document.documentElement.scrollWidth <= {width}")
    page.size(1280, 720)


def test_a_drill_is_broken_and_solved_in_the_page(lab: RunningLab, tmp_path: Path) -> None:
    with served(lab) as board, browser(tmp_path / "profile") as page:
        page.size(1280, 720)
        page.open(board.learner)
        page.wait("document.querySelectorAll('.machine-box.green').length === 3")
        page.wait(f"[...document.querySelectorAll('option')].some(o => o.value === '{DRILL}')")
        page.eval(f"document.querySelector('.ticket select').value = '{DRILL}'")
        page.press("Start", ".ticket button")
        page.wait("document.querySelectorAll('.mark.bad').length > 0", 120)
        assert "left" in page.text()
        page.wait("document.querySelector('.story')?.innerText.length > 100")
        shapes(page)
        page.press("Next hint")
        page.wait("document.querySelector('.hints small').textContent.startsWith('1 taken')")
        page.click(".hints code.command")  # typed, not run
        page.wait(f"({ROWS})?.includes('curl')")
        assert "HTTP/1.1" not in page.eval(ROWS)
        page.key("c", code="KeyC", number=67, modifiers=2)
        for machine, lines in solution(lab):
            click_machine(page, machine)
            page.key("c", code="KeyC", number=67, modifiers=2)
            for line in lines:
                type_line(page, line)
        page.wait("document.querySelectorAll('.mark.good').length >= 2")
        # The fix has to survive a reboot; nobody clicks anything.
        page.wait("document.body.innerText.includes('Solved.')", 120)
        assert page.eval("document.querySelectorAll('.mark.good').length") == 3
        page.wait("document.querySelector('#clock').textContent.startsWith('solved in')")
        page.wait("document.querySelectorAll('.machine-box.green').length === 3")
        page.press("Finish", ".ticket button")
        page.wait("document.body.innerText.includes('This drill has ended: solved.')", 120)
        assert "Lesson" in page.text()
        assert not page.messages
        assert {url.split("/")[2] for url in page.requests} == {board.host}
        assert len(page.requests) > 10
    run = lab.json("drill.report")["runs"][-1]
    assert (run["drill"], run["outcome"], run["hints"], run["assisted"]) == (
        DRILL,
        "solved",
        1,
        False,
    )


def test_the_topology_follows_the_lab(repaired: RunningLab, tmp_path: Path) -> None:
    with served(repaired) as board, browser(tmp_path / "profile") as page:
        page.open(board.learner)
        page.wait("document.querySelectorAll('.machine-box.green').length === 3")
        started = time.monotonic()
        repaired.out("web-02", "systemctl", "stop", "nginx")
        stopped = time.monotonic()
        page.wait("document.querySelector('[data-machine=web-02]').classList.contains('orange')")
        seen = time.monotonic()
        print(f"\na stopped service is shown after {seen - stopped:.1f} to {seen - started:.1f} s")
        page.wait(
            "[...document.querySelectorAll('.label.bad')].some(e => /DOWN/.test(e.textContent))"
        )
        repaired.invoke("lab.kill", "web-02")
        page.wait("document.querySelector('[data-machine=web-02]').classList.contains('red')")
        page.click("[data-machine=web-02]")
        page.wait("document.querySelector('#problems').innerText.includes('web-02 is not running')")
        repaired.invoke("lab.start", "web-02")
        repaired.invoke("lb.weight", "web-01", "7")
        page.wait("document.querySelector('.drawing').textContent.includes('weight 7')")
        repaired.invoke("lb.weight", "web-01", "100")
        refused = "/api/terminals"  # of web-02 while it was off; Chromium logs such a status
        assert not [text for text in page.messages if not text.endswith(refused)]


def test_a_second_board_a_wrong_code_and_a_lab_that_is_gone(
    lab: RunningLab, tmp_path: Path
) -> None:
    with served(lab) as board:
        second = lab.invoke("board.serve", "--port", "18099", check=False)
        assert second.returncode == 1
        assert f"has a board already: http://{board.host}/ (pid" in second.stderr
        with browser(tmp_path / "profile") as page:
            page.open(f"http://{board.host}/#code=WRONG-CODES")
            page.wait("document.body.innerText.includes('not a code of this board')")
            assert not page.eval("document.querySelector('.machine-box')")
        directory = ROOT / ".lab" / lab.name
        hidden = directory.with_name(f"{lab.name}-gone")
        opener = Requests(board.host, board.learner.partition("=")[2])
        assert opener.get("/api/me")["teams"] == [lab.name]
        directory.rename(hidden)
        try:

            def is_told() -> bool:
                return "there is no lab" in opener.document()["problem"]

            wait_until(is_told, "the page says that the lab is gone")
        finally:
            hidden.rename(directory)
        wait_until(lambda: not opener.document()["problem"], "the lab is back")


class Requests:
    """A browser's requests without a browser."""

    def __init__(self, host: str, code: str) -> None:
        self.host = host
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.headers = {"Origin": f"http://{host}", "Content-Type": "application/json"}
        response = self._send("/api/login", {"code": code})
        self.headers["Cookie"] = response.headers["Set-Cookie"].partition(";")[0]

    def _send(self, path: str, values: Any = None) -> Any:
        data = json.dumps(values).encode() if values is not None else None
        request = urllib.request.Request(f"http://{self.host}{path}", data, self.headers)
        return self._opener.open(request, timeout=20)

    def get(self, path: str) -> Any:
        with self._send(path) as response:
            return json.load(response)

    def post(self, path: str, **values: Any) -> Any:
        with self._send(path, values) as response:
            return json.load(response)

    def socket(self, path: str) -> Any:
        headers = {"Cookie": self.headers["Cookie"]}
        url = f"ws://{self.host}{path}"
        origin: Any = self.headers["Origin"]
        return connect(url, origin=origin, additional_headers=headers, proxy=None, max_size=None)

    def document(self) -> Any:
        with self.socket("/ws/lab") as live:
            return json.loads(live.recv(10))


# --- many browsers --------------------------------------------------------------------------------

BROWSERS, TERMINALS, SECONDS = 30, 8, 60.0


class TypingBrowser(threading.Thread):
    """Follows the lab, and types into a terminal that it may share with others."""

    def __init__(self, requests: Requests, identity: str, number: int, end: float) -> None:
        super().__init__(daemon=True)
        self.requests, self.identity, self.number, self.end = requests, identity, number, end
        self.latencies: list[float] = []
        self.documents = 0
        self.error = ""

    def run(self) -> None:
        try:
            with (
                self.requests.socket("/ws/lab") as live,
                self.requests.socket(f"/ws/terminal?id={self.identity}") as shell,
            ):
                position = int(json.loads(shell.recv(30))["position"])
                while time.monotonic() < self.end:
                    mark = f"x{self.number}y{random.randrange(10**9)}z"
                    sent = time.monotonic()
                    shell.send(json.dumps({"type": "input", "data": f"# {mark}\r"}))
                    text = b""
                    while mark.encode() not in text:
                        message = shell.recv(30)
                        if isinstance(message, bytes):
                            text += message
                            position += len(message)
                            shell.send(json.dumps({"type": "ack", "position": position}))
                    self.latencies.append(time.monotonic() - sent)
                    with contextlib.suppress(TimeoutError):
                        while True:
                            live.recv(0.01)
                            self.documents += 1
                    time.sleep(1.0)
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"


def used(pid: int) -> tuple[float, int]:
    """CPU seconds and resident MiB of a process (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") // 1024 // 1024


def test_thirty_browsers_for_a_minute(lab: RunningLab) -> None:
    """As a class of thirty at one board: every one sees the lab live, and types every second."""
    with served(lab) as board:
        requests = Requests(board.host, board.learner.partition("=")[2])
        machines = [machine.name for machine in lab.session().lab.machines]
        identities = [
            requests.post("/api/terminals", machine=machines[n % len(machines)])["id"]
            for n in range(TERMINALS)
        ]
        end = time.monotonic() + SECONDS
        before, _ = used(board.pid)
        browsers = [
            TypingBrowser(requests, identities[n % TERMINALS], n, end) for n in range(BROWSERS)
        ]
        for one in browsers:
            one.start()
        for one in browsers:
            one.join(SECONDS + 60)
        after, memory = used(board.pid)
        latencies = sorted(value for one in browsers for value in one.latencies)
        print(
            f"\n{BROWSERS} browsers, {len(latencies)} lines echoed: median "
            f"{1000 * latencies[len(latencies) // 2]:.0f} ms, 95th percentile "
            f"{1000 * latencies[len(latencies) * 95 // 100]:.0f} ms; "
            f"{sum(one.documents for one in browsers)} documents; "
            f"{100 * (after - before) / SECONDS:.0f} % of a core, {memory} MiB"
        )
        assert not [one.error for one in browsers if one.error]
        assert all(len(one.latencies) >= SECONDS / 10 for one in browsers)
        assert memory < 400
