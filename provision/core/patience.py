"""How much longer than usual machines may take: emulated processors are some twenty times slower.

LAB_PATIENCE in the environment multiplies the deadlines of the controller; 1 is usual.
"""

from __future__ import annotations

import os


def patience() -> float:
    """The factor; never less than 1, and 1 for what is no number."""
    try:
        return max(1.0, float(os.environ.get("LAB_PATIENCE", "")))
    except ValueError:
        return 1.0
