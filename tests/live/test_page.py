"""The guest book's page in a real browser: headless Chromium, through the balancer."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from tests.browser import FLAGS
from tests.live.conftest import RunningLab

pytestmark = pytest.mark.live


def chromium(profile: Path, *words: str) -> str:
    """Run the browser with an empty profile; returns its output."""
    program = shutil.which("chromium")
    assert program, "scripts/test installs chromium"
    result = subprocess.run(
        [program, *FLAGS, "--virtual-time-budget=3000", f"--user-data-dir={profile}", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def pixels(png: bytes) -> tuple[int, int, list[bytes]]:
    """Width, height and rows of a PNG with 8 bits a channel (RFC 2083)."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    data, place = b"", 8
    width = height = channels = 0
    while place < len(png):
        length, kind = struct.unpack(">I4s", png[place : place + 8])
        body = png[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            assert depth == 8
            channels = {2: 3, 6: 4}[colour]
        elif kind == b"IDAT":
            data += body
        place += length + 12
    raw, stride = zlib.decompress(data), width * channels
    rows, above = [], bytes(stride)
    for number in range(height):
        start = number * (stride + 1)
        row = _unfiltered(
            raw[start], bytearray(raw[start + 1 : start + 1 + stride]), above, channels
        )
        rows.append(row)
        above = row
    return width, height, rows


def _unfiltered(kind: int, row: bytearray, above: bytes, step: int) -> bytes:
    for i in range(len(row)):
        left = row[i - step] if i >= step else 0
        corner = above[i - step] if i >= step else 0
        if kind == 1:
            row[i] = (row[i] + left) & 255
        elif kind == 2:
            row[i] = (row[i] + above[i]) & 255
        elif kind == 3:
            row[i] = (row[i] + (left + above[i]) // 2) & 255
        elif kind == 4:
            near = min((left, above[i], corner), key=lambda v: abs(left + above[i] - corner - v))
            row[i] = (row[i] + near) & 255
    return bytes(row)


@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_is_rendered(lab: RunningLab, tmp_path: Path, width: int) -> None:
    shot = tmp_path / "page.png"
    chromium(
        tmp_path / "profile", f"--screenshot={shot}", f"--window-size={width},900", lab.url + "/"
    )
    wide, high, rows = pixels(shot.read_bytes())
    assert (wide, high) == (width, 900)
    step = len(rows[0]) // wide
    colours = {row[i : i + 3] for row in rows[::3] for i in range(0, len(row), 3 * step)}
    # An empty page, or one without its style sheet, has only a few.
    assert len(colours) > 50, colours
    drawn = sum(len(set(row)) > 6 for row in rows)
    assert drawn > high / 3, f"{drawn} of {high} rows have something on them"


def test_the_page_shows_the_path_of_its_request(lab: RunningLab, tmp_path: Path) -> None:
    page = chromium(tmp_path / "profile", "--dump-dom", lab.url + "/")
    for word in ("lb-01", "web-01", "web-02", "The path of this request", "<form"):
        assert word in page
    assert str(lab.session().lab.gateway) in page
    assert "Traceback" not in page
