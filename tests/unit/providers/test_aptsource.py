"""Which archive a host uses, and the texts that bring sid's packages to a machine."""

from __future__ import annotations

import pytest

from provision.core import apt_source as aptsource
from provision.core.apt_source import AptSource

CLASSIC = """\
# deb cdrom:[Debian 12]/ bookworm main
deb cdrom:[Debian GNU/Linux 12 _Bookworm_ - Official]/ bookworm main
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] https://mirror.example/debian/ bookworm main contrib # why
deb http://mirror.example/debian-security bookworm-security main
deb http://mirror.example/debian bookworm-updates main
"""  # noqa: E501

DEB822 = """\
# a comment before the stanza
Types: deb deb-src
URIs: http://one.example/debian http://two.example/debian/
Suites: trixie
 trixie-updates
Components: main non-free-firmware
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY865UxYJKwYBBAHaRw8BAQdAd7Z0srwuhlB6JKFkcf4HU4SSS/xcRfwEQWzr
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: trixie
Components: main
"""


def test_one_line_sources_are_read() -> None:
    assert aptsource.parse_one_line(CLASSIC)[1:] == [
        AptSource("https://mirror.example/debian/", "bookworm", ("main", "contrib")),
        AptSource("http://mirror.example/debian-security", "bookworm-security", ("main",)),
        AptSource("http://mirror.example/debian", "bookworm-updates", ("main",)),
    ]


def test_deb822_sources_are_read_with_lists_continuations_and_switched_off_stanzas() -> None:
    components = ("main", "non-free-firmware")
    assert aptsource.parse_deb822(DEB822) == [
        AptSource("http://one.example/debian", "trixie", components),
        AptSource("http://one.example/debian", "trixie-updates", components),
        AptSource("http://two.example/debian/", "trixie", components),
        AptSource("http://two.example/debian/", "trixie-updates", components),
    ]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"a.list": CLASSIC}, "https://mirror.example/debian"),
        ({"debian.sources": DEB822}, "http://one.example/debian"),
        (  # third parties use Debian's words; an address that ends in /debian goes before them
            {
                "a.list": "deb https://apt.example.com bookworm main\n",
                "b.list": "deb http://mirror.example/debian bookworm main\n",
            },
            "http://mirror.example/debian",
        ),
        ({"a.list": "deb http://archive.example/ trixie main\n"}, "http://archive.example"),
        ({"a.list": "deb https://x.example/linux/debian bookworm stable\n"}, ""),
        ({"a.list": "deb http://x.example/ubuntu noble main\n"}, ""),
        ({}, ""),
    ],
)
def test_the_main_archive_is_found(sources: dict[str, str], expected: str) -> None:
    assert aptsource.main_archive(sources) == expected


def test_the_texts_for_sid() -> None:
    assert aptsource.sid_list("http://mirror.example/debian/") == (
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
        " http://mirror.example/debian sid main\n"
    )
    expected = """\
Package: *
Pin: release n=sid
Pin-Priority: 100

Package: libc6 mysql-server
Pin: release n=sid
Pin-Priority: 990
"""
    assert aptsource.sid_preferences(["mysql-server", "libc6", "libc6"]) == expected
