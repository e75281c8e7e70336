"""Access codes of the board: stable, one per purpose and lab, compared as people type them."""

from __future__ import annotations

import re
from pathlib import Path

from provision.core.access_codes import TEACHER, TEAM, access_code, same_code


def test_a_code_is_stable_and_of_one_lab_and_purpose(tmp_path: Path) -> None:
    code = access_code(tmp_path / "a", TEAM)
    assert re.fullmatch(r"[A-Z2-7]{5}-[A-Z2-7]{5}", code)
    assert access_code(tmp_path / "a", TEAM) == code
    others = {access_code(tmp_path / "a", TEACHER), access_code(tmp_path / "b", TEAM), code}
    assert len(others) == 3
    passwords = tmp_path / "a" / "secrets" / "passwords.json"
    assert passwords.stat().st_mode & 0o777 == 0o600
    assert code not in passwords.read_text()


def test_a_code_is_compared_as_people_type_it() -> None:
    assert same_code(" k7wqm3xzpd", "K7WQM-3XZPD")
    for wrong in ("", "K7WQM", "K7WQM-3XZPE", "K7WQM-3XZPD2", "Ä" * 500):
        assert not same_code(wrong, "K7WQM-3XZPD")
