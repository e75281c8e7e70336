"""The one place that knows python-vagrant, and what its functions leave out."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import paramiko
import vagrant

from provision.core.errors import ProviderError
from provision.core.lab import Lab
from provision.core.report import Report
from provision.providers.vagrant import output
from provision.topology import labs

T = TypeVar("T")

LOG = "vagrant.log"


@dataclass(frozen=True)
class Way:
    """How Vagrant itself reaches a machine."""

    address: str
    port: int
    user: str
    keys: tuple[Path, ...]


def dotfolder(lab: Lab) -> Path:
    """Where Vagrant keeps its record of a lab's machines.

    The default lab has Vagrant's usual place, so that plain ``vagrant`` works in the checkout.
    """
    return lab.root / ".vagrant" if lab.name == labs.DEFAULT else lab.directory / "vagrant"


def environment(lab: Lab, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for Vagrant: python-vagrant's ``env`` replaces ours, so all of it.

    What would lead Vagrant to another project is left out.
    """
    kept = {k: v for k, v in given.items() if k not in ("VAGRANT_CWD", "VAGRANT_VAGRANTFILE")}
    return kept | {
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_BOX_UPDATE_CHECK_DISABLE": "1",
        "VAGRANT_NO_COLOR": "1",
        "VAGRANT_DOTFILE_PATH": str(dotfolder(lab)),
        "LAB_NAME": lab.name,
        "LAB_TOPOLOGY": labs.source(lab.topology, lab.root),
        "LAB_NETWORK": str(lab.network),
    }


class Client:
    """Vagrant, for one lab.

    Every call makes an object of python-vagrant of its own: that one remembers a machine's SSH
    settings by name and would answer with those from before a halt. Output is read while it
    appears, goes to ``.lab/<lab>/vagrant.log``, becomes progress, and ends in error messages.

    Args:
        lab: whose machines they are.
        report: told what each machine is doing.
    """

    def __init__(self, lab: Lab, report: Report = lambda _machine, _doing: None) -> None:
        self.lab = lab
        self.report = report

    def states(self) -> dict[str, tuple[str, str]]:
        """By machine: Vagrant's word for its state, and the provider that has it."""
        found: list[Any] = self._call("status", lambda v: v.status())
        return {each.name: (each.state or "", each.provider or "") for each in found if each.name}

    def up(self, provider: str, machine: str | None = None) -> None:
        """Make and start machines; those of providers that can are started side by side."""
        self._call("up", lambda v: v.up(vm_name=machine, provider=provider, no_provision=True))

    def halt(self, machine: str | None = None, *, force: bool = False) -> None:
        """Stop machines; ``force`` cuts their power."""
        self._call("halt", lambda v: v.halt(vm_name=machine, force=force))

    def destroy(self, machine: str | None = None) -> None:
        """Remove machines with their disks."""
        self._call("destroy", lambda v: v.destroy(vm_name=machine))

    def way(self, machine: str) -> Way:
        """How Vagrant reaches a machine; it must run.

        python-vagrant's ``conf`` without a machine silently answers for the last one, and of
        several keys it knows the last; so its text is asked for by name and read by a real parser.
        """
        text: str = self._call("ssh-config", lambda v: v.ssh_config(vm_name=machine))
        return way(text, machine)

    def snapshot_save(self, name: str) -> None:
        """Keep all machines (python-vagrant cannot name single ones)."""
        self._call("snapshot save", lambda v: v.snapshot_save(name))

    def snapshot_restore(self, name: str) -> None:
        """Bring all machines back."""
        self._call("snapshot restore", lambda v: v.snapshot_restore(name))

    def snapshots(self) -> dict[str, tuple[str, ...]]:
        """By machine, the names of its snapshots; python-vagrant hands out the printed lines."""
        printed: list[str] = self._call("snapshot list", lambda v: v.snapshot_list())
        return output.snapshots("\n".join(printed))

    def _call(self, doing: str, call: Callable[[Any], T]) -> T:
        self.lab.directory.mkdir(parents=True, exist_ok=True)
        log = self.lab.directory / LOG
        return ask(self.lab.root, environment(self.lab), log, doing, call, self.report)


def add_box(file: Path, name: str, provider: str, log: Path) -> None:
    """Give Vagrant a box; one of the same name is replaced.

    Raises:
        ProviderError: when Vagrant refuses it.
    """
    with tempfile.TemporaryDirectory() as folder:  # away from every Vagrantfile
        env = {
            k: v for k, v in os.environ.items() if k not in ("VAGRANT_CWD", "VAGRANT_VAGRANTFILE")
        }
        ask(
            Path(folder),
            env | {"VAGRANT_CHECKPOINT_DISABLE": "1", "VAGRANT_NO_COLOR": "1"},
            log,
            "box add",
            lambda v: v.box_add(name, str(file.absolute()), provider=provider, force=True),
            lambda _machine, _doing: None,
        )


