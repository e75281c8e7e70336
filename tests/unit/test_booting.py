"""Whether a machine has booted."""

from __future__ import annotations

import pytest

from provision.core import booting


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("running\n", True),
        ("degraded\n", True),  # a failed unit; nothing starts it again
        ("starting\n", False),
        ("initializing\n", False),
        ("stopping\n", False),
        ("", False),  # systemd does not answer yet
    ],
)
def test_a_machine_has_booted_when_systemd_has_started_everything(
    output: str, expected: bool
) -> None:
    assert booting.finished(output) is expected
