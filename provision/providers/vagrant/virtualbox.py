"""What Vagrant leaves in VirtualBox when it destroys machines, and `lab.destroy` removes.

Linked clones share the disk of a master, which is a virtual machine that Vagrant imports from the
box, and host-only networks are for all projects. Both are kept while others use them.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from provision.core.errors import ProviderError
from provision.core.lab import Lab
from provision.core.report import Report
from provision.core.waiting import timeout_factor
from provision.engine.agent.codec import decode
from provision.providers.files import load_record, save_record
from provision.providers.vagrant.client import dotfile_folder
from provision.setup import choice
from provision.setup.virtual_machines import vagrant_home

FILE = "virtualbox.json"
SECONDS = 120
"""For one command of VBoxManage."""


@dataclass(frozen=True)
class Leftovers:
    """What may have to be removed with the lab.

    Args:
        existing: host-only interfaces that existed before the lab.
        masters: the UUIDs of the virtual machines that the lab's are linked clones of.
    """

    existing: tuple[str, ...] = ()
    masters: tuple[str, ...] = ()


def record_interfaces(lab: Lab) -> None:
    """Before the first machine is created: record which interfaces are not the lab's own."""
    if _load(lab) is None:
        existing = tuple(block["Name"] for block in parse_blocks(_manage("list", "hostonlyifs")))
        _save(lab, Leftovers(existing))


def record_masters(lab: Lab) -> None:
    """While the machines exist: record the masters that they are linked clones of.

    A lab whose machines were all made with ``vagrant up`` has no record: its interfaces are kept.
    """
    before = _load(lab)
    if before is not None:
        _save(lab, replace(before, masters=tuple(sorted({*before.masters, *_masters(lab)}))))


def remove_unused(lab: Lab, report: Report) -> None:
    """After the machines are destroyed: remove masters and interfaces that are not in use.

    Raises:
        ProviderError: when VBoxManage fails; another call continues.
    """
    record = _load(lab)
    if record is None:
        return
    for master in {*record.masters} & {*_machines()}:
        if not has_clones(_settings(master), parse_blocks(_manage("list", "hdds"))):
            report("host", "removing the virtual machine that the clones were made from")
            _manage("unregistervm", master, "--delete")
    used = {name for machine in _machines() for name in host_only_adapters(_settings(machine))}
    for interface in parse_blocks(_manage("list", "hostonlyifs")):
        name, network = interface["Name"], interface["VBoxNetworkName"]
        own = IPv4Address(interface["IPAddress"]) in lab.network and name not in record.existing
        if own and name not in used:
            report("host", f"removing the host-only network {name}")
            servers = parse_blocks(_manage("list", "dhcpservers"))
            if any(server["NetworkName"] == network for server in servers):
                _manage("dhcpserver", "remove", f"--network={network}")
            _manage("hostonlyif", "remove", name)
    (lab.directory / FILE).unlink(missing_ok=True)


def parse_blocks(text: str) -> list[dict[str, str]]:
    """The objects in the output of ``VBoxManage list``: lines ``Key: value``, separated by others.

    A block begins with the key of the first one.
    """
    blocks: list[dict[str, str]] = []
    first = ""
    for line in text.splitlines():
        match = re.fullmatch(r"(\S[^:]*):\s*(.*?)\s*", line)
        if match:
            key, value = match.groups()
            first = first or key
            if key == first:
                blocks.append({})
            blocks[-1].setdefault(key, value)
    return blocks


def parse_settings(text: str) -> dict[str, str]:
    """The settings in the output of ``VBoxManage showvminfo --machinereadable``."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip('"'): value.strip('"') for key, _, value in pairs}


def host_only_adapters(settings: Mapping[str, str]) -> set[str]:
    """The host-only interfaces that a machine uses."""
    return {value for key, value in settings.items() if key.startswith("hostonlyadapter")}


def has_clones(settings: Mapping[str, str], media: Sequence[Mapping[str, str]]) -> bool:
    """Whether the disk of another machine is based on a disk of this one.

    Args:
        media: all disks, from ``VBoxManage list hdds``.
    """
    parents = {medium["UUID"]: medium.get("Parent UUID", "") for medium in media}
    own: set[str] = set()
    for key, value in settings.items():
        if "-ImageUUID-" in key:
            while value in parents and value not in own:
                own.add(value)
                value = parents[value]
    return any(parent in own and medium not in own for medium, parent in parents.items())


def _machines() -> list[str]:
    """The UUIDs of all virtual machines."""
    return re.findall(r"\{([0-9a-f-]{36})\}", _manage("list", "vms"))


def _settings(machine: str) -> dict[str, str]:
    return parse_settings(_manage("showvminfo", machine, "--machinereadable"))


def _masters(lab: Lab) -> set[str]:
    """The masters of the lab's machines, from Vagrant's files.

    Vagrant records the box of each machine in its ``box_meta``, and the master beside the box.
    """
    masters = set()
    for path in dotfile_folder(lab).glob("machines/*/virtualbox/box_meta"):
        folder = json.loads(path.read_text(encoding="utf-8")).get("directory", "")
        file = vagrant_home() / folder / "master_id"
        if folder and file.is_file():
            masters.add(file.read_text(encoding="utf-8").strip())
    return masters


def _load(lab: Lab) -> Leftovers | None:
    return load_record(lab, FILE, lambda data: decode(Leftovers, data), None)


def _save(lab: Lab, record: Leftovers) -> None:
    save_record(lab, FILE, record)


def _manage(*words: str) -> str:
    """Run VBoxManage; returns its stdout."""
    argv = [choice.find_vboxmanage() or "VBoxManage", *words]
    command = f"VBoxManage {' '.join(words)}"
    try:
        result = subprocess.run(
            argv, capture_output=True, timeout=SECONDS * timeout_factor(), check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ProviderError(f"{command} failed ({error})", "invoke lab.doctor --host") from None
    if result.returncode != 0:
        text = result.stderr.decode(errors="replace")
        raise ProviderError(f"{command} failed (status {result.returncode})", output=text)
    return result.stdout.decode(errors="replace").replace("\r\n", "\n")
