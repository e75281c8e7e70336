"""Parsers of Vagrant's output."""

from __future__ import annotations

import pytest

from provision.providers.vagrant import output
from provision.setup.virtual_machines import parse_version

UP = """\
Bringing machine 'lb-01' up with 'virtualbox' provider...
==> lb-01: Box 'bento/debian-13' could not be found. Attempting to find and install...
    lb-01: Box Provider: virtualbox
Progress: 3% (Rate: 21.6M/s, Estimated time remaining: 0:00:20)
    lb-01: Progress: 45% (Rate: 21.6M/s, Estimated time remaining: 0:00:11)
==> lb-01: Importing base box 'bento/debian-13'...
==> lb-01: Matching MAC address for NAT networking...
==> lb-01: Booting VM...
==> lb-01: Waiting for machine to boot. This may take a few minutes...
    lb-01: SSH address: 127.0.0.1:2222
==> lb-01: Machine booted and ready!
==> lb-01: Setting hostname...
==> lb-01: Configuring and enabling network interfaces...
==> web-01: Creating image (snapshot of base box volume).
==> web-01: Starting domain.
==> web-01: Waiting for domain to get an IP address...
==> web-01: Attempting graceful shutdown of VM...
==> web-01: Removing domain...
"""


def test_the_progress_of_each_machine() -> None:
    progress = [output.parse_progress(line) for line in UP.splitlines()]
    assert [message for message in progress if message] == [
        ("lb-01", "downloading"),
        ("lb-01", "downloading: 45 %"),
        ("lb-01", "cloning the box"),
        ("lb-01", "creating the machine"),
        ("lb-01", "booting"),
        ("lb-01", "booting"),
        ("lb-01", "booted"),
        ("lb-01", "setting the host name"),
        ("lb-01", "configuring the network"),
        ("web-01", "cloning the box"),
        ("web-01", "booting"),
        ("web-01", "booting"),
        ("web-01", "stopping"),
        ("web-01", "removing"),
    ]


def test_progress_bars_are_separate_lines() -> None:
    chunks = [
        b"==> a: Impor",
        b"ting base box\r\x1b[K    a: Progress: 5%\r\x1b[K    a: Prog",
        b"ress: 90%\n\n",
    ]
    assert list(output.split_lines(iter([*chunks, b"the end \xff"]))) == [
        "==> a: Importing base box",
        "    a: Progress: 5%",
        "    a: Progress: 90%",
        "the end \ufffd",
    ]


SNAPSHOTS = """\
==> lb-01: 
before
after the first break
==> web-01: No snapshots have been taken yet!
    web-01: You can take a snapshot using `vagrant snapshot save`. Note that
    web-01: not all providers support this yet. Once a snapshot is taken, you
    web-01: can list them using this command, and use commands such as
    web-01: `vagrant snapshot restore` to go back to a certain snapshot.
==> web-02: 
before
"""  # noqa: W291


def test_snapshots_by_machine_including_those_without() -> None:
    assert output.parse_snapshots(SNAPSHOTS) == {
        "lb-01": ("before", "after the first break"),
        "web-01": (),
        "web-02": ("before",),
    }
    assert output.parse_snapshots("") == {}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("2.4.9", (2, 4, 9)), ("7.1.6r167084", (7, 1, 6)), ("Vagrant 2.3.4", (2, 3, 4)), ("", ())],
)
def test_versions(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_version(text) == numbers
