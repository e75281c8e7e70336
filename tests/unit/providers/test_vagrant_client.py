"""Pitfalls of python-vagrant, each with a script in place of Vagrant that triggers it."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from provision.core.errors import ProviderError
from provision.core.lab import Lab
from provision.core.stored_machine import StoredMachine
from provision.providers.vagrant import client, record
from provision.providers.vagrant.client import SshSettings, VagrantClient, environment
from provision.providers.vagrant.provider import VagrantProvider, machine_state

SSH_CONFIG = """\
Host web-01
  HostName 127.0.0.1
  User vagrant
  Port {port}
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
  PasswordAuthentication no
  IdentityFile "/a home/insecure_private_keys/vagrant.key.ed25519"
  IdentityFile /b/vagrant.key.rsa
  IdentitiesOnly yes
  LogLevel FATAL
"""


@pytest.fixture
def here(lab: Lab, tmp_path: Path) -> Lab:
    """The lab, in a writable checkout."""
    return replace(lab, root=tmp_path)


@pytest.fixture
def vagrant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Installs a shell script as ``vagrant``; its arguments are appended to a file."""
    folder = tmp_path / "bin"
    folder.mkdir()
    calls = tmp_path / "calls"

    def put(script: str) -> Path:
        program = folder / "vagrant"
        program.write_text(f'#!/bin/sh\necho "$*" >>{calls}\n{script}\n')
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
        return calls

    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return put


def test_the_environment_is_inherited_except_for_other_projects(here: Lab) -> None:
    given = {"PATH": "/bin", "HOME": "/h", "VAGRANT_CWD": "/other", "VAGRANT_VAGRANTFILE": "X"}
    variables = environment(here, given)
    assert {"PATH", "HOME"} <= variables.keys()
    assert not {"VAGRANT_CWD", "VAGRANT_VAGRANTFILE"} & variables.keys()
    assert variables["VAGRANT_CHECKPOINT_DISABLE"] == variables["VAGRANT_NO_COLOR"] == "1"
    assert variables["VAGRANT_DOTFILE_PATH"] == str(here.root / ".vagrant")
    assert variables["LAB_NETWORK"] == "192.168.56.0/24"
    two = environment(replace(here, name="two"), given)
    assert two["VAGRANT_DOTFILE_PATH"] == str(here.root / ".lab" / "two" / "vagrant")
    assert two["LAB_NAME"] == "two"


