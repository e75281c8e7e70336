"""Makes the application importable as it is on a web server, and builds it on fake servers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

APP = Path(__file__).resolve().parents[3] / "provision" / "app"
sys.path.insert(0, str(APP))

from flask.testing import FlaskClient  # noqa: E402

from tests.unit.app.fakes import FakeLab  # noqa: E402


@pytest.fixture
def lab() -> FakeLab:
    """A primary on web-01, a replica on web-02, and the application on web-02."""
    return FakeLab()


@pytest.fixture
def client(lab: FakeLab) -> FlaskClient:
    """A client of the application on web-02."""
    return lab.client()
