"""Images: a base system built once, and layers of packages over it, named by what is in them.

``<cache>/images/<key>/root`` and ``<cache>/layers/<key>/root`` are complete when they exist, are
never changed afterwards, and are shared by all labs of this host.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

from provision.core import apt_source as aptsource
from provision.core.errors import ProviderError
from provision.core.package_set import PackageSet
from provision.core.report import Report
from provision.providers import images
from provision.providers.images import Recipe
from provision.providers.lxc import places
from provision.providers.lxc.privileged import Done, run

HERE = Path(__file__).parent
NAMESPACES = (
    "unshare",
    "--mount",
    "--propagation=private",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)
BUSY = 75  # our choice for flock's -E: another lab builds this one
SILENT = 71  # build-layer.sh: the package sources do not answer
_NO_ANSWER = re.compile(
    r"Could not (resolve|connect)|Temporary failure|Unable to connect|Connection (timed out|failed)"
    r"|connection timed out|Connection refused|Failed to fetch|404 +Not Found"
    r"|no longer has a Release file"
)


def base_key(recipe: Recipe) -> str:
    """The name of the base image: it changes when anything that goes into it does."""
    return key_of(
        recipe.suite,
        images.USER,
        recipe.packages,
        recipe.mirror,
        recipe.apt,
        (HERE / "build-image.sh").read_text(),
        (HERE / "customize.sh").read_text(),
    )


def layer_key(recipe: Recipe, wanted: PackageSet) -> str:
    """The name of a layer over that base."""
    script = (HERE / "build-layer.sh").read_text()
    packages = (sorted(wanted.packages), sorted(wanted.sid))
    return key_of(base_key(recipe), packages, sid_files(recipe, wanted), script)


def base(recipe: Recipe, report: Report) -> Path:
    """The base image's root file system, built when it is not there.

    Raises:
        ProviderError: when it cannot be built; a package source that does not answer is named.
    """
    target = places.cache() / "images" / base_key(recipe)
    if not (target / "root").is_dir():
        report("host", "building the base image (once, about a minute)")
        arguments = [recipe.suite, recipe.mirror, ",".join(recipe.packages), images.USER]
        done = _build(target, "build-image.sh", [*arguments, *recipe.apt], report)
        _complain(done, "the base image could not be built", recipe)
    return target / "root"


def layer(recipe: Recipe, wanted: PackageSet, report: Report) -> Path | None:
    """The root file system of a layer with these packages; None when it cannot be built.

    A missing layer is no loss: the packages then come over SSH.

    Raises:
        ProviderError: when a package source does not answer; SSH would not get further.
    """
    target = places.cache() / "layers" / layer_key(recipe, wanted)
    names = sorted({*wanted.packages, *wanted.sid})
    if not (target / "root").is_dir():
        below = base(recipe, report).parent
        shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
        report("host", f"building a layer with {shown} (once)")
        files = sid_files(recipe, wanted)
        done = _build(target, "build-layer.sh", [str(below), *names], report, _tar(files))
        if done.status == SILENT:
            _complain(done, "a layer could not be built", recipe)
        if done.status != 0:
            lines = [line for line in done.said.splitlines() if line[:1].strip()]
            last = lines[-1] if lines else "no word"
            report("host", f"going on without the layer of {shown}: {last}")
            return None
    return target / "root"


def sid_files(recipe: Recipe, wanted: PackageSet) -> dict[str, str]:
    """The package source and the pins that this set needs, by path."""
    if not wanted.sid:
        return {}
    return {
        aptsource.SID_LIST: aptsource.sid_list(recipe.mirror),
        aptsource.SID_PREFERENCES: aptsource.sid_preferences(wanted.sid),
    }


def build(
    target: Path,
    script: Path,
    arguments: Sequence[str],
    report: Report,
    what: str,
    recipe: Recipe,
    stdin: bytes = b"",
) -> None:
    """Run a build script that makes that folder, as images are built.

    Raises:
        ProviderError: when it fails; a package source that does not answer is named.
    """
    _complain(_build(target, str(script), arguments, report, stdin), what, recipe)


def _build(
    target: Path, script: str, arguments: Sequence[str], report: Report, stdin: bytes = b""
) -> Done:
    """Run a build script under a lock that its own processes hold.

    When only we are killed, the build goes on to its end; whoever comes next waits for it and
    finds the image.
    """
    store = target.parent
    lock, log = store / f".lock.{target.name}", store / f".log.{target.name}"
    run(f"making {store}", ["install", "-d", "-m", "755", "--", store.parent, store])
    build = [*NAMESPACES, "sh", str(HERE / script), str(target), *arguments]
    done = run("building", ["flock", "-n", "-E", str(BUSY), lock, *build], stdin=stdin, ok=())
    if done.status == BUSY:
        report("host", "waiting: the same image is being built by another lab.up")
        done = run("building", ["flock", lock, *build], stdin=stdin, ok=())
    if done.status != 0 and log.exists():
        said = log.read_text(encoding="utf-8", errors="replace")
        done = Done(done.status, said, done.errors)
    return done


def _complain(done: Done, what: str, recipe: Recipe) -> None:
    if done.status == 0:
        return
    if done.status == SILENT or _NO_ANSWER.search(done.said):
        lines = [line for line in done.said.splitlines() if _NO_ANSWER.search(line)]
        raise ProviderError(
            f"{what}: the package source {recipe.mirror} does not answer",
            "look at this host's network (sudo apt-get update), or name another source: "
            "LAB_MIRROR=<address of a Debian archive> scripts/up",
            output="\n".join(lines[-4:]) or done.said,
        )
    raise ProviderError(what, "run it again; the lines above say why", output=done.said)


def key_of(*parts: object) -> str:
    """Sixteen characters that change when any of the parts does."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _tar(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.lstrip("/"))
            data = content.encode()
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
