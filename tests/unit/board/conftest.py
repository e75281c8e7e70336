"""A board for the tests of one module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.board.rooms import RunningBoard


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBoard]:
    """Teams red and blue, one lab each."""
    folder: Path = tmp_path_factory.mktemp("board")
    running = RunningBoard(folder)
    yield running
    running.close()
