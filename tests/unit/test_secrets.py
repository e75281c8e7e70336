"""Secrets: generated once, private from the first byte, redacted in every output."""

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

from provision.core.atomic import write_atomically
from provision.core.errors import LabError
from provision.core.files import cannot_read
from provision.core.lab import ROOT
from provision.core.secrets import REDACTED, Secrets


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """The directory of a lab, with a space in its path."""
    return tmp_path / "a checkout" / ".lab" / "two"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run_processes(code: str, lab: Path, size: int = 6) -> list[str]:
    """Run the code in several processes at once; return what each of them printed."""
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
    outputs = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        outputs.append(out)
    return outputs


# --- passwords -----------------------------------------------------------------------------------


def test_password_is_generated_once(lab: Path) -> None:
    first = Secrets(lab).password("mysql-app")
    assert Secrets(lab).password("mysql-app") == first
    assert Secrets(lab).password("mysql-check") != first
    assert json.loads((lab / "secrets" / "passwords.json").read_text())["mysql-app"] == first


def test_password_is_accepted_by_every_program(lab: Path) -> None:
    secrets = Secrets(lab)
    for number in range(50):
        password = secrets.password(f"p{number}")
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{31}", password)
        for kind in (r"[a-z]", r"[A-Z]", r"[0-9]", r"[_-]"):
            assert re.search(kind, password)


def test_passwords_of_several_processes_are_all_kept(lab: Path) -> None:
    code = """
import sys
from pathlib import Path
from provision.core.secrets import Secrets
secrets = Secrets(Path(sys.argv[1]))
print([secrets.password("shared"), *(secrets.password(f"own-{sys.argv[2]}-{n}") for n in range(8))])
"""
    outputs = [ast.literal_eval(line) for line in run_processes(code, lab)]
    assert len({line[0] for line in outputs}) == 1
    kept = json.loads((lab / "secrets" / "passwords.json").read_text())
    assert set(kept.values()) == {password for line in outputs for password in line}
    assert len(kept) == 6 * 8 + 1


def test_passwords_of_several_threads_are_all_kept(lab: Path) -> None:
    secrets = Secrets(lab)
    threads = [threading.Thread(target=secrets.password, args=(f"p{n % 5}",)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(json.loads((lab / "secrets" / "passwords.json").read_text())) == {
        f"p{n}" for n in range(5)
    }


@pytest.mark.parametrize("name", ["", "Upper", "../x", "a b", "-x"])
def test_invalid_password_name(lab: Path, name: str) -> None:
    with pytest.raises(ValueError, match="invalid password name"):
        Secrets(lab).password(name)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"a": 1}', '{"a": ""}', '{"A": "0123456789"}', "\x00", "[" * 99999]
)
def test_damaged_password_file_is_not_replaced(lab: Path, text: str) -> None:
    secrets = Secrets(lab)
    secrets.password("mysql-app")
    path = lab / "secrets" / "passwords.json"
    path.write_text(text)
    with pytest.raises(LabError, match=r"passwords\.json is damaged") as caught:
        Secrets(lab).password("mysql-app")
    assert path.read_text() == text
    assert caught.value.hint.startswith(f"rm {shlex.quote(str(path))} && invoke lab.up (")
    path.unlink()  # as the hint says
    assert Secrets(lab).password("mysql-app")


# --- permissions ---------------------------------------------------------------------------------


def test_modes_do_not_depend_on_the_umask(lab: Path) -> None:
    before = os.umask(0)
    try:
        secrets = Secrets(lab)
        secrets.password("mysql-app")
        secrets.ssh_key()
    finally:
        os.umask(before)
    assert mode(lab / "secrets") == 0o700
    files = sorted((lab / "secrets").iterdir())
    assert [p.name for p in files] == [".lock", "id_ed25519", "id_ed25519.pub", "passwords.json"]
    assert {mode(p) for p in files} == {0o600}


