"""Access sheets: complete, escaped, without any request to elsewhere."""

from __future__ import annotations

import re

from provision import topology
from provision.classroom.sheet import Sheet, page
from provision.core.lab import ROOT, Lab

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJx0ZUAHhUuRzOXjjjLW9U0RwBz4gJ9mXp3fQ0aVhv2h"


def sheet(**changes: str) -> Sheet:
    lab = Lab("red", ROOT, topology.load(topology.find("distributed")))
    values = {"title": "Friday", "team": "red", "board": "", "jump": "", **changes}
    return Sheet(
        lab=lab, code="K7WQM-3XZPD", user="lab", key="PRIVATE\nKEY\n",
        host_keys={"web-01": HOST_KEY}, **values,
    )  # fmt: skip


def test_a_sheet_has_url_code_command_and_key() -> None:
    text = page("Friday", [sheet(board="https://10.0.0.1:8443/")])
    for part in (
        "https://10.0.0.1:8443/",
        "K7WQM-3XZPD",
        "ssh -i red.key -o IdentitiesOnly=yes lab@192.168.56.11",
        "PRIVATE\nKEY",
        "SHA256:",
        "http://192.168.56.10/",
    ):
        assert part in text, part
    jumped = page("Friday", [sheet(jump="class@10.0.0.1")])
    assert "-J class@10.0.0.1 lab@192.168.56.12" in jumped


def test_each_team_is_a_printed_page() -> None:
    text = page("Friday", [sheet(), sheet(team="blue")])
    assert text.count("<section>") == 2
    assert "@media print" in text
    assert "break-after: page" in text


def test_the_page_requests_nothing_and_is_escaped() -> None:
    text = page("<x>", [sheet(title="<b>", team="<script>alert(1)</script>", jump="a b@c")])
    assert not re.search(r"""(src|href|url|@import)\s*[=(:]""", text)
    assert "<script" not in text
    assert "<b>" not in text
    assert "<x>" not in text
    assert "'a b@c'" in text.replace("&#x27;", "'")
