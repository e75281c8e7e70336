"""Kernel parameters are reset after the last lab, unless they were changed by others."""

from __future__ import annotations

from provision.providers.lxc.sysctls import MINIMUM, to_reset

BEFORE = {"net.ipv4.ip_forward": 0, "fs.inotify.max_user_instances": 128, "fs.aio-max-nr": 65536}


def test_raised_values_are_reset() -> None:
    assert to_reset(BEFORE, MINIMUM) == BEFORE


def test_sufficient_and_changed_values_are_kept() -> None:
    before = {**BEFORE, "net.ipv4.ip_forward": 1}
    current = {**MINIMUM, "fs.aio-max-nr": 2000000}
    assert to_reset(before, current) == {"fs.inotify.max_user_instances": 128}


def test_without_a_record_nothing_is_reset() -> None:
    assert to_reset({}, MINIMUM) == {}
