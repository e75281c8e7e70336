"""The status of a lab, from the listing of its folder."""

from __future__ import annotations

import pytest

from provision.core.errors import UsageError
from provision.providers import snapshot_names
from provision.providers.lxc.status import LabStatus, parse_status

LINES = """\
d .host-keys
f .host-keys/web-01.pub
f network
f dnsmasq.pid
d lb-01
f lb-01/config
d lb-01/delta
d web-01
f web-01/config
d web-02
d web-02/delta
d web-03
d .snapshots
d .snapshots/before@1
d .restoring
d .restoring/web-04
""".splitlines()


def test_machines_are_complete_or_partly_created() -> None:
    status = parse_status(LINES, frozenset({"lb-01"}))
    assert status == LabStatus(
        machines=frozenset({"lb-01", "web-01"}),
        partial=frozenset({"web-02", "web-03"}),
        running=frozenset({"lb-01"}),
    )
    states = [status.state(name) for name in ("lb-01", "web-01", "web-02", "web-09")]
    assert states == ["running", "halted", "absent", "absent"]


def test_snapshot_names_are_checked() -> None:
    snapshot_names.check_new("after.2", ["before"])
    for name, words in {
        "before": "already exists",
        "../x": "not a valid",
        ".x": "not a valid",
    }.items():
        with pytest.raises(UsageError, match=words):
            snapshot_names.check_new(name, ["before"])
    with pytest.raises(UsageError, match="existing snapshots: a, b"):
        snapshot_names.check_exists("c", ["b", "a"])
    with pytest.raises(UsageError, match="existing snapshots: none"):
        snapshot_names.check_exists("c", [])
    snapshot_names.check_exists("a", ["a"])
