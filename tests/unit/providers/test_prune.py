"""`lab.prune`: which images are unused, and what is removed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from invoke.context import Context

from provision.commands.prune import prune as task
from provision.engine.agent.process import ProcessResult
from provision.providers.lxc import paths, privileged, prune


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image store of the current user: one image and one layer in use, one layer not."""

    def run(action: str, argv: Sequence[Any], **options: Any) -> ProcessResult:
        return privileged.run(action, argv, **{**options, "root": False})

    monkeypatch.setattr(prune, "run", run)
    monkeypatch.setattr(paths, "HOST", tmp_path / "labs")
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache"
    for name in ("images/base", "layers/used", "layers/unused", "layers/.new.interrupted"):
        (folder / name / "root").mkdir(parents=True)
        (folder / name / "root" / "file").write_bytes(b"x" * 2**20)
    # a snapshot of another checkout's lab
    config = tmp_path / "labs" / "0123abcd" / ".snapshots" / "before" / "web-01" / "config"
    config.parent.mkdir(parents=True)
    lower = f"{folder}/layers/used/root:{folder}/images/base/root"
    config.write_text(f"lxc.rootfs.path = overlay:{lower}:/var/lib/x/delta\n")
    return folder


def test_images_of_a_snapshot_are_used_and_others_are_listed_with_their_size(store: Path) -> None:
    images = prune.unused_images()
    unused = [store / "layers" / name for name in (".new.interrupted", "unused")]
    assert [image.path for image in images] == unused
    assert all(2**20 <= image.size < 2**21 for image in images)
    assert (store / "layers" / "unused").is_dir()


def test_only_unused_images_are_removed(store: Path) -> None:
    assert len(prune.prune_images()) == 2
    assert sorted(p.name for p in store.glob("*/[!.]*")) == ["base", "used"]
    assert list(store.glob("*/.new.*")) == []
    assert prune.prune_images() == ()


@pytest.mark.skipif(sys.platform != "linux", reason="images exist on Linux only")
def test_the_default_is_a_dry_run(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task(Context())
    listed = capsys.readouterr().out
    assert "layers/unused" in listed
    assert "can be freed: invoke lab.prune --yes" in listed
    assert "providers vagrant and ssh: nothing to prune" in listed
    assert (store / "layers" / "unused").is_dir()
    task(Context(), yes=True)
    assert "MiB freed" in capsys.readouterr().out
    assert not (store / "layers" / "unused").exists()
    task(Context())
    assert f"provider lxc: nothing to prune in {store}" in capsys.readouterr().out
