"""The first step: a topology file is read strictly, checked whole, and becomes a Topology.

`nodes` keeps the line of everything and trusts nothing; `rules` collect every error with its line
and key, so that a file is mended in one go. A Vagrantfile reads the same files with Ruby's safe
YAML loader, so they are plain: no aliases, no tags, one document.
"""

from __future__ import annotations

from pathlib import Path

from provision.core.errors import TopologyError
from provision.core.lab import ROOT, Topology
from provision.topology.nodes import read
from provision.topology.rules import Rules
from provision.topology.values import (
    ALGORITHMS,
    MODES,
    PRIVATE,
    ROLES,
    SSH_KEYS,
    suggestion,
    understand_network,
)

__all__ = [
    "ALGORITHMS",
    "MODES",
    "PRIVATE",
    "ROLES",
    "SSH_KEYS",
    "find",
    "inventory",
    "load",
    "names",
    "understand_network",
]


def names(root: Path = ROOT) -> tuple[str, ...]:
    """The topologies of a checkout, by name, sorted."""
    return tuple(sorted(p.stem for p in (root / "configs" / "topologies").glob("*.yml")))


def find(name_or_path: str, root: Path = ROOT) -> Path:
    """The file of a topology.

    Args:
        name_or_path: ``distributed``, or the path of a file (it has a ``/`` or ends in ``.yml``).
        root: the checkout whose ``configs/topologies`` a name is looked up in.

    Raises:
        TopologyError: when there is none; the message lists those there are.
    """
    wanted = name_or_path.strip()
    if "/" in wanted or wanted.endswith((".yml", ".yaml")):
        given = Path(wanted).expanduser()
        tried = [given, root / given, root / "configs" / "topologies" / given]
        for path in tried:
            if path.is_file():
                return path.resolve()
        raise TopologyError(f"there is no file {given}", _choose(root), status=2)
    path = root / "configs" / "topologies" / f"{wanted}.yml"
    if wanted and not wanted.startswith(".") and path.is_file():
        return path
    hint = suggestion(wanted, names(root))
    raise TopologyError(f"there is no topology {wanted!r}{hint}", _choose(root), status=2)


def _choose(root: Path) -> str:
    known = ", ".join(names(root))
    if not known:
        return f"there are none in {root / 'configs' / 'topologies'}: give the path of a file"
    return f"choose from {known}, or give the path of a file"


def load(path: Path) -> Topology:
    """Read one topology file and check all of it.

    Args:
        path: the file, from `find`.

    Raises:
        TopologyError: every error of the file at once, a line each: file, line, key, what is wrong
            and what would be right.
    """
    shown = _shown(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise TopologyError(
            f"{shown}:{line}: byte {error.object[error.start]:#04x} is not UTF-8",
            "save the file as UTF-8",
        ) from None
    except OSError as error:
        what = f"{shown} cannot be read: {error.strerror or error}"
        raise TopologyError(what, _choose(ROOT)) from None
    rules = Rules(shown)
    topology = rules.topology(read(text, shown), path)
    if rules.errors or topology is None:
        lines = [message for _, message in sorted(rules.errors, key=lambda e: e[0])]
        raise TopologyError("\n".join(lines), f"mend {shown}, then type the same again")
    return topology


def inventory(path: Path) -> dict[str, dict[str, str]]:
    """An inventory file: by machine name, how a machine that exists already is reached.

    Args:
        path: of a file with ``machines:`` and, a machine, the keys that ``ssh:`` has in a topology.

    Raises:
        TopologyError: every error of the file at once, as `load`.
    """
    shown = _shown(path)
    try:
        node = read(path.read_bytes().decode("utf-8"), shown)
    except (OSError, UnicodeDecodeError) as error:
        what = f"the inventory {shown} cannot be read: {getattr(error, 'strerror', '') or error}"
        raise TopologyError(what, "--inventory FILE names it", status=2) from None
    rules = Rules(shown)
    found: dict[str, dict[str, str]] = {}
    example = "'machines: {web-01: {address: 203.0.113.7, user: debian}}'"
    if rules.mapping(node, "", example):
        for _, _, machines in rules.keys(node, "", ("machines",)):
            if not rules.mapping(machines, "machines", example):
                continue
            for name, _, value in rules.keys(machines, "machines", None):
                if rules.mapping(value, f"machines.{name}", "{address: 203.0.113.7}"):
                    found[name] = dict(rules.ssh(value, f"machines.{name}"))
    if rules.errors:
        lines = [message for _, message in sorted(rules.errors, key=lambda e: e[0])]
        raise TopologyError("\n".join(lines), f"mend {shown}, then type the same again")
    return found


def _shown(path: Path) -> str:
    absolute = path.absolute()
    return str(absolute.relative_to(ROOT) if absolute.is_relative_to(ROOT) else path)
