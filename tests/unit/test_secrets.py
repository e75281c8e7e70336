"""Secrets: made once, closed to others from the first byte, never shown."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from provision.core import secrets, state
from provision.core.errors import LabError
from provision.core.lab import ROOT
from provision.core.secrets import HIDDEN, Secrets


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """The directory of a lab, with a space in its path."""
    return tmp_path / "a checkout" / ".lab" / "two"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def crowd(code: str, lab: Path, size: int = 6) -> list[str]:
    """Run the code in several processes at once; what each of them printed."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(lab), str(number)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(size)
    ]
    said = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        said.append(out)
    return said


# --- passwords -----------------------------------------------------------------------------------


def test_a_password_is_made_once(lab: Path) -> None:
    first = Secrets(lab).password("mysql-app")
    assert Secrets(lab).password("mysql-app") == first
    assert Secrets(lab).password("mysql-check") != first
    assert json.loads((lab / "secrets" / "passwords.json").read_text())["mysql-app"] == first


def test_passwords_please_every_program(lab: Path) -> None:
    keeper = Secrets(lab)
    for number in range(50):
        password = keeper.password(f"p{number}")
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{31}", password)
        for kind in (r"[a-z]", r"[A-Z]", r"[0-9]", r"[_-]"):
            assert re.search(kind, password)


def test_passwords_of_several_processes_are_all_kept(lab: Path) -> None:
    code = """
import sys
from pathlib import Path
from provision.core.secrets import Secrets
keeper = Secrets(Path(sys.argv[1]))
print([keeper.password("shared"), *(keeper.password(f"own-{sys.argv[2]}-{n}") for n in range(8))])
"""
    said = [ast.literal_eval(line) for line in crowd(code, lab)]
    assert len({line[0] for line in said}) == 1
    kept = json.loads((lab / "secrets" / "passwords.json").read_text())
    assert set(kept.values()) == {password for line in said for password in line}
    assert len(kept) == 6 * 8 + 1


