"""scripts/up in a copy of the checkout, with its own .venv and emulated package managers."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.core.lab import ROOT
from provision.core.waiting import wait_until

COPIED = ("scripts", "provision/setup", "provision/__init__.py")

APT_GET = """\
#!/bin/sh
echo "apt-get $*" >>"$CALLS"
[ -z "${APT_SECONDS:-}" ] || sleep "$APT_SECONDS"
case "$* ${APT_FAILS:-}" in
*update*update*) echo "E: Failed to fetch the lists"; exit 100 ;;
*"install --no-install-recommends"*install*) echo "E: Unable to locate package"; exit 100 ;;
*" install "*) [ -z "${APT_INSTALLS:-}" ] || touch "$INSTALLED" ;;
esac
"""

DPKG_QUERY = """\
#!/bin/sh
for name; do
    case $name in
    -*) ;;
    lxc | uidmap) [ -e "$INSTALLED" ] && echo "$name installed" ;;
    *) echo "$name installed" ;;
    esac
done
true
"""

SUDO = """\
#!/bin/sh
case $1 in
-n) shift ;;
-v) exit 0 ;;
esac
exec "$@"
"""

PROGRAM = """\
import os, sys
def main():
    print("started:", os.path.basename(sys.argv[0]), *sys.argv[1:])
    sys.exit(int(os.environ.get("STATUS", "0")))
"""


def wheel(folder: Path, version: str) -> str:
    """A wheel with the program ``invoke``, and its line in a lock file."""
    name = f"invoke-{version}"
    files = {
        "stub.py": PROGRAM,
        f"{name}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: invoke\nVersion: {version}\n",
        f"{name}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}.dist-info/entry_points.txt": "[console_scripts]\ninvoke = stub:main\n",
    }
    record = "".join(f"{path},sha256={_digest(text)},{len(text)}\n" for path, text in files.items())
    path = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(zipfile.ZipInfo(file), text)
        listing = zipfile.ZipInfo(f"{name}.dist-info/RECORD")
        archive.writestr(listing, f"{record}{listing.filename},,\n")
    return f"./{path.name} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class Checkout:
    """A copy of the checkout, and a host with emulated package managers."""

    def __init__(self, root: Path) -> None:
        self.root = root / "a checkout"
        self.tools = root / "tools"
        self.calls = root / "calls"
        self.calls.touch()
        for name in COPIED:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, self.root / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, self.root / name)
        self.lock("1.0")
        self.tools.mkdir()
        tools = {"apt-get": APT_GET, "dpkg-query": DPKG_QUERY, "sudo": SUDO}
        for name, text in tools.items():
            (self.tools / name).write_text(text)
            (self.tools / name).chmod(0o755)
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("LAB_", "PIP_", "PYTHON"))},
            "PATH": f"{self.tools}:/usr/bin:/bin",
            "CALLS": str(self.calls),
            "INSTALLED": str(root / "installed"),
            "PIP_NO_INDEX": "1",
        }

    def lock(self, version: str) -> None:
        (self.root / "requirements.lock").write_text(wheel(self.root, version))

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["scripts/up", *arguments],
            cwd=self.root, env={**self.environ, **environ},
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def up(self, *arguments: str, status: int = 0, **environ: str) -> tuple[list[str], str]:
        """Run scripts/up: the lines of its stdout, and its stderr."""
        process = self.start(*arguments, **environ)
        output, errors = process.communicate(timeout=400)
        assert process.returncode == status, output + errors
        assert "Traceback" not in errors
        lines = [line for line in output.splitlines() if "has been running for" not in line]
        return lines, errors


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which scripts/up has run; tests leave it in that state."""
    checkout = Checkout(tmp_path_factory.mktemp("up"))
    lines, _ = checkout.up("--topology", "simple", "--provider", "vagrant")
    assert lines == [
        "== creating .venv with /usr/bin/python3",
        "== invoke lab.up --topology simple --provider vagrant",
        "started: invoke lab.up --topology simple --provider vagrant",
    ]
    return checkout


@pytest.fixture
def checkout(installed: Checkout) -> Iterator[Checkout]:
    """The same, restored after a test."""
    kept = installed.root / ".venv" / ".locks"
    stamp = kept.read_text()
    yield installed
    installed.lock("1.0")
    kept.write_text(stamp)
    installed.calls.write_text("")
    Path(installed.environ["INSTALLED"]).unlink(missing_ok=True)


def test_a_second_run_installs_nothing_and_passes_the_exit_status_on(checkout: Checkout) -> None:
    lines, errors = checkout.up(LAB_PROVIDER="vagrant", STATUS="3", status=3)
    assert lines == ["== invoke lab.up", "started: invoke lab.up"]
    assert errors == ""
    assert checkout.calls.read_text() == ""


