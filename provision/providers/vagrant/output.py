"""What Vagrant prints, understood: who is doing what. Pure functions over lines."""

from __future__ import annotations

import re
from collections.abc import Iterator

_LINE = re.compile(r"(?:==>|   ) ?(?P<machine>[a-z0-9-]+): (?P<text>.*)")
_BAR = re.compile(r"Progress: *(\d+)%")
_PHRASES = (
    (r"Importing base box|Creating image|Cloning VM|Preparing master VM", "copying the box"),
    (r"Box '.*' could not be found|Loading metadata|Adding box|Downloading:", "fetching the box"),
    (
        r"Matching MAC|Setting the name|Creating domain|Creating shared folders",
        "making the machine",
    ),
    (r"Clearing any previously set|Preparing network interfaces|Forwarding ports", "wiring it up"),
    (r"Booting VM|Starting domain|Resuming", "booting"),
    (r"Waiting for domain to get an IP|Waiting for machine to boot|Waiting for SSH", "booting"),
    (r"Machine booted and ready", "booted"),
    (r"Machine already provisioned|Machine not provisioned|is already running", "up"),
    (r"Setting hostname", "getting its name"),
    (r"Configuring and enabling network", "getting its address"),
    (r"Inserting generated public key|insecure key detected", "getting a key of its own"),
    (r"Attempting (graceful )?shutdown|Halting domain|Attempting direct shutdown", "stopping"),
    (r"Forcing shutdown", "cutting its power"),
    (r"Destroying VM|Removing domain|Deleting the machine folder", "removing"),
    (r"Snapshotting the machine", "keeping a snapshot"),
    (r"Snapshot saved", "kept"),
    (r"Restoring the snapshot", "going back to a snapshot"),
    (r"Discarding saved state|Deleting the snapshot", "dropping a snapshot"),
)
_KNOWN = tuple((re.compile(pattern), words) for pattern, words in _PHRASES)


def doing(line: str) -> tuple[str, str] | None:
    """The machine and what it is doing now; None for a line that says nothing new.

    Args:
        line: such as ``==> web-01: Booting VM...``.
    """
    found = _LINE.fullmatch(line.rstrip())
    if not found:
        return None
    text = found["text"]
    bar = _BAR.search(text)
    if bar:
        return found["machine"], f"fetching the box: {bar.group(1)} %"
    for pattern, words in _KNOWN:
        if pattern.search(text):
            return found["machine"], words
    return None


def lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Lines of a stream in which progress bars overwrite themselves with carriage returns."""
    rest = b""
    for chunk in chunks:
        *whole, rest = re.split(rb"\r\n|\n|\r|\x1b\[K", rest + chunk)
        yield from (line.decode(errors="replace") for line in whole if line.strip())
    if rest.strip():
        yield rest.decode(errors="replace")


def snapshots(text: str) -> dict[str, tuple[str, ...]]:
    """By machine, the snapshots in the output of ``vagrant snapshot list``.

    A machine's list begins with an empty message of its own; names have no prefix. A machine
    without snapshots says so in words.
    """
    found: dict[str, list[str]] = {}
    machine = ""
    for line in text.splitlines():
        said = _LINE.fullmatch(line.rstrip()) or re.fullmatch(
            r"==> (?P<machine>[a-z0-9-]+):(?P<text>)\s*", line
        )
        if said:
            machine = said["machine"]
            found.setdefault(machine, [])
        elif machine and line.strip():
            found[machine].append(line.strip())
    return {name: tuple(names) for name, names in found.items()}


def version(text: str) -> tuple[int, ...]:
    """The numbers of a version such as ``2.4.9`` or ``7.1.6r167084``; empty when there are none."""
    found = re.match(r"\D*(\d+(?:\.\d+)*)", text)
    return tuple(map(int, found.group(1).split("."))) if found else ()
