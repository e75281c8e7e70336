"""HTTP responses with files of the pool: through the proxy, and through a machine's relay."""

from __future__ import annotations

from pathlib import Path


def modified_since(path: Path, since: str) -> bool:
    """Whether a file is newer than the value of ``If-Modified-Since``; True without one."""
    import email.utils

    try:
        seconds = email.utils.parsedate_to_datetime(since).timestamp()
    except (ValueError, TypeError):
        return True
    return int(path.stat().st_mtime) > seconds


def response_headers(path: Path) -> dict[str, str]:
    """The headers of a response with a file."""
    import email.utils

    status = path.stat()
    return {
        "Content-Length": str(status.st_size),
        "Last-Modified": email.utils.formatdate(status.st_mtime, usegmt=True),
        "Content-Type": "application/octet-stream",
    }
