"""A lockout by the lab's firewall, which `lab.rescue` removes and `lab.up` loads again."""

from __future__ import annotations

from tests.live.conftest import RunningLab
from tests.live.diagnosis.conftest import assert_healthy, diagnose
from tests.live.diagnosis.test_access import as_root


def test_lab_rules_that_drop_ssh(secured_lab: RunningLab) -> None:
    as_root(secured_lab, "web-02", "nft insert rule inet lab input tcp dport 22 drop")
    try:
        diagnose(secured_lab).assert_one_cause("web-02", "ssh", "machine/web-02")
    finally:
        result = secured_lab.invoke("lab.rescue", "web-02", "--fix")
    assert "firewall table inet lab" in result.stdout
    assert "accept" in as_root(secured_lab, "web-02", "nft list table inet lab")
    assert_healthy(secured_lab)
