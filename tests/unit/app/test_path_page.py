"""The path of a request on the page: one box per machine with all that runs on it."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from foobar import notes
from foobar.application import create_app
from foobar.settings import Server, Settings
from foobar.store import Store
from tests.unit.app.fakes import SETTINGS, FakeLab, note

GOLDEN = Path(__file__).parents[2] / "golden" / "pages"
STATIC = Path(__file__).parents[3] / "provision" / "app" / "foobar" / "static"

MACHINES = tuple(
    Server(name, f"192.168.56.{number}")
    for name, number in (
        ("lb-01", 10), ("web-01", 11), ("web-02", 12), ("app-01", 21), ("app-02", 22),
    )
)  # fmt: skip
DISTRIBUTED = replace(SETTINGS, machines=MACHINES)
SCALED = replace(SETTINGS, host="app-01", machines=MACHINES)
THROUGH = {
    "X-Via-Balancer": "lb-01",
    "X-Via-Web": "web-02",
    "X-Forwarded-For": "10.0.0.5",
    "X-Request-ID": "abcdef-123456",
}


def page(lab: FakeLab, settings: Settings = DISTRIBUTED, peer: str = "", **more: str) -> str:
    """The page as that application server responds to that client."""
    client = create_app(settings, Store(lab.database(), settings.host)).test_client()
    response = client.get("/", headers=THROUGH | more, environ_base={"REMOTE_ADDR": peer})
    return response.text


def machines(text: str) -> dict[str, str]:
    """The text of each machine's box by its name."""
    found = {}
    for box in text.split('<div class="machine">')[1:]:
        words = " ".join(re.sub(r"<[^>]+>", " ", box.split("</ol>")[0]).split())
        name = words.split()[1]
        found[name] = words
    return found


def test_a_machine_holds_everything_on_it() -> None:
    boxes = machines(page(FakeLab()))
    assert list(boxes) == ["web-02", "web-01"]
    for words in ("192.168.56.12", "Nginx", "gunicorn", "over a Unix socket", "MySQL", "replica"):
        assert words in boxes["web-02"]
    assert "MySQL" in boxes["web-01"]
    assert "Nginx" not in boxes["web-01"]


def test_with_tiers_there_is_one_box_per_machine() -> None:
    text = page(FakeLab(), SCALED, peer="192.168.56.12")
    boxes = machines(text)
    assert list(boxes)[:2] == ["web-02", "app-01"]
    assert "gunicorn" not in boxes["web-02"].split("machine app-01")[0]
    assert "over HTTP, from 192.168.56.12" in boxes["app-01"]
    assert "Unix socket" not in text


def test_only_a_used_database_has_an_arrow() -> None:
    """A dotted line without an arrow leads to one that is not used for this page."""
    assert "stop-unused" not in page(FakeLab())  # the primary, on the other machine, is written
    own = FakeLab()
    own.promote()  # both are used on the machine of the application
    text = page(own)
    assert "not used for this page" in text
    assert 'class="stop stop-databases stop-unused"' in text
    own.primary.up = own.replica.up = False
    assert "stop-unused" not in page(own)
    css = (STATIC / "foobar.css").read_text(encoding="utf-8")
    wide, narrow = css.split("@media (max-width: 60rem)")
    assert ".stop.stop-unused::before { border-top-style: dotted; }" in wide
    assert ".stop.stop-unused::before { border-left-style: dotted; }" in narrow
    assert ".stop.stop-unused::after { content: none; }" in narrow


def test_the_balancer_has_an_address() -> None:
    assert "192.168.56.10" in page(FakeLab())


def test_a_color_has_one_meaning() -> None:
    """Red, teal and amber are used by what the comment at the top of the style sheet says."""
    css = (STATIC / "foobar.css").read_text(encoding="utf-8")
    rules = re.findall(r"^([^{}@/]+?) *{([^}]*)}", css, re.MULTILINE)
    users = {
        color: {name.strip() for name, body in rules if f"var(--{color})" in body}
        for color in ("read", "write", "link")
    }
    assert all(re.search("read|freshness", name) for name in users["read"]), users["read"]
    assert all(re.search("writ|button|use-write", name) for name in users["write"]), users["write"]
    assert all(re.search("^a$|focus", name) for name in users["link"]), users["link"]
    tones = re.findall(r"tone-\d { background: (#\w+)", css)
    assert len(set(tones)) == 6
    assert not set(tones) & set(re.findall(r"--(?:read|write|bad|link): (#\w+)", css))


def test_the_page_refreshes_itself() -> None:
    """live.js replaces the parts that are marked; the form is not one of them."""
    text = page(FakeLab())
    assert text.count("data-live") == 2
    live = re.findall(r"<section[^>]*data-live[^>]*>", text)
    assert "way-title" in live[0]
    assert "notes-title" in live[1]
    script = (STATIC / "live.js").read_text(encoding="utf-8")
    assert "[data-live]" in script
    assert "setInterval(refresh, INTERVAL)" in script


def no_primary(lab: FakeLab) -> None:
    lab.primary.writable = False


def no_database(lab: FakeLab) -> None:
    lab.primary.up = lab.replica.up = False


@pytest.mark.parametrize(
    ("name", "settings", "peer", "change"),
    [
        ("distributed", DISTRIBUTED, "", None),
        ("scaled", SCALED, "192.168.56.12", None),
        ("no-primary", DISTRIBUTED, "", no_primary),
        ("no-database", DISTRIBUTED, "", no_database),
    ],
)
def test_golden_pages(
    monkeypatch: pytest.MonkeyPatch, name: str, settings: Settings, peer: str, change: Any
) -> None:
    """REGENERATE=1 writes the files."""
    monkeypatch.setattr(notes, "now", lambda: datetime(2026, 11, 30, 12, tzinfo=UTC))
    lab = FakeLab()
    note(lab.client(), id="first", text="one\ntwo <b>")
    if change:
        change(lab)
    text = re.sub(r'(name="id" value=")[^"]+', r"\1ID", page(lab, settings, peer))
    text = re.sub(r"(\?v=|Release )[^\"<\s]+", r"\1VERSION", text)
    file = GOLDEN / f"{name}.html"
    if os.environ.get("REGENERATE"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")
