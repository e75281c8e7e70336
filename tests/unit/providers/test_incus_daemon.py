"""The live tests' Incus daemon: what a run without its packages prints."""

from __future__ import annotations

import pytest

from provision.core.errors import LabError
from tests.live.incus import daemon, members


def test_missing_packages_are_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> tuple[str, str]:
        raise LabError("Unable to locate package\nincus-base")

    monkeypatch.setattr(daemon, "root_file_systems", refuse)
    with pytest.raises(pytest.skip.Exception) as skipped, members.running("m1"):
        raise AssertionError("a daemon without its packages")
    assert skipped.value.msg == ("Incus cannot be installed: Unable to locate package incus-base")
