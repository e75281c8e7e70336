"""Which provider a lab gets, and the reason that is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision import providers
from provision.core.errors import UsageError
from provision.core.state import State
from provision.providers import choice
from provision.providers.choice import Host, kvm_works, pick


@pytest.fixture(autouse=True)
def _no_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_PROVIDER", raising=False)


@pytest.mark.parametrize(
    ("host", "name", "words"),
    [
        (Host(vagrant=True, virtualbox=True, libvirt=True, kvm=True), "vagrant", "VirtualBox and"),
        (Host("macOS", vagrant=True, virtualbox=True), "vagrant", "VirtualBox and Vagrant"),
        (Host("Windows", vagrant=True, virtualbox=True), "vagrant", "VirtualBox and Vagrant"),
        (Host(vagrant=True, libvirt=True, kvm=True), "vagrant", "KVM works"),
        (Host(vagrant=True, libvirt=True), "lxc", "KVM does not work"),
        (Host(vagrant=True, kvm=True), "lxc", "neither VirtualBox nor libvirt"),
        (Host(virtualbox=True), "lxc", "any Linux host"),
        (Host(libvirt=True, kvm=True), "lxc", "any Linux host"),
        (Host(), "lxc", "any Linux host"),
        (Host("macOS"), "vagrant", "on macOS a lab's machines are virtual"),
        (Host("Windows", virtualbox=True), "vagrant", "on Windows a lab's machines are virtual"),
    ],
)
def test_what_a_host_can_do_decides_and_the_reason_is_said(
    host: Host, name: str, words: str
) -> None:
    chosen, why = pick(host)
    assert (chosen, words in why) == (name, True), why


def test_the_order_is_option_environment_record_host(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def look() -> Host:
        asked.append("host")
        return Host()

    def chosen(option: str, state: State | None) -> tuple[str, str]:
        found, why = providers.choose(option, state, look)
        return found.name, why

    made = State(provider="lxc")
    assert chosen("", None) == ("lxc", "system containers run on any Linux host")
    assert asked == ["host"]
    assert chosen("", State(provider="ssh")) == ("ssh", "as the lab was made with")
    monkeypatch.setenv("LAB_PROVIDER", "vagrant")
    assert chosen("", None) == ("vagrant", "as LAB_PROVIDER says")
    assert chosen("ssh", None) == ("ssh", "as --provider says")
    assert chosen("lxc", made) == ("lxc", "as --provider says")
    assert asked == ["host"]
    with pytest.raises(UsageError, match="come from lxc, not vagrant as LAB_PROVIDER says"):
        chosen("", made)
    with pytest.raises(UsageError, match="come from lxc, not ssh as --provider says") as error:
        chosen("ssh", made)
    assert "invoke lab.destroy" in error.value.advice
    assert providers.of(made).name == "lxc"


def test_an_unknown_provider_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="no provider 'docker'") as error:
        providers.choose("docker", State(provider="lxc"), Host)
    assert error.value.advice == "choose from lxc, vagrant, ssh"


def test_a_device_without_the_processors_help_is_no_working_kvm(tmp_path: Path) -> None:
    device, cpuinfo = tmp_path / "kvm", tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags : fpu vmx sse\n")
    assert not kvm_works(cpuinfo, device)
    device.touch()
    assert kvm_works(cpuinfo, device)
    cpuinfo.write_text("processor : 0\nflags : fpu sse hypervisor\n")
    assert not kvm_works(cpuinfo, device)
    cpuinfo.write_text("processor : 0\nFeatures : fp asimd\n")  # arm64 names no such flag
    assert kvm_works(cpuinfo, device)
    assert not kvm_works(tmp_path / "none", device)


def test_virtualbox_is_found_where_windows_installs_it(tmp_path: Path) -> None:
    program = tmp_path / "VBoxManage"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert choice.vboxmanage({"VBOX_MSI_INSTALL_PATH": str(tmp_path)}) is not None
