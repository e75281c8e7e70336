"""The wrappers of the set-up: shell scripts for Linux and macOS, .cmd files for Windows."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from provision.core.lab import ROOT
from provision.setup import install, packages
from provision.setup.install import how_to_install
from provision.setup.system import System
from tests.unit.setup import samples
from tests.unit.windows.test_controller import on_windows

SCRIPTS = ROOT / "scripts"
PROGRAMS = ("up", "test", "doctor")


def shell(script: str, folder: Path, **tools: str) -> subprocess.CompletedProcess[str]:
    """Run a script after scripts/python.sh; tools replace programs of the search path."""
    for name, text in tools.items():
        tool = folder / name.replace("_", "-")
        tool.write_text(f"#!/bin/sh\n{text}\n")
        tool.chmod(0o755)
    return subprocess.run(
        ["sh", "-euc", f". scripts/python.sh\n{script}"],
        cwd=ROOT, env={"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_has_a_wrapper_for_every_system(name: str) -> None:
    wrapper = SCRIPTS / name
    assert os.access(wrapper, os.X_OK)
    assert wrapper.read_text().endswith(f'exec "$python" scripts/run.py {name} "$@"\n')
    windows = (SCRIPTS / f"{name}.cmd").read_bytes()
    assert windows.count(b"\r\n") == windows.count(b"\n")  # cmd.exe needs it for labels
    lines = windows.decode("ascii").splitlines()
    assert lines[-2:] == [f'%LAB_PYTHON% "%~dp0run.py" {name} %*', "exit /b %ERRORLEVEL%"]
    assert 'call "%~dp0python.cmd" || exit /b 1' in lines


def test_the_python_of_windows_is_the_demanded_one_or_found_by_the_launcher() -> None:
    text = (SCRIPTS / "python.cmd").read_bytes().decode("ascii")
    assert text.count("\r\n") == text.count("\n")
    tried = re.findall(r"(?m)^call :try (.+) && exit /b 0\r$", text)
    assert tried == ["py -3", "python", "python3", '"%PYTHON%"']
    assert "sys.version_info < (3, 11)" in text
    hint = how_to_install("Python", samples.SYSTEMS["Windows 11"])
    assert f"echo next: {hint}" in text
    assert set(re.findall(r"goto (\w+)|call :(\w+)", text)) == {("given", ""), ("", "try")}
    assert {":given", ":try"} <= set(text.split())
    assert text.index('set "VIRTUAL_ENV="') < text.index("call :try py -3")


def test_git_keeps_the_line_ends_of_windows() -> None:
    attributes = (ROOT / ".gitattributes").read_text()
    assert attributes.rindex("*.cmd text eol=crlf") > attributes.index("* text=auto eol=lf")


@pytest.mark.parametrize("name", ["Debian 12", "Ubuntu 24.04", "Fedora 41", "Arch"])
def test_without_python_the_wrapper_says_how_to_install_it(tmp_path: Path, name: str) -> None:
    texts = {
        "Debian 12": samples.DEBIAN_12,
        "Ubuntu 24.04": samples.UBUNTU_24,
        "Fedora 41": samples.FEDORA_41,
        "Arch": samples.ARCH,
    }
    file = tmp_path / "os-release"
    file.write_text(texts[name])
    result = shell(f"os_release={file}\npython_ok() {{ return 1; }}\nneed_python", tmp_path)
    assert result.returncode == 1
    hint = how_to_install("Python", samples.SYSTEMS[name])
    assert result.stderr == (
        "error: no Python 3.11 or newer was found\n"
        f"next: {hint}, or set its path: PYTHON=/path/to/python3\n"
    )


def test_without_python_on_macos(tmp_path: Path) -> None:
    result = shell("python_ok() { return 1; }\nneed_python", tmp_path, uname="echo Darwin")
    assert f"next: {how_to_install('Python', samples.SYSTEMS['Apple silicon'])}" in result.stderr


def test_the_stub_of_macos_is_not_taken_for_a_python(tmp_path: Path) -> None:
    """Without the developer tools, /usr/bin/python3 opens a dialog and does not end."""
    script = "python_ok /usr/bin/python3 && echo usable || echo not usable"
    stub = shell(script, tmp_path, uname="echo Darwin", xcode_select="exit 2")
    assert stub.stdout == "not usable\n"
    real = shell(script, tmp_path, uname="echo Darwin", xcode_select="exit 0")
    assert real.stdout == "usable\n"


def test_the_distributions_python_is_preferred(tmp_path: Path) -> None:
    result = shell("need_python; echo $python", tmp_path, python3="exit 1")
    assert result.stdout == "/usr/bin/python3\n"
    old = shell("python_ok python3.11x || echo no", tmp_path, **{"python3.11x": "exit 1"})
    assert old.stdout == "no\n"
    assert shell("python_ok not-there || echo no", tmp_path).stdout == "no\n"


def test_a_debian_without_python_gets_it(tmp_path: Path) -> None:
    apt = f'echo "$*" >>{tmp_path}/calls; touch {tmp_path}/installed'
    script = f"cd {tmp_path}; python_ok() {{ [ -e {tmp_path}/installed ]; }}\ninstall_python"
    result = shell(script, tmp_path, apt_get=apt, sudo='exec "$@"')
    assert result.stdout == "== installing python3-venv\n"
    assert result.returncode == 0, result.stderr
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert call.endswith("install --no-install-recommends python3-venv")
    assert "python3-venv" in packages.RUN


def test_a_python_that_cannot_be_installed_is_an_error(tmp_path: Path) -> None:
    script = f"cd {tmp_path}; python_ok() {{ return 1; }}\ninstall_python"
    result = shell(script, tmp_path, apt_get="echo E: no route; exit 100", sudo='exec "$@"')
    assert result.returncode == 1
    assert "  | E: no route\n" in result.stderr
    assert "error: Python could not be installed; see .lab/setup.log\nnext: " in result.stderr


def test_an_old_python_is_refused_before_anything_is_imported(tmp_path: Path) -> None:
    code = f"""
