"""A headless Chromium that is told what to do over the DevTools protocol (one page)."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
"""Of every test: no sandbox as root, and no request of the browser's own."""


class Page:
    """One page. Requests and console messages are collected from the beginning."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.requests: list[str] = []
        self.messages: list[str] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        self._number += 1
        number = self._number
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(30))
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        values = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(values["request"]["url"])
            case "Network.webSocketCreated":
                self.requests.append(values["url"])
            case "Runtime.exceptionThrown":
                details = values["exceptionDetails"]
                text = details.get("exception", {}).get("description", details["text"])
                self.messages.append(f"exception: {text}")
            case "Log.entryAdded":
                entry = values["entry"]
                self.messages.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}")
            case "Runtime.consoleAPICalled" if values["type"] in ("error", "warning"):
                texts = [str(a.get("value", a.get("description"))) for a in values["args"]]
                self.messages.append(f"{values['type']}: {' '.join(texts)}")

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the size of the window, and whether the user prefers dark colors."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def eval(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, expression: str, seconds: float = 60.0) -> Any:
        """Wait until an expression is true."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(AssertionError):  # the page may be loading
                value = self.eval(expression)
                if value:
                    return value
            if time.monotonic() > deadline:
                body = self.eval("document.body.innerText")
                raise AssertionError(f"not true in {seconds} s: {expression}\n{body}")
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Click the first element that a CSS selector finds."""
        self.wait(f"document.querySelector({json.dumps(selector)}) !== null")
        self.eval(
            f"(e => {{ e.focus?.(); e.dispatchEvent(new MouseEvent('click', {{bubbles: true}})) }})"
            f"(document.querySelector({json.dumps(selector)}))"
        )

    def press(self, text: str, selector: str = "button") -> None:
        """Click the first element whose text begins like that."""
        find = (
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            f".find(e => e.textContent.trim().startsWith({json.dumps(text)}) && !e.disabled)"
        )
        self.wait(f"{find} !== undefined")
        self.eval(f"{find}.click()")

    def type(self, text: str) -> None:
        """Type into what has the focus; a line end is the key Enter."""
        for part in text.splitlines(keepends=True):
            line = part.rstrip("\n")
            if line:
                self.call("Input.insertText", text=line)
            if part.endswith("\n"):
                self.key("Enter", code="Enter", number=13, text="\r")

    def key(
        self, name: str, code: str = "", number: int = 0, text: str = "", *, modifiers: int = 0
    ) -> None:
        """Press one key; modifiers are 1 Alt, 2 Ctrl, 8 Shift, added."""
        values: dict[str, Any] = {"key": name, "code": code or name, "modifiers": modifiers}
        values["windowsVirtualKeyCode"] = number
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **values)
        self.call("Input.dispatchKeyEvent", type="keyUp", **values)

    def text(self) -> str:
        """The text of the page."""
        return str(self.eval("document.body.innerText"))


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A browser with an empty profile, and its page."""
    program = shutil.which("chromium")
    assert program, "scripts/test installs chromium"
    process = subprocess.Popen(
        [program, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        file = profile / "DevToolsActivePort"
        deadline = time.monotonic() + 40
        while not file.exists() or not file.read_text().strip():
            assert process.poll() is None, "chromium has ended"
            assert time.monotonic() < deadline, "chromium does not start"
            time.sleep(0.05)
        port = file.read_text().split()[0]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/json/list", timeout=20) as response:
            pages = json.load(response)
        url = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        with connect(url, max_size=None, proxy=None, origin=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
