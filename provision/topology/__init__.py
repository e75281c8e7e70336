"""Find, read and validate topology files.

`nodes` reads YAML with line numbers, `checker` checks single values, `machines` and `document`
parse the keys, `relations` checks machines against each other. All errors of a file are reported
at once. The Vagrantfile reads the same files with Ruby's safe YAML loader, so they are plain YAML.
"""

from __future__ import annotations

from pathlib import Path

from provision.core.errors import TopologyError, choose_from
from provision.core.exit_status import ExitStatus
from provision.core.files import unreadable
from provision.core.lab import ROOT, Topology
from provision.core.suggestions import similar_path, suggestion
from provision.topology.checker import Checker
from provision.topology.document import build_topology, parse_document
from provision.topology.machines import parse_ssh
from provision.topology.nodes import Node, parse_yaml
from provision.topology.relations import check_relations
from provision.topology.values import ALGORITHMS, MODES, SSH_KEYS, parse_network

__all__ = [
    "ALGORITHMS",
    "MODES",
    "SSH_KEYS",
    "find",
    "inventory",
    "load",
    "names",
    "parse_network",
    "reference",
]

FOLDER = Path("configs/topologies")
"""The topologies of a checkout."""


def names(root: Path = ROOT) -> tuple[str, ...]:
    """The topologies of a checkout, sorted."""
    return tuple(sorted(p.stem for p in (root / FOLDER).glob("*.yml")))


def find(name_or_path: str, root: Path = ROOT) -> Path:
    """The file of a topology.

    Args:
        name_or_path: ``distributed``, or a path (contains a ``/`` or ends in ``.yml``).

    Raises:
        TopologyError: when there is no such file; the hint lists all names.
    """
    text = name_or_path.strip()
    if "/" in text or text.endswith((".yml", ".yaml")):
        given = Path(text).expanduser()
        for path in (given, root / given, root / FOLDER / given):
            if path.is_file():
                return path.resolve()
        what = f"file {given} does not exist{similar_path(given)}"
        raise TopologyError(what, _choices(root), status=ExitStatus.USAGE)
    path = root / FOLDER / f"{text}.yml"
    if text and not text.startswith(".") and path.is_file():
        return path
    similar = suggestion(text, names(root))
    raise TopologyError(
        f"unknown topology {text!r}{similar}", _choices(root), status=ExitStatus.USAGE
    )


def reference(topology: Topology, root: Path) -> str:
    """What `find` finds a topology by: its name, or the path of a file in another folder."""
    path = topology.path.absolute()
    in_checkout = path.parent == root.absolute() / FOLDER and path.suffix == ".yml"
    return path.stem if in_checkout else str(path)


def load(path: Path) -> Topology:
    """Read and validate a topology file.

    Raises:
        TopologyError: with all errors of the file, one line per error.
        UsageError: when the file cannot be read.
    """
    file = _relative(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise TopologyError(
            f"{file}:{line}: byte {error.object[error.start]:#04x} is not UTF-8",
            "save the file as UTF-8",
        ) from None
    except OSError as error:
        what = f"{file} cannot be read: {error.strerror or error}"
        raise TopologyError(what, _choices(ROOT)) from None
    check = Checker(file)
    draft = parse_document(check, parse_yaml(text, file))
    if draft is not None:
        check_relations(check, draft)
    topology = build_topology(draft, path) if draft is not None else None
    if check.errors or topology is None:
        raise _invalid(check)
    return topology


def inventory(path: Path) -> dict[str, dict[str, str]]:
    """How existing machines are reached, by machine name.

    Args:
        path: of a file with ``machines:``, and per machine the keys of ``ssh:`` in a topology.

    Raises:
        TopologyError: with all errors of the file, one line per error.
        UsageError: when the file cannot be read.
    """
    file = _relative(path)
    try:
        node = parse_yaml(path.read_bytes().decode("utf-8"), file)
    except (OSError, UnicodeDecodeError) as error:
        hint = "set its path with --inventory FILE"
        raise unreadable(f"the inventory {file}", path, error, hint) from None
    check = Checker(file)
    machines = _inventory_machines(check, node)
    if check.errors:
        raise _invalid(check)
    return machines


def _inventory_machines(check: Checker, node: Node) -> dict[str, dict[str, str]]:
    example = "'machines: {web-01: {address: 203.0.113.7, user: debian}}'"
    machines: dict[str, dict[str, str]] = {}
    if not check.mapping(node, "", example):
        return machines
    for _, _, stanzas in check.keys(node, "", ("machines",)):
        if not check.mapping(stanzas, "machines", example):
            continue
        for name, _, value in check.keys(stanzas, "machines"):
            if check.mapping(value, f"machines.{name}", "{address: 203.0.113.7}"):
                machines[name] = dict(parse_ssh(check, value, f"machines.{name}"))
    return machines


def _invalid(check: Checker) -> TopologyError:
    return TopologyError("\n".join(check.errors), f"fix {check.file}, then run the command again")


def _choices(root: Path) -> str:
    choices = names(root)
    if not choices:
        return f"there are no topologies in {root / FOLDER}: use the path of a file"
    return choose_from(choices, ", or use the path of a file")


def _relative(path: Path) -> str:
    absolute = path.absolute()
    return str(absolute.relative_to(ROOT) if absolute.is_relative_to(ROOT) else path)
