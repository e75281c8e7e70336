"""Snapshots of containers: what is read from files of the host."""

from __future__ import annotations

from pathlib import Path

from provision.providers.lxc.container import frozen_machines
from provision.providers.lxc.paths import LabPaths
from provision.providers.lxc.snapshot import lower_layers

CONFIG = """\
lxc.include = /usr/share/lxc/config/common.conf
lxc.rootfs.path = overlay:/labs/x/.snapshots/a@1/web-01/delta:/layers/1/root:/labs/x/web-01/delta
lxc.uts.name = web-01
"""


def test_lower_layers_are_all_but_the_last() -> None:
    assert lower_layers(CONFIG) == (
        Path("/labs/x/.snapshots/a@1/web-01/delta"),
        Path("/layers/1/root"),
    )
    assert lower_layers("lxc.uts.name = web-01\n") == ()


def test_frozen_machines_in_both_versions_of_control_groups(tmp_path: Path) -> None:
    own = LabPaths("0123abcd")
    for folder, file, text in (
        ("freezer/{LAB}/lxc.payload.foobar-lab.0123abcd.web-01", "freezer.state", "FROZEN\n"),
        ("freezer/{LAB}/lxc.payload.foobar-lab.0123abcd.web-02", "freezer.state", "THAWED\n"),
        ("freezer/{LAB}/lxc.payload.foobar-lab.0123abcd-1.web-04", "freezer.state", "FROZEN\n"),
        ("freezer/{LAB}/lxc.payload.foobar-lab.0123abcd.lb-01", "freezer.state", "FREEZING\n"),
        ("freezer/{LAB}/lxc.payload.foobar-lab.0123abce.web-03", "freezer.state", "FROZEN\n"),
        ("{LAB}/lxc.payload.foobar-lab.0123abcd.db-01", "cgroup.freeze", "1\n"),
        ("{LAB}/lxc.payload.foobar-lab.0123abcd.db-02", "cgroup.freeze", "0\n"),
    ):
        path = tmp_path / folder.format(LAB="lxc.lab.foobar-lab.0123abcd")
        path.mkdir(parents=True)
        (path / file).write_text(text)
    assert frozen_machines(own, tmp_path) == {"web-01", "lb-01", "db-01"}
    assert frozen_machines(LabPaths("0123abcd", 1), tmp_path) == {"web-04"}
