"""What may be said of a secret file: the names of its settings, and its public certificate."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

SETTING = re.compile(rb"^([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)$", re.MULTILINE)
CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\n.*?-----END CERTIFICATE-----\n", re.DOTALL)


def setting_digests(data: bytes) -> Mapping[str, str]:
    """SHA-256 of each value of ``KEY=VALUE`` lines, by key; none for a private key."""
    if b"-----BEGIN " in data:
        return {}
    return {
        key.decode(): hashlib.sha256(value.strip()).hexdigest()
        for key, value in SETTING.findall(data)
    }


def first_certificate(data: bytes) -> str:
    """The first certificate in PEM, which is public; empty when there is none."""
    match = CERTIFICATE.search(data)
    return match.group().decode() if match else ""