def test_output_is_logged_and_reported_as_progress(
    here: Lab, vagrant: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    calls = vagrant("echo '==> web-01: Booting VM...'; echo '==> web-01: a warning' >&2")
    progress: list[tuple[str, str]] = []
    VagrantClient(here, lambda machine, message: progress.append((machine, message))).up(
        "virtualbox", "web-01"
    )
    assert progress == [("web-01", "booting")]
    log = (here.directory / client.LOG).read_text()
    assert "Booting VM" in log
    assert "a warning" in log
    assert calls.read_text() == "up web-01 --no-provision --provider=virtualbox\n"
    assert capfd.readouterr() == ("", "")


def test_an_error_has_the_last_lines_and_a_hint(here: Lab, vagrant: Callable[[str], Path]) -> None:
    vagrant("for i in 1 2 3; do echo line $i; done; echo 'VT-x: VERR_VMX_NO_VMX' >&2; exit 3")
    with pytest.raises(ProviderError) as error:
        VagrantClient(here).up("virtualbox")
    assert error.value.what == "vagrant up failed (status 3)"
    assert "line 3" in error.value.output
    assert "VERR_VMX_NO_VMX" in error.value.output
    assert "firmware" in error.value.hint


def test_an_error_of_a_command_with_parsed_output_has_both_streams(
    here: Lab, vagrant: Callable[[str], Path]
) -> None:
    vagrant("echo 'on stdout'; echo 'on stderr' >&2; exit 1")
    with pytest.raises(ProviderError) as error:
        VagrantClient(here).states()
    assert "on stdout" in error.value.output
    assert "on stderr" in error.value.output
    assert "vagrant.log" in error.value.hint


def test_vagrant_is_not_installed(here: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProviderError, match="Vagrant is not installed"):
        VagrantClient(here).halt()


def test_ssh_settings_are_requested_by_name_without_a_cache_and_with_all_keys(
    here: Lab, vagrant: Callable[[str], Path]
) -> None:
    calls = vagrant(f"cat <<'END'\n{SSH_CONFIG.format(port=2222)}END")
    one = VagrantClient(here)
    keys = (Path("/a home/insecure_private_keys/vagrant.key.ed25519"), Path("/b/vagrant.key.rsa"))
    assert one.ssh_settings("web-01") == SshSettings("127.0.0.1", 2222, "vagrant", keys)
    vagrant(f"cat <<'END'\n{SSH_CONFIG.format(port=2200)}END")
    assert one.ssh_settings("web-01").port == 2200  # a cached object would still have 2222
    assert calls.read_text() == "ssh-config web-01\n" * 2
    with pytest.raises(ProviderError, match="does not contain web-02"):
        one.ssh_settings("web-02")


def test_a_halted_machine_has_no_ssh_settings(here: Lab, vagrant: Callable[[str], Path]) -> None:
    vagrant("echo 'The provider reports that it is not running' >&2; exit 1")
    with pytest.raises(ProviderError, match=r"vagrant ssh-config failed \(status 1\)"):
        VagrantClient(here).ssh_settings("web-01")


def test_states_by_machine(here: Lab, vagrant: Callable[[str], Path]) -> None:
    vagrant("""cat <<'END'
1700000000,lb-01,metadata,provider,libvirt
1700000000,lb-01,provider-name,libvirt
1700000000,lb-01,state,running
1700000000,lb-01,state-human-long,The VM is running. To stop%!(VAGRANT_COMMA) halt it
1700000000,web-01,provider-name,libvirt
1700000000,web-01,state,shutoff
1700000000,,ui,info,Current machine states:\\n\\nlb-01 running, web-01 shutoff
END""")
    states = VagrantClient(here).states()
    assert states == {"lb-01": "running", "web-01": "poweroff"}
    words = ["running", "poweroff", "saved", "aborted", "not_created", ""]
    assert [machine_state(w) for w in words] == ["running", *["halted"] * 3, "absent", "absent"]


def test_a_daemon_that_keeps_the_output_open_does_not_block(
    here: Lab, vagrant: Callable[[str], Path]
) -> None:
    vagrant("sleep 20 & echo '==> web-01: Booting VM...'; echo $! >daemon")
    VagrantClient(here).up("virtualbox")
    assert "Booting" in (here.directory / client.LOG).read_text()
    import os
    import signal

    os.kill(int((here.root / "daemon").read_text()), signal.SIGTERM)


def test_created_machines_are_read_from_vagrants_files(here: Lab) -> None:
    provider = VagrantProvider()
    assert provider.state(here) == {
        "lb-01": "absent",
        "web-01": "absent",
    }  # without running Vagrant
    folder = here.root / ".vagrant" / "machines" / "web-01" / "libvirt"
    folder.mkdir(parents=True)
    assert record.created_machines(here) == {}
    (folder / "id").write_text("0a1b\n")
    assert record.created_machines(here) == {"web-01": ("libvirt", "0a1b")}
    assert provider.snapshots(replace(here, name="two")) == ()


SNAPSHOT_LIST = """
case $1-$2 in
snapshot-list) printf '==> lb-01: \\nbefore\\n==> web-01: \\nbefore\\nother\\n' ;;
esac
"""


def test_a_snapshot_is_restored_only_on_the_machines_that_it_was_taken_of(
    here: Lab, vagrant: Callable[[str], Path]
) -> None:
    vagrant(SNAPSHOT_LIST)
    provider = VagrantProvider()
    stored = {name: StoredMachine(True, f"{name}-id") for name in ("lb-01", "web-01")}
    for name in stored:
        folder = here.root / ".vagrant" / "machines" / name / "libvirt"
        folder.mkdir(parents=True)
        (folder / "id").write_text(f"{name}-id\n")
    provider.prepare_restore(here, "before", stored, lambda machine, doing: None)
    with pytest.raises(ProviderError, match="no snapshot other of lb-01; nothing was changed"):
        provider.prepare_restore(here, "other", stored, lambda machine, doing: None)
    (folder / "id").write_text("created-later\n")
    with pytest.raises(ProviderError, match="web-01 were removed after snapshot before"):
        provider.prepare_restore(here, "before", stored, lambda machine, doing: None)


def test_a_snapshot_is_deleted_where_it_exists(here: Lab, vagrant: Callable[[str], Path]) -> None:
    calls = vagrant(SNAPSHOT_LIST)
    assert VagrantProvider().delete_snapshot(here, "other", lambda machine, doing: None)
    assert "snapshot delete web-01 other" in calls.read_text()
    assert "snapshot delete lb-01 other" not in calls.read_text()