def test_file_is_private_before_its_first_byte(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    fsync = os.fsync

    def record_and_fsync(number: int) -> None:
        info = os.fstat(number)
        if stat.S_ISREG(info.st_mode):
            synced.append((stat.S_IMODE(info.st_mode), info.st_size > 0))
        fsync(number)

    monkeypatch.setattr(os, "fsync", record_and_fsync)
    before = os.umask(0)
    try:
        Secrets(lab).password("mysql-app")
    finally:
        os.umask(before)
    assert synced == [(0o600, True)]


@pytest.mark.parametrize("opened", [0o640, 0o604, 0o620, 0o666])
@pytest.mark.parametrize("name", ["passwords.json", "id_ed25519"])
def test_secret_accessible_to_others_is_refused(lab: Path, name: str, opened: int) -> None:
    secrets = Secrets(lab)
    secrets.password("mysql-app")
    secrets.ssh_key()
    path = lab / "secrets" / name
    path.chmod(opened)
    with pytest.raises(LabError, match="is a secret that other users can access") as caught:
        secrets.ssh_key() if name == "id_ed25519" else secrets.password("mysql-app")
    assert f"{opened:04o}" in caught.value.what
    subprocess.run(caught.value.hint, shell=True, check=True)
    assert secrets.ssh_key()
    assert secrets.password("mysql-app")


def test_folder_accessible_to_others_is_refused(lab: Path) -> None:
    secrets = Secrets(lab)
    secrets.password("mysql-app")
    (lab / "secrets").chmod(0o755)
    with pytest.raises(LabError, match="other users can access") as caught:
        secrets.password("mysql-app")
    subprocess.run(caught.value.hint, shell=True, check=True)
    assert secrets.password("mysql-app")


def test_hint_for_a_file_of_another_user(lab: Path) -> None:
    error = cannot_read(lab / "secrets" / "passwords.json", PermissionError(13, "denied"))
    assert error.hint == f'sudo chown -R "$(id -un)" {shlex.quote(str(lab.parent))}'


# --- the SSH key ---------------------------------------------------------------------------------


def test_openssh_reads_the_key(lab: Path) -> None:
    path = Secrets(lab).ssh_key()
    public = path.with_name("id_ed25519.pub").read_text()
    derived = subprocess.run(
        ["ssh-keygen", "-y", "-P", "", "-f", path], capture_output=True, text=True, check=True
    ).stdout
    assert public.split()[:2] == derived.split()[:2]
    assert public.endswith(" foobar-lab two\n")
    assert public.startswith("ssh-ed25519 ")
    assert Secrets(lab).public_key() == public.strip()


def test_several_processes_generate_one_key(lab: Path) -> None:
    code = """
import sys
from pathlib import Path
from provision.core.secrets import Secrets
print(Secrets(Path(sys.argv[1])).ssh_key().read_text())
"""
    assert len(set(run_processes(code, lab))) == 1
    assert "PRIVATE KEY" in (lab / "secrets" / "id_ed25519").read_text()


def test_missing_or_wrong_public_key_is_written_again(lab: Path) -> None:
    secrets = Secrets(lab)
    public = secrets.public_key()
    public_path = secrets.ssh_key().with_name("id_ed25519.pub")
    public_path.unlink()
    assert secrets.public_key() == public
    public_path.write_text("ssh-ed25519 AAAA other\n")
    assert secrets.public_key() == public


def test_damaged_key_is_not_replaced(lab: Path) -> None:
    secrets = Secrets(lab)
    path = secrets.ssh_key()
    text = path.read_text()
    for damaged in ("", text[:100], text.replace("OPENSSH", "RSA"), "\x00"):
        path.write_text(damaged)
        with pytest.raises(LabError, match="id_ed25519 is damaged") as caught:
            secrets.ssh_key()
        assert path.read_text() == damaged
        assert "invoke lab.rescue MACHINE --fix" in caught.value.hint
    path.write_text(text)
    assert secrets.ssh_key() == path


def test_key_of_another_type_is_refused(lab: Path) -> None:
    path = Secrets(lab).folder() / "id_ed25519"
    command = ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True)
    with pytest.raises(LabError, match="not an ed25519 private key"):
        Secrets(lab).ssh_key()


# --- redaction -----------------------------------------------------------------------------------