import runpy, sys
sys.version_info = (3, 9, 0)
runpy.run_path({str(SCRIPTS / "run.py")!r})
"""
    script = tmp_path / "old.py"
    script.write_text(code)
    result = subprocess.run(
        ["/usr/bin/env", "python3", script], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: Python 3.11 or newer is needed, and this is ")


def test_programs_of_the_environment_are_found_in_both_layouts(tmp_path: Path) -> None:
    copy = tmp_path / "scripts" / "venv"
    copy.parent.mkdir()
    copy.write_bytes((SCRIPTS / "venv").read_bytes())
    for place in ("Scripts/ruff.exe", "bin/ruff"):
        program = tmp_path / ".venv" / place
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\necho {place} "$@"\n')
        program.chmod(0o755)
        result = subprocess.check_output(["sh", copy, "ruff", "check", "a b"], text=True)
        assert result == f"{place} check a b\n"
    missing = subprocess.run(["sh", copy, "mypy"], capture_output=True, text=True, check=False)
    assert (missing.returncode, missing.stderr.splitlines()[0]) == (1, "error: .venv has no mypy")


def test_nothing_else_expects_the_layout_of_unix() -> None:
    """Tools that run on every system find .venv/Scripts as well; .ci/run is for Debian."""
    files = [ROOT / ".pre-commit-config.yaml", *SCRIPTS.iterdir()]
    for path in files:
        if path.is_file() and path.name != "venv":
            text = path.read_bytes().decode()
            assert not re.search(r"\.venv/bin/(?!python -m scripts)", text), path
            assert '".venv" / "bin"' not in text, path


def test_up_on_windows_creates_the_environment_and_runs_a_child(tmp_path: Path) -> None:
    """Without exec: the exit status of invoke is passed on."""
    code = """
import subprocess, sys
from pathlib import Path
from provision.setup import console, lock, up, virtual_environment
root = Path(sys.argv[1])
for module in (console, virtual_environment):
    module.ROOT = root
lock.PATH = root / ".lab" / "setup.lock"
virtual_environment.FOLDER = root / ".venv"
(root / "requirements.lock").write_bytes(b"")
started = []

class Started:
    def __init__(self, argv, **options):
        assert not options.get("pass_fds")
        started.append([str(word) for word in argv])
        if argv[1:3] == ["-m", "venv"]:
            scripts = root / ".venv" / "Scripts"
            scripts.mkdir(parents=True)
            (scripts / "invoke.exe").write_bytes(b"")
    def wait(self, timeout=None):
        return 3 if started[-1][0].endswith("invoke.exe") else 0

subprocess.Popen = Started
virtual_environment._starts = lambda python: True
status = up.main(["--topology", "simple"])
assert status == 3, status
venv, pip, invoke = started
assert venv[1:3] == ["-m", "venv"]
assert pip[0].endswith("python.exe") and pip[1:4] == ["-m", "pip", "install"]
assert invoke[1:] == ["lab.up", "--topology", "simple"]
assert (root / ".venv" / ".locks").exists()
"""
    output = on_windows(code, tmp_path, tmp_path).stdout.splitlines()
    assert output[0].startswith("== creating .venv with ")
    assert output[1] == "== invoke lab.up --topology simple"


def test_the_shell_knows_the_same_fixes_as_the_table() -> None:
    """One family per line of python_hint."""
    text = (SCRIPTS / "python.sh").read_text()
    for system in (System(), *samples.SYSTEMS.values()):
        if system.kind != "Windows":
            assert how_to_install("Python", system) in text
    assert "Python" in install.names()
