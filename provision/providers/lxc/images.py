"""Images: one base system, and layers of packages over it, each named by a hash of its inputs.

``<cache>/images/<key>/root`` and ``<cache>/layers/<key>/root`` are complete when they exist, never
change afterwards, and are shared by all labs of this host.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from provision.core import apt_source
from provision.core.errors import ProviderError
from provision.core.package_set import PackageSet
from provision.core.parallel import for_each
from provision.core.pool import run as pool_run
from provision.core.pool.store import CANONICAL
from provision.core.report import Report
from provision.providers.files import add_file
from provision.providers.image_recipe import USER, Recipe, is_proxy, load_recipe
from provision.providers.lxc import paths
from provision.providers.lxc.privileged import make_folders, run
from provision.providers.package_pool import open_pool

HERE = Path(__file__).parent
SETUP_SCRIPT = HERE / "setup-build.sh"
CUSTOMIZE_SCRIPT = HERE / "customize.sh"
NAMESPACES = (
    "unshare",
    "--mount",
    "--propagation=private",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)
LOCKED = 75  # status that flock returns (-E) while another process builds the same image
SOURCE_FAILED = 71  # build-layer.sh: the package sources do not respond
_SOURCE_ERROR = re.compile(
    r"Could not (resolve|connect)|Temporary failure|Unable to connect|Connection (timed out|failed)"
    r"|connection timed out|Connection refused|Failed to fetch|404 +Not Found"
    r"|no longer has a Release file"
)


class SourceError(ProviderError):
    """A package source does not respond."""


PROGRAMS = {
    "haproxy": "HAProxy",
    "keepalived": "keepalived",
    "nginx": "Nginx",
    "gunicorn": "gunicorn",
    "mysql-server": "MySQL",
    "prometheus": "Prometheus",
    "dnsmasq": "dnsmasq",
}
"""The packages that a layer is named after in messages."""


def base_key(recipe: Recipe) -> str:
    """The name of the base image."""
    scripts = [HERE / "build-image.sh", SETUP_SCRIPT, CUSTOMIZE_SCRIPT]
    return hash_of(
        recipe.suite,
        USER,
        recipe.packages,
        [script.read_text() for script in scripts],
    )


def layer_key(recipe: Recipe, package_set: PackageSet) -> str:
    """The name of a layer over the recipe's base image."""
    script = (HERE / "build-layer.sh").read_text()
    packages = (sorted(package_set.packages), sorted(package_set.sid))
    return hash_of(base_key(recipe), packages, sid_files(package_set), script)


def hash_of(*inputs: object) -> str:
    """Sixteen hexadecimal characters of a hash."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def root_file_systems(
    package_sets: Mapping[str, PackageSet], report: Report
) -> Mapping[PackageSet, Sequence[Path]]:
    """For each package set the root file systems for a container, the uppermost first.

    Args:
        package_sets: by machine.

    Raises:
        ProviderError: when an image cannot be built.
    """
    recipe = load_recipe()
    base = base_image(recipe, report)
    layers = [s for s in dict.fromkeys(package_sets.values()) if s != PackageSet()]
    missing = [s for s in layers if not (layer_folder(recipe, s) / "root").is_dir()]

    def build(package_set: PackageSet) -> Sequence[Path]:
        layer = None
        if package_set in layers:
            number = missing.index(package_set) + 1 if package_set in missing else 0
            purpose = layer_purpose(package_set, package_sets, number, len(missing))
            layer = layer_image(recipe, package_set, report, purpose)
        return (layer, base) if layer else (base,)

    return for_each(dict.fromkeys(package_sets.values()), build)


def layer_purpose(
    package_set: PackageSet, package_sets: Mapping[str, PackageSet], number: int, count: int
) -> str:
    """What a layer is for, such as ``HAProxy and Nginx for lb-01, 1 of 2``.

    Args:
        package_sets: by machine.
        number: of the layer among the ``count`` that are missing.
    """
    names = {*package_set.packages, *package_set.sid}
    programs = [name for package, name in PROGRAMS.items() if package in names] or ["packages"]
    machines = [machine for machine, own in package_sets.items() if own == package_set]
    position = f", {number} of {count}" if count > 1 else ""
    return f"{listed(programs)} for {listed(machines)}{position}"


def listed(names: Sequence[str]) -> str:
    """Names as in a sentence: ``a, b and c``."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def layer_folder(recipe: Recipe, package_set: PackageSet) -> Path:
    """Where a layer is stored."""
    return paths.cache() / "layers" / layer_key(recipe, package_set)


def base_image(recipe: Recipe, report: Report) -> Path:
    """The root file system of the base image, which is built if it does not exist.

    Raises:
        ProviderError: when it cannot be built.
    """
    target = paths.cache() / "images" / base_key(recipe)
    if not (target / "root").is_dir():
        report("host", "preparing Debian for all machines (once, about a minute)")
        packages = ",".join(recipe.packages)
        arguments = [recipe.suite, CANONICAL, packages, USER, *build_settings(recipe)]
        build(HERE / "build-image.sh", target, arguments, recipe, report)
    return target / "root"


