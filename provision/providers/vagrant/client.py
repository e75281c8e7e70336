"""Run Vagrant for a lab: the only module that uses python-vagrant."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import paramiko
import vagrant

from provision import topology as topology_files
from provision.core.errors import ProviderError
from provision.core.growth import VAGRANT_LOG_BYTES
from provision.core.lab import DEFAULT_LAB, Lab
from provision.core.report import Log, Report
from provision.core.retention import rotate
from provision.providers.vagrant import output

T = TypeVar("T")

LOG = "vagrant.log"
VAGRANT_USER = "vagrant"

_ERROR_HINTS = (
    ("VERR_VMX_NO_VMX", "enable virtualization (VT-x, AMD-V) in this computer's firmware"),
    ("VERR_NEM", "disable Hyper-V: bcdedit /set hypervisorlaunchtype off, then restart"),
    ("not within the", "use a network in 192.168.56.0/21, or allow it in /etc/vbox/networks.conf"),
    ("outside of the range", "use a network in 192.168.56.0/21: --network 192.168.57.0/24"),
    ("/dev/vboxdrv", "load VirtualBox's kernel driver: sudo /sbin/vboxconfig"),
    ("Failed to connect socket to", "start libvirt: sudo systemctl start libvirtd"),
    ("could not be found or\ncould not be accessed", "build the box: invoke box.build"),
    ("could not be accessed in the remote catalog", "build the box: invoke box.build"),
)
"""Hints by a part of Vagrant's error message."""


@dataclass(frozen=True)
class SshSettings:
    """How Vagrant itself connects to a machine (``vagrant ssh-config``)."""

    address: str
    port: int
    user: str
    keys: tuple[Path, ...]


def dotfile_folder(lab: Lab) -> Path:
    """VAGRANT_DOTFILE_PATH; for the default lab the usual one, so that plain ``vagrant`` works."""
    return lab.root / ".vagrant" if lab.name == DEFAULT_LAB else lab.directory / "vagrant"


