"""Access codes for the board: short secrets that people type, derived from a lab's passwords."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from pathlib import Path

from provision.core.secrets import Secrets

TEAM, TEACHER = "board-team", "board-teacher"
"""What a code is for; each has a password of its own in ``.lab/<lab>/secrets``."""

LENGTH = 10
"""Characters of base32, which has neither 0 nor 1: 50 bits, guessed at a limited rate only."""


def access_code(directory: Path, purpose: str) -> str:
    """The code for a purpose, such as ``K7WQM-3XZPD``; the same until the password is removed.

    Args:
        directory: of the lab, ``.lab/<lab>``.

    Raises:
        LabError: when the lab's secrets cannot be read or written.
    """
    password = Secrets(directory).password(purpose)
    digest = hashlib.sha256(f"access code\0{password}".encode()).digest()
    text = base64.b32encode(digest).decode()[:LENGTH]
    return f"{text[:5]}-{text[5:]}"


def same_code(given: str, code: str) -> bool:
    """Whether a typed code is this one, in constant time; case, spaces and dashes do not matter."""
    return hmac.compare_digest(_plain(given).encode(), _plain(code).encode())


def _plain(code: str) -> str:
    return re.sub(r"[\s-]", "", code[:100]).upper()
