"""What is there of a lab, as understood from its folder's entries."""

from __future__ import annotations

import pytest

from provision.core.errors import ProviderError
from provision.providers.lxc import snapshot
from provision.providers.lxc.inventory import Inventory, understand

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
d web-01/delta.old
d web-02
d web-02/delta
d web-03
d .snapshots
d .snapshots/before
d .snapshots/.new.half
d .snapshots/before/lb-01
d .snapshots/.new.half/lb-01
""".splitlines()


def test_machines_are_complete_partial_or_interrupted() -> None:
    there = understand(LINES, frozenset({"lb-01"}))
    assert there == Inventory(
        machines=frozenset({"lb-01", "web-01"}),
        partial=frozenset({"web-02", "web-03"}),
        interrupted=frozenset({"web-01"}),
        snapshots=(("before", frozenset({"lb-01"})),),
        running=frozenset({"lb-01"}),
    )


def test_snapshot_names_are_checked() -> None:
    there = understand(LINES, frozenset())
    snapshot.check_new("after.2", there)
    for name, words in {"before": "already", "../x": "cannot be", ".x": "cannot be"}.items():
        with pytest.raises(ProviderError, match=words):
            snapshot.check_new(name, there)
    with pytest.raises(ProviderError, match="snapshots there are: before"):
        snapshot.members("nothing", there)
    assert snapshot.members("before", there) == {"lb-01"}
