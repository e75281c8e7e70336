"""Wheels of requirements.txt: for the machine's platform, or a refusal that names the missing."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from provision.core.errors import LabError, UsageError
from provision.services.app import wheels
from provision.services.app.agent.virtualenv import PythonPlatform

MACHINE = PythonPlatform("3.13", "x86_64", "2.41")


def wheel(
    folder: Path, name: str, version: str = "1.0", tag: str = "py3-none-any", **meta: str
) -> None:
    """A wheel with no modules."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    lines += [f"{key.replace('_', '-')}: {value}\n" for key, value in meta.items()]
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", "".join(lines))
        archive.writestr(
            f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
        )
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all that pip knows."""
    folder = tmp_path / "pool"
    wheel(folder, "pip", "26.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def release(tmp_path: Path, requirements: str) -> Path:
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "requirements.txt").write_text(requirements)
    return folder


def test_wheels_are_those_of_the_machine(tmp_path: Path, pool: Path) -> None:
    wheel(pool, "native", tag="cp313-cp313-manylinux_2_28_x86_64")
    wheel(pool, "native", tag="cp311-cp311-manylinux_2_28_x86_64")
    wheel(pool, "native", "2.0", tag="cp313-cp313-manylinux_2_99_x86_64")
    wheel(pool, "pure", Requires_Dist="native")
    target = tmp_path / "wheels"
    wheels.download(release(tmp_path, "pure\n"), target, MACHINE)
    assert sorted(path.name for path in target.iterdir()) == [
        "native-1.0-cp313-cp313-manylinux_2_28_x86_64.whl",
        "pip-26.0-py3-none-any.whl",
        "pure-1.0-py3-none-any.whl",
    ]


def test_a_missing_requirement_is_named(tmp_path: Path, pool: Path) -> None:
    wheel(pool, "pure")
    folder = release(tmp_path, "pure\nabsent-package>=2\n")
    with pytest.raises(LabError, match=r"no wheel of absent-package>=2 for Python 3\.13 on x86_64"):
        wheels.download(folder, tmp_path / "wheels", MACHINE)


def test_a_package_for_other_machines_only_is_named(tmp_path: Path, pool: Path) -> None:
    wheel(pool, "native", tag="cp313-cp313-manylinux_2_28_aarch64")
    with pytest.raises(LabError, match=r"no wheel of native for Python 3\.13 on x86_64"):
        wheels.download(release(tmp_path, "native\n"), tmp_path / "wheels", MACHINE)


def test_too_many_bytes_are_refused(
    tmp_path: Path, pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(pool, "pure")
    monkeypatch.setattr(wheels, "SIZE_LIMIT", 100)
    with pytest.raises(LabError, match="more than the limit"):
        wheels.download(release(tmp_path, "pure\n"), tmp_path / "wheels", MACHINE)


@pytest.mark.parametrize(
    "line",
    [
        "-e .",
        "--editable ./x",
        "./local",
        "../other",
        "/srv/x",
        "git+https://example.org/x.git",
        "x @ git+https://example.org/x.git",
        "x @ file:///x.whl",
    ],
)
def test_sources_are_refused(tmp_path: Path, line: str) -> None:
    folder = release(tmp_path, f"flask\n{line}\n")
    with pytest.raises(UsageError, match=r"requirements\.txt, line 2: .*not a package in an index"):
        wheels.require_packages(folder / "requirements.txt")


@pytest.mark.parametrize(
    "line",
    ["flask==3.1", "# -e .", "-r more.txt", "--index-url https://pypi.org/simple", "a; x == '1'"],
)
def test_packages_and_options_are_accepted(tmp_path: Path, line: str) -> None:
    wheels.require_packages(release(tmp_path, f"{line}\n") / "requirements.txt")


def test_what_a_machine_lacks_is_found_in_its_output() -> None:
    text = "ERROR: No matching distribution found for tzdata; python_version > '3.12'"
    assert wheels.missing_package(LabError("", output=text)) == "tzdata"
    assert wheels.missing_package(LabError("pip", output="no space left")) == ""
