"""Security headers of what no application has written: redirects, errors, static files."""

from __future__ import annotations

import base64
import hashlib
import re

POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Content-Security-Policy of a response without scripts, styles and images."""

REFERRER = "same-origin"


def policy_with_styles(*pages: str) -> str:
    """`POLICY`, which also permits the inline style sheets of some HTML pages, by their hashes."""
    styles = {
        style for page in pages for style in re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    }
    hashes = sorted(
        f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
        for style in styles
    )
    return f"{POLICY}; style-src {' '.join(hashes)}" if hashes else POLICY
