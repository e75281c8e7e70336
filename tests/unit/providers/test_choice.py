"""Which provider a lab gets, and the reason that is printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision import providers
from provision.core.errors import UsageError
from provision.core.state import State
from provision.setup import choice
from provision.setup.choice import HostCapabilities as Capable
from provision.setup.choice import kvm_works, select


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_PROVIDER", raising=False)


@pytest.mark.parametrize(
    ("host", "name", "words"),
    [
        (Capable(vagrant=True, virtualbox=True, libvirt=True, kvm=True), "vagrant", "VirtualBox"),
        (Capable("macOS", vagrant=True, virtualbox=True), "vagrant", "VirtualBox and Vagrant"),
        (Capable("Windows", vagrant=True, virtualbox=True), "vagrant", "VirtualBox and Vagrant"),
        (Capable(vagrant=True, libvirt=True, kvm=True), "vagrant", "KVM works"),
        (Capable(vagrant=True, libvirt=True), "lxc", "KVM does not work"),
        (Capable(vagrant=True, kvm=True), "lxc", "neither VirtualBox nor libvirt"),
        (Capable(virtualbox=True), "lxc", "any Linux host"),
        (Capable(libvirt=True, kvm=True), "lxc", "any Linux host"),
        (Capable(), "lxc", "any Linux host"),
        (Capable("macOS"), "vagrant", "macOS needs virtual machines"),
        (Capable("Windows", virtualbox=True), "vagrant", "Windows needs virtual machines"),
    ],
)
def test_the_default_provider_depends_on_the_host_and_has_a_reason(
    host: Capable, name: str, words: str
) -> None:
    chosen, reason = select(host)
    assert (chosen, words in reason) == (name, True), reason


def test_precedence_is_option_environment_record_host(monkeypatch: pytest.MonkeyPatch) -> None:
    detections: list[str] = []

    def detect() -> Capable:
        detections.append("host")
        return Capable()

    def chosen(option: str, state: State | None) -> tuple[str, str]:
        source, reason = providers.choose(option, state, detect)
        return source.name, reason

    existing = State(provider="lxc")
    assert chosen("", None) == ("lxc", "system containers run on any Linux host")
    assert detections == ["host"]
    assert chosen("", State(provider="ssh")) == ("ssh", "the lab was created with it")
    monkeypatch.setenv("LAB_PROVIDER", "vagrant")
    assert chosen("", None) == ("vagrant", "from LAB_PROVIDER")
    assert chosen("ssh", None) == ("ssh", "from --provider")
    assert chosen("lxc", existing) == ("lxc", "from --provider")
    assert detections == ["host"]
    with pytest.raises(UsageError, match="with provider lxc, and LAB_PROVIDER is vagrant"):
        chosen("", existing)
    with pytest.raises(UsageError, match="with provider lxc, and --provider is ssh") as error:
        chosen("ssh", existing)
    assert "invoke lab.destroy" in error.value.hint
    assert providers.for_state(existing).name == "lxc"


def test_an_unknown_provider_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown provider 'docker'") as error:
        providers.choose("docker", State(provider="lxc"), Capable)
    assert error.value.hint == "choose from lxc, vagrant, ssh, incus"


def test_kvm_needs_the_processor_flags_as_well_as_the_device(tmp_path: Path) -> None:
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


def test_vboxmanage_is_found_in_the_folder_of_the_windows_installer(tmp_path: Path) -> None:
    program = tmp_path / "VBoxManage"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert choice.find_vboxmanage({"VBOX_MSI_INSTALL_PATH": str(tmp_path)}) is not None
