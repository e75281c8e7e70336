"""Parse the output of Vagrant: progress, snapshots and versions."""

from __future__ import annotations

import re
from collections.abc import Iterator

_LINE = re.compile(r"(?:==>|   ) ?(?P<machine>[a-z0-9-]+): (?P<text>.*)")
_HEADING = re.compile(r"==> (?P<machine>[a-z0-9-]+):(?P<text>)\s*")
_DOWNLOAD = re.compile(r"Progress: *(\d+)%")
_MESSAGES = tuple(
    (re.compile(pattern), message)
    for pattern, message in (
        (r"Importing base box|Creating image|Cloning VM|Preparing master VM", "cloning the box"),
        (r"Box '.*' could not be found|Loading metadata|Adding box|Downloading:", "downloading"),
        (
            r"Matching MAC|Setting the name|Creating domain|Creating shared folders",
            "creating the machine",
        ),
        (
            r"Clearing any previously set|Preparing network interfaces|Forwarding ports",
            "configuring network adapters",
        ),
        (r"Booting VM|Starting domain|Resuming", "booting"),
        (r"Waiting for domain to get an IP|Waiting for machine to boot|Waiting for SSH", "booting"),
        (r"Machine booted and ready", "booted"),
        (r"Machine already provisioned|Machine not provisioned|is already running", "up"),
        (r"Setting hostname", "setting the host name"),
        (r"Configuring and enabling network", "configuring the network"),
        (r"Inserting generated public key|insecure key detected", "replacing the SSH key"),
        (r"Attempting (graceful )?shutdown|Halting domain|Attempting direct shutdown", "stopping"),
        (r"Forcing shutdown", "powering off"),
        (r"Destroying VM|Removing domain|Deleting the machine folder", "removing"),
        (r"Snapshotting the machine", "taking a snapshot"),
        (r"Snapshot saved", "snapshot taken"),
        (r"Restoring the snapshot", "restoring a snapshot"),
        (r"Discarding saved state|Deleting the snapshot", "deleting a snapshot"),
    )
)


def parse_progress(line: str) -> tuple[str, str] | None:
    """The machine and its current activity; None for a line without news.

    Args:
        line: such as ``==> web-01: Booting VM...``.
    """
    match = _LINE.fullmatch(line.rstrip())
    if not match:
        return None
    text = match["text"]
    percent = _DOWNLOAD.search(text)
    if percent:
        return match["machine"], f"downloading: {percent.group(1)} %"
    for pattern, message in _MESSAGES:
        if pattern.search(text):
            return match["machine"], message
    return None


def split_lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """The lines of a stream; progress bars that end with a carriage return are lines too."""
    rest = b""
    for chunk in chunks:
        *complete, rest = re.split(rb"\r\n|\n|\r|\x1b\[K", rest + chunk)
        yield from (line.decode(errors="replace") for line in complete if line.strip())
    if rest.strip():
        yield rest.decode(errors="replace")


def parse_snapshots(text: str) -> dict[str, tuple[str, ...]]:
    """The names of snapshots by machine, from ``vagrant snapshot list``.

    Each machine's list begins with a heading; the names have no prefix. For a machine without
    snapshots, there is a message instead.
    """
    snapshots: dict[str, list[str]] = {}
    machine = ""
    for line in text.splitlines():
        match = _LINE.fullmatch(line.rstrip()) or _HEADING.fullmatch(line)
        if match:
            machine = match["machine"]
            snapshots.setdefault(machine, [])
        elif machine and line.strip():
            snapshots[machine].append(line.strip())
    return {name: tuple(names) for name, names in snapshots.items()}
