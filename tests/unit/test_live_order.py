"""How pytest's workers share the live tests."""

from __future__ import annotations

import pytest

from tests.live.order import LIVE, LXC, scope


def test_labs_that_take_the_next_free_network_are_created_one_after_the_other() -> None:
    files = [path.name for path in LIVE.glob(f"{LXC}*.py")]
    assert len(files) > 1
    assert {scope(f"tests/live/{name}::test_x") for name in files} == {LXC}


@pytest.mark.parametrize(
    ("nodeid", "expected"),
    [
        ("tests/unit/test_x.py::TestX::test_x", "tests/unit/test_x.py"),
        ("tests/live/test_db.py::test_x", "tests/live/test_db.py"),
        ("tests/live/test_x.py::TestX::test_x", "tests/live/test_x.py::TestX"),
        ("tests/live/test_secured_tls.py::test_x", "secured"),
        ("tests/live/test_topologies.py::test_x", "scaled"),
    ],
)
def test_a_scope_is_a_file_a_class_or_a_topology(nodeid: str, expected: str) -> None:
    assert scope(nodeid) == expected
