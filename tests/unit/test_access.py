"""Rescue, trust and rebuild without machines: commands, refusals and parsing."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from provision.checks.machines import checks as machine_checks
from provision.checks.observation import Observation
from provision.core.endpoint import Endpoint
from provision.core.errors import HostKeyError, LabError, ProviderError, UsageError
from provision.core.lab import Lab
from provision.core.ssh_config import known_hosts
from provision.operations import machine_access
from provision.operations.rebuild import plan_rebuild
from provision.operations.rescue import SCRIPT, Restored, parse_output
from provision.operations.session import Session
from provision.operations.trust import HostKeys, verified
from provision.providers.base import ROOT_COMMAND_SECONDS, RootCommand
from provision.providers.lxc import container
from provision.providers.lxc.provider import LxcProvider
from provision.providers.ssh.provider import SshProvider
from provision.providers.vagrant.client import ssh_argv
from tests.unit.samples import context

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFU8Yb3oE6BDx1R1qjB2mHqTn2m0kqWm0bqj0m7gQx1h"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHf0ZpR2Q1e0g2b7y3oXk2mJc8Qw0s9dR1u5t3v7x9yA"


class LocalProvider(LxcProvider):
    """Runs "inside a machine" on this host; its machines are halted."""

    def root_command(
        self, lab: Lab, machine: str, argv: Sequence[str], seconds: float = ROOT_COMMAND_SECONDS
    ) -> RootCommand:
        return RootCommand(tuple(argv))

    def state(self, lab: Lab) -> dict[str, str]:
        return {m.name: "halted" for m in lab.machines}

    def endpoints(self, lab: Lab) -> dict[str, Endpoint]:
        return {}

    def network_problem(self, lab: Lab) -> str:
        return ""


def session(topology: str = "distributed") -> Session:
    sample = context(topology)
    return Session(sample.lab, sample.state, LocalProvider())


def test_run_as_root_passes_arguments_and_stdin() -> None:
    result = machine_access.run_as_root(
        session(),
        "web-01",
        "sh",
        "-c",
        'cat; echo "$1"; exit 3',
        "sh",
        "two words",
        stdin="secret ",
    )
    assert (result.status, result.stdout) == (3, "secret two words\n")


def test_run_as_root_ends_in_time() -> None:
    with pytest.raises(LabError, match="web-01: sleep has not ended"):
        machine_access.run_as_root(session(), "web-01", "sleep", "20", timeout=0.1)


def test_attach_has_the_environment_of_the_machine() -> None:
    argv = container.attach(session().lab, "web-01", ["id", "-u"])
    assert argv[0] == "lxc-attach"
    assert "--clear-env" in argv
    assert argv[argv.index("--") :] == ["--", "id", "-u"]
    assert container.attach(session().lab, "web-01", [])[-2:] == ["/bin/bash", "-l"]


def test_vagrant_ssh_quotes_the_program() -> None:
    assert ssh_argv("web-01", ["sh", "-c", "echo $HOME"])[-1] == "sudo -n -- sh -c 'echo $HOME'"
    assert ssh_argv("web-01", [])[:3] == ("vagrant", "ssh", "web-01")


def test_provider_ssh_has_instructions(tmp_path: Path) -> None:
    lab = replace(session().lab, root=tmp_path)
    with pytest.raises(ProviderError, match="did not create") as caught:
        SshProvider().root_command(lab, "web-01", [])
    assert "console" in caught.value.hint


# --- the script that restores access -------------------------------------------------------------


def test_script_is_valid_shell() -> None:
    subprocess.run(["sh", "-n", str(SCRIPT)], check=True)


def test_output_of_the_script() -> None:
    text = "noise\nrepaired: interface eth0\nrepaired: a: b\ncopies: /var/backups/x\n"
    assert parse_output(text) == Restored(("interface eth0", "a: b"), "/var/backups/x")
    assert parse_output("") == Restored(())


# --- host keys -----------------------------------------------------------------------------------


def keys(**changes: str) -> HostKeys:
    return replace(HostKeys("web-01", "192.168.56.11", KEY, OTHER, OTHER), **changes)


def test_both_fingerprints_are_shown() -> None:
    text = "\n".join(verified(keys()).lines())
    assert text.count("SHA256:") == 2
    assert "machine's own" in text
    assert "not verified" in "\n".join(keys(own="").lines())
    assert "none" in "\n".join(keys(pinned="").lines())


def test_key_of_another_machine_is_refused() -> None:
    with pytest.raises(HostKeyError, match="nothing was pinned"):
        verified(keys(own=KEY))


def test_pinned_key_needs_nothing() -> None:
    assert keys(presented=KEY, own=KEY).is_pinned
    assert not keys().is_pinned


def test_machine_without_a_pinned_key_is_not_in_known_hosts(tmp_path: Path) -> None:
    lab = session().lab
    endpoint = Endpoint("192.168.56.11", 22, "lab", tmp_path, KEY)
    unpinned = replace(endpoint, host_key="")
    assert known_hosts(lab, {"web-01": endpoint, "web-02": unpinned}) == f"web-01 {KEY}\n"


# --- rebuild -------------------------------------------------------------------------------------


def test_rebuild_of_machines_without_a_database() -> None:
    assert plan_rebuild(session(), "lb-01", False).data == ""


def test_rebuilt_replica_copies_the_primary() -> None:
    assert "copied from web-01" in plan_rebuild(session(), "web-02", False).data


def test_rebuild_refuses_the_primary() -> None:
    with pytest.raises(UsageError, match="web-01 is the primary") as caught:
        plan_rebuild(session(), "web-01", False)
    assert "invoke db.promote web-02" in caught.value.hint
    assert "--accept-data-loss" in caught.value.hint


def test_rebuilt_primary_needs_a_running_replica() -> None:
    with pytest.raises(UsageError, match="no other database runs"):
        plan_rebuild(session(), "web-01", True)


def test_rebuild_of_the_only_database() -> None:
    (machine,) = session("simple").lab.machines
    with pytest.raises(UsageError) as caught:
        plan_rebuild(session("simple"), machine.name, False)
    assert "invoke db.backup" in caught.value.hint
    assert "ALL ITS DATA" in plan_rebuild(session("simple"), machine.name, True).data


def test_existing_machines_are_not_rebuilt() -> None:
    sample = replace(session(), provider=SshProvider())
    with pytest.raises(ProviderError, match="cannot rebuild web-02"):
        plan_rebuild(sample, "web-02", True)


# --- the check of a machine ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "hint", "expected"),
    [
        ("halted", "", "invoke lab.up"),
        ("running", "", "invoke lab.rescue web-01 --fix"),
        ("running", "invoke lab.trust web-01", "invoke lab.trust web-01"),
        ("running", "look at it", "invoke lab.rescue web-01 --fix"),
    ],
)
def test_next_command_of_a_machine_without_ssh(state: str, hint: str, expected: str) -> None:
    observed = Observation({"web-01": state}, errors={"web-01": "lost"}, hints={"web-01": hint})
    (check,) = (c for c in machine_checks(context()) if c.name == "machine/web-01")
    verdict = check.judge(observed)
    assert (verdict.ok, verdict.hint) == (False, expected)
