"""The inputs of images, and the names that are derived from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml

from provision.core import apt_source
from provision.core.package_set import PackageSet
from provision.core.pool.store import CANONICAL
from provision.providers import image_recipe
from provision.providers.image_recipe import Recipe
from provision.providers.lxc import images, prune
from provision.providers.lxc.container_config import HOST_SETTINGS, source_files
from provision.providers.package_pool import parse_proxies

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


def test_only_settings_of_package_sources_are_copied_into_images() -> None:
    assert image_recipe.parse_apt_settings(DUMP, {}) == (
        'Acquire::Check-Valid-Until "false";',
        'Acquire::http::Proxy "http://proxy.example:3142/";',
        'Acquire::http::Proxy::mirror.example "DIRECT";',
    )


def test_no_check_is_disabled_unless_the_host_disables_it() -> None:
    assert all("Valid" not in line for line in image_recipe.parse_apt_settings('Acquire "";\n', {}))


def test_the_proxy_of_the_environment_is_used_when_apt_has_none() -> None:
    environ = {"http_proxy": "http://env.example:8080", "https_proxy": 'bad"quote'}
    assert (
        image_recipe.parse_apt_settings("", environ)[0]
        == 'Acquire::http::Proxy "http://env.example:8080";'
    )
    assert "http://proxy.example:3142/" in image_recipe.parse_apt_settings(DUMP, environ)[1]


def test_every_package_of_the_base_image_has_a_reason() -> None:
    packages = yaml.safe_load(image_recipe.RECIPE.read_text())["packages"]
    assert all(isinstance(reason, str) and reason for reason in packages.values())


def test_the_mirror_is_the_hosts_or_lab_mirror(tmp_path: Path) -> None:
    listed = tmp_path / "mirrors" / "debian.list"
    listed.parent.mkdir()
    listed.write_text("https://cloud.example/debian\n")
    (tmp_path / "sources.list.d").mkdir()
    source = tmp_path / "sources.list.d" / "debian.sources"
    source.write_text(
        f"Types: deb\nURIs: mirror+file://{listed}\nSuites: trixie\nComponents: main\n"
    )
    assert image_recipe.mirror({}, tmp_path) == "https://cloud.example/debian"
    assert image_recipe.mirror({"LAB_MIRROR": "http://x.example/debian/"}, tmp_path) == (
        "http://x.example/debian"
    )
    source.unlink()
    assert image_recipe.mirror({}, tmp_path) == CANONICAL
    source.write_text(
        "Types: deb\nURIs: file:/media/usb/debian\nSuites: trixie\nComponents: main\n"
    )
    assert image_recipe.mirror({}, tmp_path) == CANONICAL, "a host with files only is not refused"


def test_the_name_of_an_image_depends_on_each_of_its_inputs() -> None:
    changed = [
        replace(RECIPE, suite="forky"),
        replace(RECIPE, packages=("sudo",)),
    ]
    keys = {images.base_key(r) for r in [RECIPE, *changed]}
    assert len(keys) == 3


def test_the_name_of_an_image_does_not_depend_on_where_its_packages_come_from() -> None:
    wanted = PackageSet(("nginx",), ("mysql-server",))
    proxied = image_recipe.parse_apt_settings("", {"http_proxy": "http://school.example:8080"})
    for other in (
        replace(RECIPE, mirror="http://other.example/debian"),
        replace(RECIPE, apt=proxied),
    ):
        assert images.base_key(other) == images.base_key(RECIPE)
        assert images.layer_key(other, wanted) == images.layer_key(RECIPE, wanted)


def test_mirror_and_proxy_of_the_host_are_files_of_a_machine() -> None:
    assert source_files(replace(RECIPE, mirror=CANONICAL, apt=())) == {}
    files = source_files(RECIPE)
    assert "URIs: http://mirror.example/debian\n" in files[apt_source.SOURCES]
    assert files[HOST_SETTINGS] == 'A "1";\n'
    # The build uses the proxies itself, and gives apt only the other settings.
    settings = image_recipe.parse_apt_settings(DUMP, {})
    recipe = replace(RECIPE, apt=settings)
    assert images.build_settings(recipe) == ['Acquire::Check-Valid-Until "false";']
    assert parse_proxies(settings) == (
        {"http": "http://proxy.example:3142/"},
        ("mirror.example",),
    )


def test_the_name_of_a_layer_depends_on_its_base_and_packages_but_not_their_order() -> None:
    wanted = PackageSet(("nginx", "gunicorn"), ("mysql-server",))
    key = images.layer_key(RECIPE, wanted)
    assert key == images.layer_key(RECIPE, PackageSet(("gunicorn", "nginx"), ("mysql-server",)))
    others = [
        images.layer_key(replace(RECIPE, suite="forky"), wanted),
        images.layer_key(RECIPE, PackageSet(("nginx",), ("mysql-server",))),
        images.layer_key(RECIPE, PackageSet(("nginx", "gunicorn", "mysql-server"))),
    ]
    assert len({key, *others}) == 4


def test_a_layer_without_packages_from_sid_has_no_source_for_sid() -> None:
    assert images.sid_files(PackageSet(("nginx",))) == {}
    files = images.sid_files(PackageSet((), ("mysql-server",)))
    assert sorted(files) == [
        "/etc/apt/preferences.d/lab-sid",
        "/etc/apt/sources.list.d/lab-sid.list",
    ]


def test_images_and_layers_of_a_machine_are_in_use() -> None:
    line = (
        "lxc.rootfs.path = overlay:/c/layers/ab/root:/c/images/cd/root"
        ":/var/lib/foobar-lab/0123abcd/web-01/delta"
    )
    assert prune.images_in([line]) == {Path("/c/layers/ab"), Path("/c/images/cd")}


def test_building_names_what_is_prepared_for_which_machines() -> None:
    web = PackageSet(("gunicorn", "nginx"), sid=("mysql-server",))
    sets = {"lb-01": PackageSet(("haproxy",)), "web-01": web, "web-02": web}
    assert images.layer_purpose(sets["lb-01"], sets, 1, 2) == "HAProxy for lb-01, 1 of 2"
    assert images.layer_purpose(web, sets, 2, 2) == (
        "Nginx, gunicorn and MySQL for web-01 and web-02, 2 of 2"
    )
    other = {"a": PackageSet(("figlet",))}
    assert images.layer_purpose(other["a"], other, 1, 1) == "packages for a"
