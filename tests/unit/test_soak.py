"""The soak benchmark's slopes, and its sample on this computer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.soak import sample
from tests.live.soak.slopes import Series, slope, table


def test_the_slope_of_a_line_is_its_own() -> None:
    points = [(float(x), 3.0 + 2.0 * x) for x in range(10)]
    assert slope(points) == pytest.approx(2.0)
    assert slope(points[:2]) == 0.0
    assert slope([(1.0, 5.0)] * 4) == 0.0


def test_the_warm_up_does_not_count() -> None:
    grown = [(float(x), 100.0 * min(x, 3)) for x in range(16)]
    series = Series(grown)
    assert series.settled[0] == (4.0, 300.0)
    assert series.per_hour == 0.0
    leak = Series([(15.0 * x, 10.0 + x) for x in range(20)])
    assert leak.per_hour == pytest.approx(240.0)
    (_, line) = table({("web-01", "nginx.service", "descriptors"): leak})
    assert line.split() == ["web-01", "nginx.service", "descriptors", "15", "29", "+240.0"]


def test_a_sample_is_json() -> None:
    path = str(Path(sample.__file__))
    output = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
    assert isinstance(json.loads(output.stdout), dict)