def test_repr_and_str_show_nothing(lab: Path) -> None:
    secrets = Secrets(lab)
    password = secrets.password("mysql-app")
    secrets.redact("reads all secrets")
    assert password not in repr(secrets) + str(secrets) + f"{secrets}"
    assert repr(secrets) == f"Secrets({str(lab)!r})"


def test_redaction_of_passwords_and_keys(lab: Path) -> None:
    secrets = Secrets(lab)
    password = secrets.password("mysql-app")
    key = secrets.ssh_key().read_text()
    diff = "".join(f"+  {line}\n" for line in key.splitlines())
    shown = secrets.redact(f"IDENTIFIED BY '{password}'; {password}\n{diff}")
    assert password not in shown
    assert shown.startswith(f"IDENTIFIED BY '{REDACTED}'; {REDACTED}\n")
    secret_lines = key.splitlines()[1:-1]
    assert len(secret_lines) >= 4
    assert not [line for line in secret_lines if line in shown]
    assert secrets.redact("no secret in here") == "no secret in here"


def test_secret_added_by_another_process_is_redacted(lab: Path) -> None:
    here, there = Secrets(lab), Secrets(lab)
    first = there.password("one")
    assert here.redact(first) == REDACTED
    second = there.password("two")
    assert here.redact(f"{second} {first}") == f"{REDACTED} {REDACTED}"
    write_atomically(lab / "secrets" / "web-01.key", "-----BEGIN X-----\nc2VjcmV0IGtleQ\n")
    assert here.redact("c2VjcmV0IGtleQ and BEGIN X") == f"{REDACTED} and BEGIN X"


def test_former_secret_stays_redacted(lab: Path) -> None:
    secrets = Secrets(lab)
    old = secrets.password("mysql-app")
    assert secrets.redact(old) == REDACTED
    (lab / "secrets" / "passwords.json").unlink()
    new = secrets.password("mysql-app")
    assert secrets.redact(f"{old} {new}") == f"{REDACTED} {REDACTED}"


def test_longer_secret_is_redacted_before_its_part(lab: Path) -> None:
    folder = Secrets(lab).folder()
    passwords = {"a": "abcdefgh", "b": "abcdefgh-and-more"}
    write_atomically(folder / "passwords.json", json.dumps(passwords))
    assert Secrets(lab).texts() == ("abcdefgh-and-more", "abcdefgh")
    assert Secrets(lab).redact("abcdefgh-and-more") == REDACTED


def test_redaction_with_a_damaged_password_file(lab: Path) -> None:
    secrets = Secrets(lab)
    password = secrets.password("mysql-app")
    assert secrets.redact(password) == REDACTED
    (lab / "secrets" / "passwords.json").write_text("{")
    assert secrets.redact(f"it was {password}") == f"it was {REDACTED}"
    with pytest.raises(LabError):
        secrets.texts()


def test_no_file_is_created_before_it_is_needed(lab: Path) -> None:
    secrets = Secrets(lab)
    assert secrets.texts() == ()
    assert secrets.redact("text") == "text"
    assert not lab.exists()


def test_reading_needs_no_write(lab: Path) -> None:
    secrets = Secrets(lab)
    secrets.password("mysql-app")
    secrets.ssh_key()
    before = {p.name: p.stat().st_mtime_ns for p in (lab / "secrets").iterdir()}
    Secrets(lab).password("mysql-app")
    Secrets(lab).ssh_key()
    after = {p.name: p.stat().st_mtime_ns for p in (lab / "secrets").iterdir()}
    with contextlib.suppress(KeyError):
        del before[".lock"], after[".lock"]
    assert before == after


def test_password_is_not_in_the_error_about_its_file(lab: Path) -> None:
    secrets = Secrets(lab)
    password = secrets.password("mysql-app")
    path = lab / "secrets" / "passwords.json"
    path.write_text(path.read_text().replace("}", ""))
    with pytest.raises(LabError) as caught:
        secrets.password("mysql-app")
    assert password not in str(caught.value)
    assert caught.value.__cause__ is None
    assert REDACTED not in str(caught.value)