def layer_image(
    recipe: Recipe, package_set: PackageSet, report: Report, purpose: str
) -> Path | None:
    """The root file system of a layer with these packages; None when it cannot be built.

    Without the layer, the packages are installed over SSH.

    Args:
        purpose: see `layer_purpose`.

    Raises:
        SourceError: when a package source does not respond, because SSH would not help then.
    """
    target = layer_folder(recipe, package_set)
    if not (target / "root").is_dir():
        arguments, stdin = _layer_inputs(recipe, package_set, report)
        report("host", f"preparing {purpose} (once)")
        script = HERE / "build-layer.sh"
        try:
            build(script, target, arguments, recipe, report, stdin=stdin, optional=True)
        except SourceError:
            raise
        except ProviderError as error:
            lines = [line for line in error.output.splitlines() if line[:1].strip()]
            reason = lines[-1] if lines else error.what
            report("host", f"continuing without a layer for {purpose}: {reason}")
            return None
    return target / "root"


def download(recipe: Recipe, package_set: PackageSet, report: Report) -> None:
    """Record the packages of a layer in the package pool, without installing them.

    Raises:
        ProviderError: when they cannot be downloaded.
    """
    key = layer_key(recipe, package_set)
    arguments, stdin = _layer_inputs(recipe, package_set, report)
    report("host", f"downloading {summarized(package_set)}")
    target, script = paths.cache() / "downloads" / key, HERE / "build-layer.sh"
    build(script, target, arguments, recipe, report, stdin=stdin, download_as=f"layers-{key}")


def summarized(package_set: PackageSet) -> str:
    """The first names of a package set."""
    names = sorted({*package_set.packages, *package_set.sid})
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")


def _layer_inputs(
    recipe: Recipe, package_set: PackageSet, report: Report
) -> tuple[list[str], bytes]:
    """Arguments and stdin of build-layer.sh, over the base image."""
    base = base_image(recipe, report).parent
    files = io.BytesIO()
    with tarfile.open(fileobj=files, mode="w") as tar:
        for name, content in sid_files(package_set).items():
            add_file(tar, name.lstrip("/"), content)
    settings = build_settings(recipe)
    names = sorted({*package_set.packages, *package_set.sid})
    return [str(base), str(len(settings)), *settings, *names], files.getvalue()


def sid_files(package_set: PackageSet) -> dict[str, str]:
    """The package source and the pins for packages from sid, by path."""
    if not package_set.sid:
        return {}
    return {
        apt_source.SID_LIST: apt_source.sid_list(CANONICAL),
        apt_source.SID_PREFERENCES: apt_source.sid_preferences(package_set.sid),
    }


def build_settings(recipe: Recipe) -> list[str]:
    """Lines for apt.conf while an image is built: the pool uses this host's proxies."""
    return [setting for setting in recipe.apt if not is_proxy(setting)]


def build(
    script: Path,
    target: Path,
    arguments: Sequence[str],
    recipe: Recipe,
    report: Report,
    *,
    stdin: bytes = b"",
    optional: bool = False,
    download_as: str = "",
) -> None:
    """Run a build script that creates the folder ``target``.

    The processes of the script hold a lock. If only this process is killed, the build continues;
    the next one waits for it and uses its result.

    Args:
        optional: the caller can continue without it, after errors in single packages too.
        download_as: only download packages, and record them in the pool under this name.

    Raises:
        SourceError: when a package source does not respond.
        ProviderError: when the script fails.
    """
    store = target.parent
    lock, log = store / f".lock.{target.name}", store / f".log.{target.name}"
    make_folders(store.parent, store)
    pool = open_pool(recipe)
    steps = [*NAMESPACES, "sh", str(script), str(target), *arguments]
    if download_as:
        steps = ["env", "DOWNLOAD_ONLY=1", *steps]
    command = pool_run.command(pool, download_as or f"{store.name}-{target.name}", steps)
    action = f"building {target}"
    result = run(action, ["flock", "-n", "-E", str(LOCKED), lock, *command], stdin=stdin, ok=())
    if result.status == LOCKED:
        report("host", "waiting for another command that builds the same image")
        result = run(action, ["flock", lock, *command], stdin=stdin, ok=())
    if result.ok:
        return
    output = result.output
    if log.exists():
        output = log.read_text(encoding="utf-8", errors="replace") + result.stderr
    lines = [line for line in output.splitlines() if _SOURCE_ERROR.search(line)]
    if result.status == SOURCE_FAILED or (lines and not optional):
        raise SourceError(
            f"{action} failed: the package source {recipe.mirror} does not respond",
            "check this host's network (sudo apt-get update), or set another source: "
            "LAB_MIRROR=<URL of a Debian archive> scripts/up",
            output="\n".join(lines[-4:]) or output,
        )
    raise ProviderError(
        f"{action} failed", "see the output above, then run it again", output=output
    )
