"""What all unit tests share: none of them writes to the directories of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.engine.agent import change_time


@pytest.fixture(autouse=True)
def _own_records(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder: Path = tmp_path_factory.mktemp("records")
    monkeypatch.setattr(change_time, "RESTORED", str(folder / "restored.json"))