def test_passwords_of_several_threads_are_all_kept(lab: Path) -> None:
    keeper = Secrets(lab)
    threads = [threading.Thread(target=keeper.password, args=(f"p{n % 5}",)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(json.loads((lab / "secrets" / "passwords.json").read_text())) == {
        f"p{n}" for n in range(5)
    }


@pytest.mark.parametrize("name", ["", "Upper", "../x", "a b", "-x"])
def test_a_password_needs_a_sane_name(lab: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a password's name"):
        Secrets(lab).password(name)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"a": 1}', '{"a": ""}', '{"A": "0123456789"}', "\x00", "[" * 99999]
)
def test_a_damaged_file_is_not_replaced(lab: Path, text: str) -> None:
    keeper = Secrets(lab)
    keeper.password("mysql-app")
    path = lab / "secrets" / "passwords.json"
    path.write_text(text)
    with pytest.raises(LabError, match=r"passwords\.json is damaged") as caught:
        Secrets(lab).password("mysql-app")
    assert path.read_text() == text
    assert caught.value.advice.startswith(f"rm {shlex.quote(str(path))} && invoke lab.up --lab two")
    path.unlink()  # as advised
    assert Secrets(lab).password("mysql-app")


# --- who may read --------------------------------------------------------------------------------


def test_modes_whatever_the_umask(lab: Path) -> None:
    before = os.umask(0)
    try:
        keeper = Secrets(lab)
        keeper.password("mysql-app")
        keeper.ssh_key()
    finally:
        os.umask(before)
    assert mode(lab / "secrets") == 0o700
    files = sorted((lab / "secrets").iterdir())
    assert [p.name for p in files] == [".lock", "id_ed25519", "id_ed25519.pub", "passwords.json"]
    assert {mode(p) for p in files} == {0o600}


def test_closed_from_the_first_byte(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    fsync = os.fsync

    def look(number: int) -> None:
        info = os.fstat(number)
        if stat.S_ISREG(info.st_mode):
            seen.append((stat.S_IMODE(info.st_mode), info.st_size > 0))
        fsync(number)

    monkeypatch.setattr(os, "fsync", look)
    before = os.umask(0)
    try:
        Secrets(lab).password("mysql-app")
    finally:
        os.umask(before)
    assert seen == [(0o600, True)]


@pytest.mark.parametrize("opened", [0o640, 0o604, 0o620, 0o666])
@pytest.mark.parametrize("name", ["passwords.json", "id_ed25519"])
def test_a_secret_that_others_can_reach(lab: Path, name: str, opened: int) -> None:
    keeper = Secrets(lab)
    keeper.password("mysql-app")
    keeper.ssh_key()
    path = lab / "secrets" / name
    path.chmod(opened)
    with pytest.raises(LabError, match="is a secret that other users can reach") as caught:
        keeper.ssh_key() if name == "id_ed25519" else keeper.password("mysql-app")
    assert f"{opened:04o}" in caught.value.what
    subprocess.run(caught.value.advice, shell=True, check=True)
    assert keeper.ssh_key()
    assert keeper.password("mysql-app")


def test_a_folder_that_others_can_look_into(lab: Path) -> None:
    keeper = Secrets(lab)
    keeper.password("mysql-app")
    (lab / "secrets").chmod(0o755)
    with pytest.raises(LabError, match="other users can reach") as caught:
        keeper.password("mysql-app")
    subprocess.run(caught.value.advice, shell=True, check=True)
    assert keeper.password("mysql-app")


def test_a_file_of_another_user(lab: Path) -> None:
    error = state.unreadable(lab / "secrets" / "passwords.json", PermissionError(13, "denied"))
    assert error.advice == f'sudo chown -R "$(id -un)" {shlex.quote(str(lab.parent))}'


# --- the SSH key ---------------------------------------------------------------------------------


def test_the_key_is_one_that_openssh_reads(lab: Path) -> None:
    path = Secrets(lab).ssh_key()
    public = path.with_name("id_ed25519.pub").read_text()
    derived = subprocess.run(
        ["ssh-keygen", "-y", "-P", "", "-f", path], capture_output=True, text=True, check=True
    ).stdout
    assert public.split()[:2] == derived.split()[:2]
    assert public.endswith(" foobar-lab two\n")
    assert public.startswith("ssh-ed25519 ")
    assert Secrets(lab).public_key() == public.strip()


def test_the_key_is_made_once_by_several_processes(lab: Path) -> None:
    code = """
import sys
from pathlib import Path
from provision.core.secrets import Secrets
print(Secrets(Path(sys.argv[1])).ssh_key().read_text())
"""
    assert len(set(crowd(code, lab))) == 1
    assert "PRIVATE KEY" in (lab / "secrets" / "id_ed25519").read_text()


def test_a_public_key_that_is_lost_or_wrong_is_written_again(lab: Path) -> None:
    keeper = Secrets(lab)
    public = keeper.public_key()
    beside = keeper.ssh_key().with_name("id_ed25519.pub")
    beside.unlink()
    assert keeper.public_key() == public
    beside.write_text("ssh-ed25519 AAAA other\n")
    assert keeper.public_key() == public


def test_a_damaged_key_is_not_replaced(lab: Path) -> None:
    keeper = Secrets(lab)
    path = keeper.ssh_key()
    text = path.read_text()
    for spoilt in ("", text[:100], text.replace("OPENSSH", "RSA"), "\x00"):
        path.write_text(spoilt)
        with pytest.raises(LabError, match="id_ed25519 is damaged") as caught:
            keeper.ssh_key()
        assert path.read_text() == spoilt
        assert "invoke lab.destroy --lab two; rm -f" in caught.value.advice
    path.write_text(text)
    assert keeper.ssh_key() == path


def test_a_key_of_another_kind(lab: Path) -> None:
    path = Secrets(lab).folder() / "id_ed25519"
    command = ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True)
    with pytest.raises(LabError, match="not an ed25519 private key"):
        Secrets(lab).ssh_key()


# --- nothing is shown ----------------------------------------------------------------------------


def test_repr_and_str_show_nothing(lab: Path) -> None:
    keeper = Secrets(lab)
    password = keeper.password("mysql-app")
    keeper.redact("so that it remembers")
    assert password not in repr(keeper) + str(keeper) + f"{keeper}"
    assert repr(keeper) == f"Secrets({str(lab)!r})"


def test_redaction_of_passwords_and_keys(lab: Path) -> None:
    keeper = Secrets(lab)
    password = keeper.password("mysql-app")
    key = keeper.ssh_key().read_text()
    diff = "".join(f"+  {line}\n" for line in key.splitlines())
    shown = keeper.redact(f"IDENTIFIED BY '{password}'; {password}\n{diff}")
    assert password not in shown
    assert shown.startswith(f"IDENTIFIED BY '{HIDDEN}'; {HIDDEN}\n")
    secret_lines = key.splitlines()[1:-1]
    assert len(secret_lines) >= 4
    assert not [line for line in secret_lines if line in shown]
    assert keeper.redact("nothing of it here") == "nothing of it here"


def test_what_another_process_adds_is_hidden_too(lab: Path) -> None:
    here, there = Secrets(lab), Secrets(lab)
    first = there.password("one")
    assert here.redact(first) == HIDDEN
    second = there.password("two")
    assert here.redact(f"{second} {first}") == f"{HIDDEN} {HIDDEN}"
    state.write(lab / "secrets" / "web-01.key", "-----BEGIN X-----\nc2VjcmV0IGtleQ\n")
    assert here.redact("c2VjcmV0IGtleQ and BEGIN X") == f"{HIDDEN} and BEGIN X"


def test_what_was_a_secret_stays_hidden(lab: Path) -> None:
    keeper = Secrets(lab)
    old = keeper.password("mysql-app")
    assert keeper.redact(old) == HIDDEN
    (lab / "secrets" / "passwords.json").unlink()
    new = keeper.password("mysql-app")
    assert keeper.redact(f"{old} {new}") == f"{HIDDEN} {HIDDEN}"


def test_a_longer_secret_is_hidden_before_one_that_it_contains(lab: Path) -> None:
    folder = Secrets(lab).folder()
    passwords = {"a": "abcdefgh", "b": "abcdefgh-and-more"}
    state.write(folder / "passwords.json", json.dumps(passwords))
    assert Secrets(lab).known() == ("abcdefgh-and-more", "abcdefgh")
    assert Secrets(lab).redact("abcdefgh-and-more") == HIDDEN


def test_redaction_of_an_error_about_the_secrets_themselves(lab: Path) -> None:
    keeper = Secrets(lab)
    password = keeper.password("mysql-app")
    assert keeper.redact(password) == HIDDEN
    (lab / "secrets" / "passwords.json").write_text("{")
    assert keeper.redact(f"it was {password}") == f"it was {HIDDEN}"
    with pytest.raises(LabError):
        keeper.known()


def test_nothing_is_made_before_it_is_asked_for(lab: Path) -> None:
    keeper = Secrets(lab)
    assert keeper.known() == ()
    assert keeper.redact("text") == "text"
    assert not lab.exists()


def test_reading_needs_no_write(lab: Path) -> None:
    keeper = Secrets(lab)
    keeper.password("mysql-app")
    keeper.ssh_key()
    before = {p.name: p.stat().st_mtime_ns for p in (lab / "secrets").iterdir()}
    Secrets(lab).password("mysql-app")
    Secrets(lab).ssh_key()
    after = {p.name: p.stat().st_mtime_ns for p in (lab / "secrets").iterdir()}
    with contextlib.suppress(KeyError):
        del before[".lock"], after[".lock"]
    assert before == after


def test_a_password_never_reaches_an_error(lab: Path) -> None:
    keeper = Secrets(lab)
    password = keeper.password("mysql-app")
    path = lab / "secrets" / "passwords.json"
    path.write_text(path.read_text().replace("}", ""))
    with pytest.raises(LabError) as caught:
        keeper.password("mysql-app")
    assert password not in str(caught.value)
    assert caught.value.__cause__ is None
    assert secrets.HIDDEN not in str(caught.value)