def environment(lab: Lab, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The complete environment for Vagrant (python-vagrant's ``env`` replaces the inherited one).

    Variables that select another project are removed.
    """
    return _without_project(inherited) | {
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_BOX_UPDATE_CHECK_DISABLE": "1",
        "VAGRANT_NO_COLOR": "1",
        "VAGRANT_DOTFILE_PATH": str(dotfile_folder(lab)),
        "LAB_NAME": lab.name,
        "LAB_TOPOLOGY": topology_files.reference(lab.topology, lab.root),
        "LAB_NETWORK": str(lab.network),
    }


def _without_project(inherited: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in inherited.items() if k not in ("VAGRANT_CWD", "VAGRANT_VAGRANTFILE")}


class VagrantClient:
    """Vagrant for one lab; its output is appended to ``.lab/<lab>/vagrant.log``.

    Every call creates its own object of python-vagrant, which caches SSH settings by machine name
    and would return outdated ones.
    """

    def __init__(self, lab: Lab, report: Report = lambda _machine, _message: None) -> None:
        self.lab = lab
        self.report = report

    def states(self) -> dict[str, str]:
        """Vagrant's state of each machine, such as ``running`` or ``poweroff``."""
        rows: list[Any] = self._call("status", lambda v: v.status())
        return {row.name: row.state or "" for row in rows if row.name}

    def up(self, provider: str, machine: str | None = None) -> None:
        """Create and start machines, without running provisioners."""
        self._call("up", lambda v: v.up(vm_name=machine, provider=provider, no_provision=True))

    def halt(self, machine: str | None = None, *, force: bool = False) -> None:
        """Shut machines down; ``force`` powers them off."""
        self._call("halt", lambda v: v.halt(vm_name=machine, force=force))

    def destroy(self, machine: str | None = None) -> None:
        """Remove machines and their disks."""
        self._call("destroy", lambda v: v.destroy(vm_name=machine))

    def ssh_settings(self, machine: str) -> SshSettings:
        """How Vagrant connects to a running machine.

        python-vagrant's ``conf`` uses the last machine when none is given, and keeps only the last
        of several keys; so the text is requested by name and parsed here.
        """
        text: str = self._call("ssh-config", lambda v: v.ssh_config(vm_name=machine))
        return parse_ssh_config(text, machine)

    def snapshot_save(self, name: str) -> None:
        """Take a snapshot of all machines (python-vagrant does not support single ones)."""
        self._call("snapshot save", lambda v: v.snapshot_save(name))

    def snapshot_restore(self, name: str) -> None:
        """Restore all machines from a snapshot."""
        self._call("snapshot restore", lambda v: v.snapshot_restore(name))

    def snapshot_delete(self, machine: str, name: str) -> None:
        """Delete a snapshot of one machine (python-vagrant does not support single ones)."""
        arguments = ("snapshot", "delete", machine, name)
        self._call("snapshot delete", lambda v: v._call_vagrant_command(list(arguments)))

    def snapshots(self) -> dict[str, tuple[str, ...]]:
        """The names of snapshots by machine."""
        lines: list[str] = self._call("snapshot list", lambda v: v.snapshot_list())
        return output.parse_snapshots("\n".join(lines))

    def _call(self, command: str, call: Callable[[Any], T]) -> T:
        self.lab.directory.mkdir(parents=True, exist_ok=True)
        log = self.lab.directory / LOG
        return run_vagrant(self.lab.root, environment(self.lab), log, command, call, self.report)


def add_box(file: Path, name: str, provider: str, log: Path) -> None:
    """Add a box to Vagrant, replacing one of the same name.

    Raises:
        ProviderError: when Vagrant refuses it.
    """
    with tempfile.TemporaryDirectory() as folder:  # no Vagrantfile applies here
        run_vagrant(
            Path(folder),
            _without_project(os.environ)
            | {"VAGRANT_CHECKPOINT_DISABLE": "1", "VAGRANT_NO_COLOR": "1"},
            log,
            "box add",
            lambda v: v.box_add(name, str(file.absolute()), provider=provider, force=True),
            lambda _machine, _message: None,
        )


def run_vagrant(
    root: Path,
    env: Mapping[str, str],
    log_file: Path,
    command: str,
    call: Callable[[Any], T],
    report: Report,
) -> T:
    """Run a command through python-vagrant, and report its output as progress.

    Args:
        root: the working directory.
        env: the complete environment.
        command: for messages.
        call: receives python-vagrant's object.

    Raises:
        ProviderError: with the last lines of the output.
    """
    tail: deque[str] = deque(maxlen=20)

    def handle_line(line: str) -> None:
        if "Progress:" not in line:  # some hundred lines per box
            file.write(line + "\n")
            tail.append(line)
        progress = output.parse_progress(line)
        if progress:
            report(*progress)

    rotate(log_file, VAGRANT_LOG_BYTES)
    with log_file.open("a", encoding="utf-8", buffering=1) as file:
        file.write(f"\n{time.strftime('%H:%M:%S')} vagrant {command}\n")
        with line_pipe(handle_line) as descriptor:

            @contextlib.contextmanager
            def stream() -> Iterator[int]:
                yield descriptor

            try:
                # By default, python-vagrant redirects the output to /dev/null.
                return call(
                    vagrant.Vagrant(  # type: ignore[no-untyped-call]
                        root=str(root), env=dict(env), out_cm=stream, err_cm=stream
                    )
                )
            except subprocess.CalledProcessError as error:
                failure = error
            except RuntimeError:
                raise ProviderError(
                    "Vagrant is not installed on this host",
                    "invoke lab.doctor --provider vagrant lists the requirements",
                ) from None
            except ValueError as error:
                raise ProviderError(
                    f"the output of vagrant {command} cannot be parsed ({error})",
                    f"cd {root} && vagrant {command}",
                ) from None
    # The last lines are complete only now, after the stream has ended.
    stdout = [failure.output.decode(errors="replace")] if failure.output else []
    text = "\n".join([*stdout, *tail])
    hint = next((hint for part, hint in _ERROR_HINTS if part in text), "")
    raise ProviderError(
        f"vagrant {command} failed (status {failure.returncode})",
        hint or f"see the complete output in {log_file}",
        output=text,
    )


@contextlib.contextmanager
def line_pipe(handle_line: Log) -> Iterator[int]:
    """A file descriptor for a program's output, each line of which is handled at once.

    A daemon started by the program may keep the pipe open (VirtualBox does), so the end of the
    stream is awaited for two seconds only.
    """
    reading, writing = os.pipe()

    def read() -> None:
        with os.fdopen(reading, "rb", buffering=0) as stream:
            for line in output.split_lines(iter(lambda: stream.read(65536), b"")):
                handle_line(line)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield writing
    finally:
        os.close(writing)
        thread.join(2)


def parse_ssh_config(text: str, machine: str) -> SshSettings:
    """The settings of one machine in the output of ``vagrant ssh-config``."""
    config = paramiko.SSHConfig.from_text(text)
    if machine not in config.get_hostnames():
        raise ProviderError(f"vagrant ssh-config does not contain {machine}", "vagrant ssh-config")
    options = config.lookup(machine)
    return SshSettings(
        address=options["hostname"],
        port=int(options.get("port", "22")),
        user=options.get("user", VAGRANT_USER),
        keys=tuple(Path(path) for path in options.get("identityfile", [])),
    )


def ssh_argv(machine: str, argv: Sequence[str]) -> tuple[str, ...]:
    """The command line of ``vagrant ssh`` that runs a program as root, or a login shell."""
    if not argv:
        return ("vagrant", "ssh", machine, "--", "-t", "sudo -n -i")
    return ("vagrant", "ssh", machine, "--", "-T", f"sudo -n -- {shlex.join(argv)}")
