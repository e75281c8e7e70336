"""Run the programs that make the parts of a bundle."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from provision.core.errors import LabError


def run(
    action: str,
    argv: Sequence[str | Path],
    env: Mapping[str, str] | None = None,
    *,
    input: bytes = b"",
    hint: str = "",
) -> bytes:
    """Run a program; returns its stdout.

    Args:
        action: for the message, such as ``packing the project``.

    Raises:
        LabError: when it fails, with its output.
    """
    try:
        result = subprocess.run(argv, capture_output=True, check=False, env=env, input=input)
    except OSError as error:
        raise LabError(
            f"{action} failed: {argv[0]} cannot be run: {error.strerror}", hint
        ) from None
    if result.returncode:
        text = (result.stdout + result.stderr).decode(errors="replace")
        raise LabError(
            f"{action} failed ({argv[0]}, status {result.returncode})", hint, output=text
        )
    return result.stdout
