"""The controller on an emulation of Windows (see emulate_windows.py)."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import paramiko
import pytest

from provision.core.lab import ROOT
from provision.core.secrets import Secrets

EMULATION = Path(__file__).with_name("emulate_windows.py")

ON_MACHINES = ("provision.app.",)
"""Runs on machines only, which are never Windows."""

LINUX = ("provision.providers.boxes.", "provision.providers.lxc", "provision.operations.bundle.")
"""Creates machines, boxes and bundles on a Linux host."""


def on_windows(
    code: str, folder: Path, *arguments: object, ok: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a Python script on emulated Windows.

    Args:
        folder: for files, and as home folder.
        ok: whether the script must exit with 0.
    """
    script = folder / "script.py"
    script.write_text(code, encoding="utf-8")
    environ = {k: v for k, v in os.environ.items() if not k.startswith("LAB_")}
    result = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", EMULATION, script, *map(str, arguments)],
        cwd=ROOT, env={**environ, "HOME": str(folder)},
        encoding="cp1252", errors="replace", capture_output=True, check=False,
    )  # fmt: skip
    assert not ok or result.returncode == 0, result.stdout + result.stderr
    return result


INVOKE = """
import sys
sys.argv[0] = "invoke"
from invoke.main import program
program.run()
"""


def invoke(folder: Path, *words: object, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a task on emulated Windows."""
    return on_windows(INVOKE, folder, *words, ok=ok)


# --- the emulation ------------------------------------------------------------------------------


def test_features_that_windows_lacks_are_missing(tmp_path: Path) -> None:
    code = """
import os, sys, tempfile
from pathlib import Path
def fails(kind, what):
    try:
        what()
    except kind:
        return
    raise SystemExit(f"this works: {what.__code__.co_consts} {what.__code__.co_names}")
here = Path(sys.argv[1])
fails(ImportError, lambda: __import__("fcntl"))
fails(AttributeError, lambda: os.getuid())
fails(AttributeError, lambda: os.fchmod(0, 0o600))
fails(PermissionError, lambda: os.open(here, os.O_RDONLY))
fails(AssertionError, lambda: os.kill(os.getpid(), 0))
fails(AssertionError, lambda: __import__("subprocess").run(["true"]))
fails(FileNotFoundError, lambda: Path("/proc/self/stat").read_bytes())
fails(AssertionError, lambda: os.open(here / "b", os.O_WRONLY | os.O_CREAT))
(here / "a").write_text("one\\n", encoding="utf-8")
assert (here / "a").read_bytes() == b"one\\r\\n"
assert (here / "a").stat().st_mode & 0o777 == 0o666
assert here.stat().st_mode & 0o777 == 0o777
fails(UnicodeEncodeError, lambda: print("▼"))
assert sys.platform == "win32"
"""
    on_windows(code, tmp_path, tmp_path)


# --- modules and tasks ---------------------------------------------------------------------------


def test_every_module_of_the_controller_can_be_imported(tmp_path: Path) -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "provision").rglob("*.py"))
    ]
    wanted = [
        name
        for name in modules
        if not f"{name}.".startswith((*ON_MACHINES, *LINUX)) and ".agent" not in name
    ]
    assert {
        "provision.core.state",
        "provision.engine.host",
        "provision.providers.ssh.provider",
    } <= set(wanted)
    assert len(wanted) > 100
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\n"
    on_windows(code, tmp_path, *wanted)


def test_tasks_are_listed(tmp_path: Path) -> None:
    listed = invoke(tmp_path, "--list").stdout
    for task in ("lab.up", "lab.ssh", "app.deploy", "db.promote", "lb.drain", "dns.hosts"):
        assert task in listed


def test_boxes_are_not_built_on_windows(tmp_path: Path) -> None:
    result = invoke(tmp_path, "box.build", ok=False)
    assert "error: boxes are built on Linux, and this is Windows\nnext: build it" in result.stderr


def test_diagram_uses_only_available_characters(tmp_path: Path) -> None:
    result = invoke(tmp_path, "lab.diagram", "--topology", "scaled")
    assert "192.168.56.42" in result.stdout
    invoke(tmp_path, "lab.diagram", "--topology", "simple", "--svg", tmp_path / "a.svg")
    assert b"\r" not in (tmp_path / "a.svg").read_bytes()
    invoke(tmp_path, "lab.diagram", "--topology", "simple", "--png", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG\r\n")


# --- state and secrets----------------------------------------------------------------------------


def test_state_is_written_and_changed(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from provision.core import state
from provision.core.atomic import write_atomically
from provision.core.locks import lab_lock
here = Path(sys.argv[1]) / "one"
with lab_lock(here), lab_lock(here):
    state.save(here, state.State(provider="ssh", primary="web-01", network="192.168.56.0/24"))
    state.change(here, primary="web-02", weights={"web-01": 10})
recorded = state.load(here)
assert (recorded.primary, recorded.epoch, recorded.weights) == ("web-02", 1, {"web-01": 10})
write_atomically(here / "open", "two\\nlines\\n", 0o644)
state.delete(here)
assert state.load(here) is None
"""
    on_windows(code, tmp_path, tmp_path)
    assert (tmp_path / "one" / "open").read_bytes() == b"two\nlines\n"
    assert not [p.name for p in (tmp_path / "one").iterdir() if p.name.startswith(".open")]


def test_holder_of_the_lock_is_named_and_not_killed(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from provision.core import locks
from provision.core.errors import LabError
here = Path(sys.argv[1]) / "one"
with locks.lab_lock(here):
    held = dict(locks._held)
    locks._held.clear()  # as another process would see it
    try:
        with locks.lab_lock(here):
            raise SystemExit("both have it")
    except LabError as error:
        print(error)
    locks._held.update(held)
"""
    output = on_windows(code, tmp_path, tmp_path).stdout
    assert "taskkill /PID" in output
    assert "lab one is in use by another command: script.py" in output
    assert "fuser" not in output


def test_secrets_are_generated_and_read_again(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from provision.core.pki import CertificateAuthority
from provision.core.secrets import Secrets
one = Secrets(Path(sys.argv[1]) / "one")
key, password = one.ssh_key().read_bytes(), one.password("mysql-app")
assert b"\\r" not in key
two = Secrets(Path(sys.argv[1]) / "one")
assert two.ssh_key().read_bytes() == key
assert two.password("mysql-app") == password
assert password not in two.redact(f"it is {password}")
print(two.public_key())
"""
    output = on_windows(code, tmp_path, tmp_path).stdout
    assert output.startswith("ssh-ed25519 ")
    again = subprocess.run(  # OpenSSH itself reads the key
        ["ssh-keygen", "-y", "-f", tmp_path / "one" / "secrets" / "id_ed25519"],
        text=True, capture_output=True, check=True,
    )  # fmt: skip
    assert again.stdout.split()[1] == output.split()[1]


def test_hint_after_a_failed_write(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from provision.core.atomic import write_atomically
from provision.core.errors import LabError
try:
    write_atomically(Path(sys.argv[1]) / "file" / "below", "text")
except LabError as error:
    print(error)
"""
    (tmp_path / "file").write_text("not a folder")
    output = on_windows(code, tmp_path, tmp_path).stdout
    assert "cannot be written" in output
    assert not any(word in output for word in ("chown", "ls -ld", "df -h"))


# --- a lab on machines that exist already --------------------------------------------------------


def test_unreachable_machines_are_named(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from provision.topology import labs
from provision.topology.record import record_lab
from provision.core.endpoint import Endpoint
from provision.core.ssh_config import write_ssh_config
from provision.providers.ssh import SshProvider, record
from provision.providers.ssh.endpoints import read_openssh_files, resolve_endpoints
root = Path(sys.argv[1])
lab, recorded = labs.open_lab("one", topology="distributed", root=root, keep_addresses=True)
assert recorded is None
record_lab(lab, "ssh")
key = root / "key"
key.write_bytes(b"")
ends = {
    m.name: Endpoint("127.0.0.1", int(sys.argv[2]), "root", key, "ssh-ed25519 AAAA")
    for m in lab.machines
}
record.save(lab, record.ExistingMachines(ends))
config = write_ssh_config(lab, ends)
assert b"\\r" not in config.read_bytes()
lab, recorded = labs.open_lab("one", root=root)
assert recorded.provider == "ssh"
provider = SshProvider()
assert set(provider.state(lab).values()) == {"halted"}
assert provider.endpoints(lab) == {}
assert read_openssh_files().user == "Administrator"
resolved, problems = resolve_endpoints(lab, {}, read_openssh_files())
assert resolved == {}
names = [problem.what.partition(":")[0] for problem in problems]
assert names == ["lb-01", "web-01", "web-02"]
print(len(problems))
"""
    topologies = tmp_path / "configs" / "topologies"
    topologies.mkdir(parents=True)
    for file in (ROOT / "configs" / "topologies").glob("*.yml"):
        (topologies / file.name).write_bytes(file.read_bytes())
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text("Host web-*\n  User deploy\n")
    output = on_windows(code, tmp_path, tmp_path, 9).stdout  # port 9 (discard) has no listener
    assert output.strip() == "3"  # no private key


def test_doctor_of_existing_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = invoke(tmp_path, "lab.doctor", "--provider", "ssh", "--lab", "t-never-up", ok=False)
    assert result.returncode == 1
    assert "provider ssh: from --provider" in result.stdout
    assert "web-01: the private key " in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    monkeypatch.setenv("EMULATED_PROGRAMS_ARE_MISSING", "1")  # reported by the probe
    monkeypatch.setenv("COLUMNS", "300")
    host = invoke(tmp_path, "lab.doctor", "--host", "--lab", "t-never-up")
    assert "containers require Linux, and this is Windows" in host.stdout


class Machine(paramiko.ServerInterface):
    """A machine on this computer: an SSH server that accepts every key and runs every command."""

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.common.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self.serve, args=(channel, command.decode()), daemon=True).start()
        return True

    def serve(self, channel: paramiko.Channel, command: str) -> None:
        time.sleep(0.05)  # the request itself is answered first
        with subprocess.Popen(
            ["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None

            def forward(target: IO[bytes]) -> None:
                with contextlib.suppress(OSError), target:
                    while data := channel.recv(1 << 16):
                        target.write(data)
                        target.flush()

            threading.Thread(target=forward, args=(process.stdin,), daemon=True).start()
            while data := os.read(process.stdout.fileno(), 1 << 16):
                channel.sendall(data)
        with contextlib.suppress(OSError):
            channel.send_exit_status(process.returncode)
        channel.close()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[int]:
    """A port of this computer behind which there is a `Machine`."""
    host_key = paramiko.Ed25519Key(filename=str(Secrets(tmp_path / "host").ssh_key()))
    transports = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    transport = paramiko.Transport(listener.accept()[0])
                    transports.append(transport)
                    transport.add_server_key(host_key)
                    with contextlib.suppress(paramiko.SSHException, EOFError):
                        transport.start_server(event=threading.Event(), server=Machine())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for transport in transports:
        transport.close()
    thread.join(10)


def test_machine_is_examined_and_its_agent_queried(tmp_path: Path, machine: int) -> None:
    code = """
import sys
from pathlib import Path
from provision.topology import labs
from provision.engine.agent.commands import command_probe
from provision.engine.host import Host
from provision.core.lab import ROOT
from provision.core.endpoint import Endpoint
from provision.providers.ssh.preflight import check_machine
from provision.core.secrets import Secrets
lab, _ = labs.open_lab("t-never-up", topology="simple", root=ROOT, keep_addresses=True)
key = Secrets(Path(sys.argv[1]) / "one").ssh_key()
end = Endpoint("127.0.0.1", int(sys.argv[2]), "root", key, "")
_, unknown = check_machine(lab.machine("web-01"), end, accept_keys=False)
assert "host key of 127.0.0.1 is unknown" in unknown[0].what, unknown
end, problems = check_machine(lab.machine("web-01"), end, accept_keys=True)
assert end.host_key.startswith("ssh-ed25519 ")
assert any("192.168.56.11" in p.what for p in problems), problems  # this is no such machine
with Host("web-01", end) as host:
    done = host.run("cat", input="two\\nlines ▼\\n")
    assert (done.status, done.stdout) == (0, "two\\nlines ▼\\n"), done
    probe = command_probe(["echo", "probed"])
    print(host.gather([probe])[probe].stdout)
"""
    assert on_windows(code, tmp_path, tmp_path, machine).stdout.strip() == "probed"


@pytest.mark.parametrize("topology", ["distributed", "scaled"])
def test_configuration_of_machines_is_the_same(tmp_path: Path, topology: str) -> None:
    """Units are what a machine's agent gets: every file, byte by byte."""
    code = """
import hashlib, json, sys
from pathlib import Path
sys.path.insert(0, str(Path.cwd()))
from tests.unit import samples
from provision import registry as roles
context = samples.context(sys.argv[1])
found = {}
for machine in context.lab.machines:
    for unit in context.desired(machine):
        found[f"{machine.name} {unit.name}"] = hashlib.sha256(repr(unit).encode()).hexdigest()
sys.stdout.write(json.dumps(found))
"""
    there = json.loads(on_windows(code, tmp_path, topology).stdout)
    here = subprocess.run(
        [sys.executable, tmp_path / "script.py", topology],
        cwd=ROOT, text=True, capture_output=True, check=True,
    )  # fmt: skip
    assert len(there) > 10
    assert there == json.loads(here.stdout)
