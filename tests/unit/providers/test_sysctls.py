"""Limits that are raised while labs are up are put back, and nobody else's change is undone."""

from __future__ import annotations

from provision.providers.lxc.sysctls import LEAST, to_restore

BEFORE = {"net.ipv4.ip_forward": 0, "fs.inotify.max_user_instances": 128, "fs.aio-max-nr": 65536}


def test_what_we_raised_goes_back() -> None:
    assert to_restore(BEFORE, LEAST) == BEFORE


def test_what_was_enough_or_has_changed_since_stays() -> None:
    before = {**BEFORE, "net.ipv4.ip_forward": 1}
    now = {**LEAST, "fs.aio-max-nr": 2000000}
    assert to_restore(before, now) == {"fs.inotify.max_user_instances": 128}


def test_without_a_record_nothing_is_touched() -> None:
    assert to_restore({}, LEAST) == {}
