"""``python3 FILE`` for a bundle: verify it, unpack its project, and start the set-up there.

Needs Python 3.11 and its standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

from provision.setup.bundle import manifest
from provision.setup.bundle.archive import BundleError, Item
from provision.setup.bundle.manifest import BundleManifest

PROJECT, HISTORY = "project.tar.gz", "project.bundle"
SCRIPT = Path("scripts", "run.py")
FAILED, INTERRUPTED = 1, 130


def main() -> int:
    """Run it; the result is the exit status, of ``scripts/up`` in the end."""
    file = Path(sys.argv[0]).absolute()
    parser = argparse.ArgumentParser(
        prog=f"python3 {file.name}",
        description="Verify this bundle, unpack its project, and run scripts/up --bundle there.",
        epilog="All other arguments are for scripts/up.",
    )
    parser.add_argument(
        "folder", nargs="?", default="foobar-lab", help="for the project (default: foobar-lab)"
    )
    parser.add_argument("--key", default="", help="of the bundle, as bundle.create printed it")
    parser.add_argument("--unpack", action="store_true", help="do not run scripts/up")
    options, arguments = parser.parse_known_args()
    folder = Path(options.folder).absolute()
    try:
        unpack(file, folder, options.key)
    except (BundleError, OSError) as error:
        print(f"error: {file.name} was refused: {error}", file=sys.stderr)
        print("next: copy the bundle again; nothing was installed", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted: run the same command again to continue", file=sys.stderr)
        return INTERRUPTED
    up = [sys.executable, str(folder / SCRIPT), "up", "--bundle", str(file), *arguments]
    if options.unpack:
        return 0
    environ = {**os.environ, "LAB_BUNDLE_KEY": options.key} if options.key else None
    process = subprocess.Popen(up, env=environ)
    while True:  # Ctrl-C is for the set-up, which ends by itself
        with contextlib.suppress(KeyboardInterrupt):
            return process.wait()


def unpack(file: Path, folder: Path, key: str) -> None:
    """Verify a bundle and unpack its project, unless the folder has a project already.

    Raises:
        BundleError: when the bundle must not be used.
    """
    print(f"== verifying {file.name}", flush=True)
    verified, items = manifest.verify(file, key)
    print(f"== signed with the key {manifest.fingerprint(verified.key)}", flush=True)
    if (folder / "tasks.py").exists():
        return
    if folder.exists() and any(folder.iterdir()):
        raise BundleError(PROJECT, f"{folder} is not empty, and is not this project")
    if PROJECT not in items:
        raise BundleError(PROJECT, "it is missing")
    print(f"== unpacking the project to {folder}", flush=True)
    new = folder.with_name(f".new.{folder.name}")
    shutil.rmtree(new, ignore_errors=True)
    _unpack(file, items, new, verified)
    if folder.exists():
        folder.rmdir()
    new.replace(folder)


def _unpack(file: Path, items: Mapping[str, Item], new: Path, verified: BundleManifest) -> None:
    packed = new / ".lab" / PROJECT
    manifest.extract(file, items[PROJECT], packed)
    extract_files(packed, new)
    packed.unlink()
    if HISTORY in items and shutil.which("git"):
        bundle = new / ".lab" / HISTORY
        manifest.extract(file, items[HISTORY], bundle)
        git = ["git", "-C", str(new)]
        for words in (
            ["init", "--quiet"],
            ["fetch", "--quiet", str(bundle), "HEAD"],
            ["reset", "--quiet", verified.commit],
        ):
            if subprocess.run([*git, *words], capture_output=True, check=False).returncode:
                print("== without the project's history: git cannot read it", flush=True)
                shutil.rmtree(new / ".git", ignore_errors=True)
                break
        bundle.unlink()


def extract_files(packed: Path, folder: Path) -> None:
    """Unpack an archive that contains files only.

    Python 3.11.2 of Debian 12 has no extraction filters, so each member is checked here.

    Raises:
        BundleError: for a link, a device, or a path outside of the folder.
    """
    with tarfile.open(packed, "r:gz") as tar:
        for info in tar:
            content = tar.extractfile(info) if info.isreg() else None
            if content is None or not manifest.is_plain(info.name):
                raise BundleError(packed.name, f"{info.name!r} is not a file in the project")
            target = folder / info.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                shutil.copyfileobj(content, out, 1 << 20)
            target.chmod(0o755 if info.mode & 0o100 else 0o644)
