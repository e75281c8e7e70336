"""What goes into an image, and how its name follows from that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from provision.core.errors import ProviderError
from provision.core.package_set import PackageSet
from provision.providers import images
from provision.providers.images import Recipe
from provision.providers.lxc import image, prune

RECIPE = Recipe("trixie", ("sudo", "vim"), "http://mirror.example/debian", ('A "1";',))

DUMP = """\
APT "";
Acquire "";
Acquire::cdrom::mount "/media/cdrom/";
Acquire::Check-Valid-Until "false";
Acquire::http "";
Acquire::http::Proxy "http://proxy.example:3142/";
Acquire::http::Proxy::mirror.example "DIRECT";
Acquire::https::Proxy "";
Acquire::Languages:: "none";
"""


def test_only_what_sources_need_is_carried_into_images() -> None:
    assert images.settings_in(DUMP, {})[:3] == (
        'Acquire::Check-Valid-Until "false";',
        'Acquire::http::Proxy "http://proxy.example:3142/";',
        'Acquire::http::Proxy::mirror.example "DIRECT";',
    )


def test_nothing_is_switched_off_on_a_host_that_switches_nothing_off() -> None:
    assert all("Valid" not in line for line in images.settings_in('Acquire "";\n', {}))


def test_a_proxy_of_the_environment_is_used_when_apt_has_none() -> None:
    environ = {"http_proxy": "http://env.example:8080", "https_proxy": 'bad"quote'}
    assert images.settings_in("", environ)[0] == 'Acquire::http::Proxy "http://env.example:8080";'
    assert "http://proxy.example:3142/" in images.settings_in(DUMP, environ)[1]


def test_every_package_of_the_base_image_has_a_reason() -> None:
    packages = yaml.safe_load(images.RECIPE.read_text())["packages"]
    assert all(isinstance(reason, str) and reason for reason in packages.values())


def test_the_mirror_is_the_hosts_own_or_the_named_one(tmp_path: Path) -> None:
    listed = tmp_path / "mirrors" / "debian.list"
    listed.parent.mkdir()
    listed.write_text("https://cloud.example/debian\n")
    (tmp_path / "sources.list.d").mkdir()
    source = tmp_path / "sources.list.d" / "debian.sources"
    source.write_text(
        f"Types: deb\nURIs: mirror+file://{listed}\nSuites: trixie\nComponents: main\n"
    )
    assert images.mirror({}, tmp_path) == "https://cloud.example/debian"
    assert images.mirror({"LAB_MIRROR": "http://x.example/debian/"}, tmp_path) == (
        "http://x.example/debian"
    )
    source.unlink()
    with pytest.raises(ProviderError, match="LAB_MIRROR=") as error:
        images.mirror({}, tmp_path)
    assert "no package source of Debian" in str(error.value)


def test_an_images_name_changes_with_whatever_goes_into_it() -> None:
    changed = [
        replace(RECIPE, suite="forky"),
        replace(RECIPE, packages=("sudo",)),
        replace(RECIPE, mirror="http://other.example/debian"),
        replace(RECIPE, apt=()),
    ]
    keys = {image.base_key(r) for r in [RECIPE, *changed]}
    assert len(keys) == 5
    assert image.base_key(RECIPE) == image.base_key(replace(RECIPE))


def test_a_layers_name_follows_from_its_base_and_its_packages_whatever_their_order() -> None:
    wanted = PackageSet(("nginx", "gunicorn"), ("mysql-server",))
    key = image.layer_key(RECIPE, wanted)
    assert key == image.layer_key(RECIPE, PackageSet(("gunicorn", "nginx"), ("mysql-server",)))
    others = [
        image.layer_key(replace(RECIPE, apt=()), wanted),
        image.layer_key(RECIPE, PackageSet(("nginx",), ("mysql-server",))),
        image.layer_key(RECIPE, PackageSet(("nginx", "gunicorn", "mysql-server"))),
    ]
    assert len({key, *others}) == 4


def test_a_layer_of_the_release_alone_has_no_sid() -> None:
    assert image.sid_files(RECIPE, PackageSet(("nginx",))) == {}
    files = image.sid_files(RECIPE, PackageSet((), ("mysql-server",)))
    assert sorted(files) == [
        "/etc/apt/preferences.d/lab-sid",
        "/etc/apt/sources.list.d/lab-sid.list",
    ]


def test_images_below_a_machine_are_in_use() -> None:
    line = (
        "lxc.rootfs.path = overlay:/c/layers/ab/root:/c/images/cd/root"
        ":/var/lib/foobar-lab/0123abcd/web-01/delta"
    )
    assert prune.used_in([line]) == {Path("/c/layers/ab"), Path("/c/images/cd")}
