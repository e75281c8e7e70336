"""Run a program that installs packages, with the pool as its package source.

The program finds the proxy's URL in LAB_POOL_PROXY, and settings for apt in LAB_POOL_OPTIONS. What
it read is recorded when it succeeds, so that `missing` can tell later whether the same installation
works without a network.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from provision.core.pool import store as stored
from provision.core.pool.pool import Pool

ROOT = Path(__file__).resolve().parents[3]
PROXY = "LAB_POOL_PROXY"
OPTIONS = "LAB_POOL_OPTIONS"
START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from provision.core.pool.run import main; main()"
)


def command(pool: Pool, name: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs a program with a pool.

    Args:
        name: of the set of files that it reads.
    """
    options = ["--folder", str(pool.folder), "--mirror", pool.mirror, "--name", name]
    for scheme, url in sorted(pool.proxies.items()):
        options += ["--proxy", f"{scheme}={url}"]
    for host in pool.direct:
        options += ["--direct", host]
    if pool.offline:
        options.append("--offline")
    return [sys.executable, "-I", "-c", START, str(ROOT), *options, "--", *argv]


def record(pool: Pool, name: str) -> None:
    """Record which files were read from a pool."""
    path = pool.folder / stored.SETS / f"{name}.json"
    stored.make_folder(pool.folder, path.parent)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(sorted(pool.used), indent=1) + "\n", encoding="utf-8")
    stored.give_to_owner(pool.folder, temporary)
    temporary.replace(path)


def missing(folder: Path, name: str) -> list[str] | None:
    """The files of a recorded set that the pool lacks; None when the set was never recorded."""
    try:
        names = json.loads((folder / stored.SETS / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return [name for name in map(stored.encoded, names) if not (folder / name).is_file()]


def main() -> None:
    """The program ``run``: its arguments are those of `command`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--mirror", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--proxy", action="append", default=[])
    parser.add_argument("--direct", action="append", default=[])
    parser.add_argument("--offline", action="store_true")
    parser.add_argument("argv", nargs="+")
    options = parser.parse_args()
    proxies = dict(item.split("=", 1) for item in options.proxy)
    pool = Pool(options.folder, options.mirror, proxies, options.direct, options.offline)
    stored.make_folder(pool.folder, pool.folder)
    environ = {**os.environ, OPTIONS: " ".join(pool.apt_options())}
    from provision.core.pool.server import serving  # not while a lab is only looked at

    with serving(pool) as proxy:
        status = subprocess.run(options.argv, env={**environ, PROXY: proxy}, check=False).returncode
    if status == 0 and pool.used:
        record(pool, options.name)
    pool.keep_bound()
    raise SystemExit(status if status >= 0 else 128 - status)