def ask(
    root: Path,
    env: Mapping[str, str],
    log: Path,
    doing: str,
    call: Callable[[Any], T],
    report: Report,
) -> T:
    """Have python-vagrant do something, with all that Vagrant prints heard.

    Args:
        root: the folder to do it in.
        env: Vagrant's whole environment.
        log: where its output is added.
        doing: Vagrant's command, for messages.
        call: given python-vagrant's object.
        report: told what each machine is doing.

    Raises:
        ProviderError: with Vagrant's last lines.
    """
    tail: deque[str] = deque(maxlen=20)

    def hear(line: str) -> None:
        if "Progress:" not in line:  # some hundred lines a box
            file.write(line + "\n")
            tail.append(line)
        told = output.doing(line)
        if told:
            report(*told)

    with log.open("a", encoding="utf-8", buffering=1) as file:
        file.write(f"\n{time.strftime('%H:%M:%S')} vagrant {doing}\n")
        file.flush()
        with piped(hear) as stream:

            @contextlib.contextmanager
            def handle() -> Iterator[int]:
                yield stream

            try:
                # Its own default sends all of this to /dev/null.
                return call(
                    vagrant.Vagrant(  # type: ignore[no-untyped-call]
                        root=str(root), env=dict(env), out_cm=handle, err_cm=handle
                    )
                )
            except subprocess.CalledProcessError as error:
                failed = error
            except RuntimeError:
                raise ProviderError(
                    "Vagrant is not installed on this host",
                    "invoke lab.doctor --provider vagrant says what is needed",
                ) from None
            except ValueError as error:
                raise ProviderError(
                    f"what vagrant {doing} printed could not be understood ({error})",
                    f"look at it: cd {root} && vagrant {doing}",
                ) from None
    # Only now, when its stream has ended, are the last lines complete.
    said = [failed.output.decode(errors="replace")] if failed.output else []
    text = "\n".join([*said, *tail])
    raise ProviderError(
        f"vagrant {doing} failed (status {failed.returncode})",
        _advice(text) or f"all it said is in {log}",
        output=text,
    )


@contextlib.contextmanager
def piped(hear: Callable[[str], None]) -> Iterator[int]:
    """A file descriptor for a program's output, each line of which is heard at once.

    A program may leave a daemon behind that keeps the pipe open (VirtualBox does), so the end of
    the stream is waited for two seconds only.
    """
    reading, writing = os.pipe()

    def read() -> None:
        with os.fdopen(reading, "rb", buffering=0) as stream:
            for line in output.lines(iter(lambda: stream.read(65536), b"")):
                hear(line)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield writing
    finally:
        os.close(writing)
        thread.join(2)


def way(text: str, machine: str) -> Way:
    """How a machine is reached, from ``vagrant ssh-config``.

    Raises:
        ProviderError: when the text is not about that machine.
    """
    parsed = paramiko.SSHConfig.from_text(text)
    if machine not in parsed.get_hostnames():
        raise ProviderError(f"Vagrant does not say how it reaches {machine}", "vagrant ssh-config")
    found = parsed.lookup(machine)
    return Way(
        address=found["hostname"],
        port=int(found.get("port", "22")),
        user=found.get("user", "vagrant"),
        keys=tuple(Path(path) for path in found.get("identityfile", [])),
    )


def _advice(text: str) -> str:
    """What to do about errors that are well known."""
    known = (
        ("VERR_VMX_NO_VMX", "switch virtualisation (VT-x, AMD-V) on in this computer's firmware"),
        ("VERR_NEM", "switch Hyper-V off: bcdedit /set hypervisorlaunchtype off, then restart"),
        (
            "not within the",
            "take a network in 192.168.56.0/21, or allow it: /etc/vbox/networks.conf",
        ),
        ("outside of the range", "take a network in 192.168.56.0/21: --network 192.168.57.0/24"),
        ("/dev/vboxdrv", "load VirtualBox's kernel driver: sudo /sbin/vboxconfig"),
        ("Failed to connect socket to", "start libvirt: sudo systemctl start libvirtd"),
        ("could not be found or\ncould not be accessed", "invoke box.build makes a box here"),
        ("could not be accessed in the remote catalog", "invoke box.build makes a box here"),
    )
    return next((advice for sign, advice in known if sign in text), "")