def test_a_changed_lock_file_updates_the_environment(checkout: Checkout) -> None:
    checkout.lock("2.0")
    lines, _ = checkout.up(LAB_PROVIDER="vagrant")
    assert lines[0] == "== updating .venv to requirements.lock"
    version = "from importlib.metadata import version; print(version('invoke'))"
    python = checkout.root / ".venv" / "bin" / "python"
    assert subprocess.check_output([python, "-c", version], text=True).strip() == "2.0"


def test_an_interrupted_environment_is_created_again(checkout: Checkout) -> None:
    (checkout.root / ".venv" / ".locks").unlink()
    (checkout.root / ".venv" / "left-over").touch()
    lines, _ = checkout.up(LAB_PROVIDER="vagrant")
    assert lines[0] == "== creating .venv with /usr/bin/python3"
    assert not (checkout.root / ".venv" / "left-over").exists()


def test_a_wrong_hash_is_refused_and_leaves_no_stamp(checkout: Checkout) -> None:
    text = wheel(checkout.root, "3.0").partition("sha256:")[0] + "sha256:" + "0" * 64 + "\n"
    (checkout.root / "requirements.lock").write_text(text)
    _, errors = checkout.up(LAB_PROVIDER="vagrant", status=1)
    assert "  | " in errors
    assert "error: the Python packages of requirements.lock could not be installed" in errors
    assert "next: check the network and pip's configuration" in errors
    assert not (checkout.root / ".venv" / ".locks").exists()


def test_missing_packages_are_installed_for_containers(checkout: Checkout) -> None:
    lines, _ = checkout.up("--provider=lxc", APT_INSTALLS="1")
    assert lines[:2] == ["== installing lxc uidmap", "== invoke lab.up --provider=lxc"]
    calls = checkout.calls.read_text().splitlines()
    assert [call.partition(" -o ")[0] for call in calls] == ["apt-get -q -y"] * 2
    assert calls[0].endswith("--simulate install --no-install-recommends lxc uidmap")
    assert calls[1].endswith("install --no-install-recommends lxc uidmap")
    assert "Dpkg::Options::=--force-confold" in calls[1]
    assert checkout.up("--provider=lxc")[0][0] == "== invoke lab.up --provider=lxc"


def test_package_lists_are_updated_only_when_the_current_ones_fail(checkout: Checkout) -> None:
    lines, errors = checkout.up("--provider", "lxc", APT_FAILS="install", status=1)
    assert lines == ["== installing lxc uidmap", "== updating the package lists"]
    assert "  | E: Unable to locate package" in errors
    assert "error: packages could not be installed; see .lab/setup.log" in errors
    assert "next: sudo apt-get install --no-install-recommends lxc uidmap" in errors
    _, errors = checkout.up("--provider", "lxc", APT_FAILS="install update", status=1)
    assert "the package sources of this host cannot be reached" in errors
    assert "\n$ " in (checkout.root / ".lab" / "setup.log").read_text()


def test_a_second_set_up_waits_for_the_first(checkout: Checkout) -> None:
    with (checkout.root / ".lab" / "setup.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = checkout.start(LAB_PROVIDER="vagrant")
        assert process.stdout is not None
        waiting = process.stdout.readline()
        assert process.poll() is None
    output, _ = process.communicate(timeout=60)
    assert waiting == "== waiting for another setup that is running in this checkout\n"
    assert output.startswith("== invoke lab.up\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_lets_the_package_manager_finish(
    checkout: Checkout, number: signal.Signals
) -> None:
    process = checkout.start("--provider", "lxc", APT_SECONDS="1.5")
    wait_until(lambda: "simulate" in checkout.calls.read_text(), 30, "apt-get")
    started = time.monotonic()
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "interrupted: run the same command again to continue\n"
    assert time.monotonic() - started > 0.5
    assert output == "== installing lxc uidmap\n"


def test_the_demanded_python_is_used_and_a_wrong_one_refused(checkout: Checkout) -> None:
    _, errors = checkout.up(PYTHON="/bin/true-not-there", status=1)
    assert errors == "error: PYTHON=/bin/true-not-there is not Python 3.11 or newer\n"
    lines, _ = checkout.up(PYTHON="/usr/bin/python3", LAB_PROVIDER="vagrant")
    assert lines[0] == "== invoke lab.up"


def test_a_system_without_apt_names_the_doctor(checkout: Checkout) -> None:
    (checkout.tools / "apt-get").rename(checkout.tools / "hidden")
    try:
        path = f"{checkout.tools}:/nowhere"
        for name in ("sh", "dirname", "uname", "id"):
            link = checkout.tools / name
            link.symlink_to(f"/bin/{name}")
        lines, _ = checkout.up("--provider", "lxc", PATH=path)
    finally:
        (checkout.tools / "hidden").rename(checkout.tools / "apt-get")
        for name in ("sh", "dirname", "uname", "id"):
            (checkout.tools / name).unlink()
    assert lines[0].startswith("== apt-get not found: install the required packages yourself")
    assert lines[-1] == "started: invoke lab.up --provider lxc"
