"""VirtualBox with its kernel driver, on an emulated host: what the user is told there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.virtualbox_host import CHECKOUT, VirtualBoxHost, running

pytestmark = [pytest.mark.vm, pytest.mark.timeout(3600)]

DOCTOR = ("lab.doctor", "--provider", "vagrant")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualBoxHost]:
    """The host; it is stopped at the end, and its disk is removed."""
    with running(tmp_path_factory.mktemp("virtualbox-host")) as one:
        yield one


def test_the_host_is_ready_for_virtualbox(host: VirtualBoxHost) -> None:
    """Vagrant is older than VirtualBox needs, and patched: it is asked."""
    assert host.run("VBoxManage --version").startswith("7.2.")
    assert host.run("vagrant --version").startswith("Vagrant 2.3.")
    output = host.invoke("lab.doctor")
    assert "provider vagrant: VirtualBox and Vagrant are installed" in output
    assert "ready for lab default on 192.168.56.0/24" in output


def test_a_vagrant_without_support_for_this_virtualbox_is_refused(host: VirtualBoxHost) -> None:
    table = "$(find /usr/lib -path '*/virtualbox/driver/meta.rb')"
    host.run(f'cp "{table}" /root/meta.rb && sed -i "/7.2/d" "{table}"', user="root")
    try:
        output = host.invoke(*DOCTOR, ok=False)
    finally:
        host.run(f'cp /root/meta.rb "{table}"', user="root")
    assert "Vagrant 2.3.8.dev does not support VirtualBox 7.2." in output
    assert "install Vagrant 2.4.9 or newer" in output


def test_a_missing_kernel_driver_is_named(host: VirtualBoxHost) -> None:
    host.unload_drivers()
    try:
        output = host.invoke("lab.up", "--provider", "vagrant", ok=False)
    finally:
        host.load_drivers()
    assert "VirtualBox's kernel driver is not loaded (/dev/vboxdrv)" in output
    assert "sudo modprobe vboxdrv" in output
    assert "WARNING" not in output
    assert "does not support" not in output


def test_a_network_that_virtualbox_does_not_allow_is_refused(host: VirtualBoxHost) -> None:
    words = ("lab.up", "--provider", "vagrant", "--network", "10.20.30.0/24")
    output = host.invoke(*words, ok=False)
    assert "VirtualBox allows host-only networks only in 192.168.56.0/21" in output
    hint = "echo '* 10.20.30.0/24' >>/etc/vbox/networks.conf"
    assert hint in output
    host.run(f"mkdir -p /etc/vbox && {hint}", user="root")
    try:
        host.run("VBoxManage hostonlyif create")
        created = host.run("VBoxManage hostonlyif ipconfig vboxnet0 --ip 10.20.30.1")
        assert "error" not in created
        output = host.invoke(*DOCTOR, ok=False)
        assert "VirtualBox allows host-only networks only in 10.20.30.0/24" in output
    finally:
        host.run("VBoxManage hostonlyif remove vboxnet0")
        host.run("rm /etc/vbox/networks.conf", user="root")


def test_a_powered_off_leftover_is_named(host: VirtualBoxHost) -> None:
    name = f"{CHECKOUT.rpartition('/')[2]}_web-01_1700000000000_1"
    host.run(f"VBoxManage createvm --name {name} --register")
    try:
        output = host.invoke(*DOCTOR)
    finally:
        host.run(f"VBoxManage unregistervm {name} --delete")
    assert f"that Vagrant does not know: {name}" in output
    assert "VBoxManage unregistervm NAME --delete" in output
