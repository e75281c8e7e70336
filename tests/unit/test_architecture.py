"""The structure of ``provision/``, read from its imports.

Packages form layers, and a module imports only from its own package or from a lower layer:

    setup <- core <- topology <- engine <- services, database, monitoring
         <- registry <- checks <- operations <- teaching <- drills <- classroom <- board <- commands

``providers`` stands beside ``engine``. Packages of one layer, and the services among each other,
see only the module ``interface`` of the other one: it declares the addresses, paths and names that
are meant for others. A folder called ``agent`` holds what runs on machines: it may import only the
standard library and other agent modules. ``app`` is deployed on its own and shares nothing.
``setup`` runs before there is a .venv: it imports only the standard library and itself.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from provision.core.lab import ROOT

LAYERS = (
    ("setup",),
    ("core",),
    ("topology",),
    ("engine",),
    ("services", "database", "monitoring"),
    ("registry",),
    ("checks",),
    ("operations",),
    ("teaching",),
    ("drills",),
    ("classroom",),
    ("board",),
    ("commands",),
)
RANK = {package: rank for rank, packages in enumerate(LAYERS) for package in packages}
RANK["providers"] = RANK["engine"]

PROVIDERS_MAY_IMPORT = (
    "provision.engine.host",
    "provision.engine.ssh",
    "provision.engine.agent",
)
DEBIAN_ON_MACHINES = {"pymysql"}
"""Not of the standard library, and installed wherever the agent module runs."""

MAX_LINES = 350
MAX_MEDIAN = 120
MAX_LOOSE_MODULES = 3


@dataclass(frozen=True)
class Import:
    """One import statement's target: ``provision.core.lab`` for a module or a name in it."""

    module: Path
    line: int
    target: str

    @property
    def source(self) -> tuple[str, ...]:
        """The importing module: ``("services", "nginx", "role")``."""
        return self.module.relative_to(ROOT / "provision").with_suffix("").parts

    @property
    def parts(self) -> tuple[str, ...]:
        """The imported module below ``provision``; empty for other distributions."""
        top, *rest = self.target.split(".")
        return tuple(rest) if top == "provision" else ()

    def __str__(self) -> str:
        return f"{self.module.relative_to(ROOT)}:{self.line} imports {self.target}"


def modules() -> list[Path]:
    return sorted((ROOT / "provision").rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[Import]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (Import(path, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                file = ROOT / name.replace(".", "/")
                exists = file.with_suffix(".py").exists() or file.is_dir()
                yield Import(path, node.lineno, name if exists else node.module)


def internal(package: str = "") -> Iterator[Import]:
    """Imports from ``provision`` by modules outside ``app``."""
    for path in modules():
        for item in imports(path):
            if item.parts and item.source[0] in RANK and package in ("", item.source[0]):
                yield item


def unit_of(parts: tuple[str, ...]) -> tuple[str, ...]:
    """What counts as one package: a service, or a top-level package."""
    return parts[:2] if parts[0] == "services" else parts[:1]


def allowed(found: Import) -> bool:
    source, target = unit_of(found.source), unit_of(found.parts)
    if source == target:
        return True
    if "agent" in found.source:
        return True  # see test_agents_import_nothing_of_the_controller
    below = RANK.get(found.parts[0], len(LAYERS)) < RANK[found.source[0]]
    if found.source[0] == "providers":
        return below or found.target.startswith(PROVIDERS_MAY_IMPORT)
    if found.parts[0] == "providers":
        return RANK[found.source[0]] > RANK["engine"]
    peers = RANK.get(found.parts[0]) == RANK[found.source[0]]
    return below or (peers and found.parts[-1] == "interface")


def listed(problems: list[str]) -> str:
    return f"{len(problems)} violations:\n" + "\n".join(problems)


def test_imports_point_to_lower_layers_or_declared_interfaces() -> None:
    problems = [str(item) for item in internal() if not allowed(item)]
    assert not problems, listed(problems)


def test_the_app_shares_no_code_with_the_lab() -> None:
    problems = [str(i) for p in modules() for i in imports(p) if i.parts[:1] == ("app",)]
    app = [p for p in modules() if p.is_relative_to(ROOT / "provision" / "app")]
    problems += [str(i) for p in app for i in imports(p) if i.parts]
    assert not problems, listed(problems)


def test_agents_import_nothing_of_the_controller() -> None:
    problems = []
    for path in modules():
        if "agent" not in path.parts or path.is_relative_to(ROOT / "provision" / "app"):
            continue
        for item in imports(path):
            top = item.target.partition(".")[0]
            other = top in sys.stdlib_module_names or top in DEBIAN_ON_MACHINES
            if not other and "agent" not in item.parts:
                problems.append(str(item))
    assert not problems, listed(problems)


def test_the_set_up_needs_only_the_standard_library() -> None:
    problems = []
    for path in modules():
        for item in imports(path) if path.is_relative_to(ROOT / "provision" / "setup") else ():
            top = item.target.partition(".")[0]
            if top not in sys.stdlib_module_names and item.parts[:1] != ("setup",):
                problems.append(str(item))
    assert not problems, listed(problems)


def test_every_package_is_in_a_layer() -> None:
    loose = {p.stem for p in (ROOT / "provision").glob("*.py")} - {"__init__"}
    assert len(loose) <= MAX_LOOSE_MODULES
    packages = {p.parent.name for p in (ROOT / "provision").glob("*/__init__.py")}
    assert packages | loose == set(RANK)


def test_modules_are_short() -> None:
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    long = [f"{path.relative_to(ROOT)}: {n}" for path, n in sizes.items() if n > MAX_LINES]
    assert not long, listed(long)
    assert statistics.median(n for n in sizes.values() if n) <= MAX_MEDIAN


def test_no_two_public_classes_have_the_same_name() -> None:
    """The app has names of its own, as a program of its own."""
    places: dict[str, list[str]] = {}
    for path in modules():
        if path.is_relative_to(ROOT / "provision" / "app"):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                places.setdefault(node.name, []).append(place)
    problems = [f"{name}: {', '.join(at)}" for name, at in sorted(places.items()) if len(at) > 1]
    assert not problems, listed(problems)


def test_roles_are_found_by_folder_and_named_once() -> None:
    """No module but the discovery in core lists the roles that a topology can name."""
    from provision.core.roles import role_names
    from provision.registry import roles

    declared = {role.name for role in roles()}
    assert set(role_names()) <= declared
    problems = []
    for path in modules():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
                items = node.keys if isinstance(node, ast.Dict) else node.elts
                words = {i.value for i in items if isinstance(i, ast.Constant)}
                if len(words & set(role_names())) > len(role_names()) // 2:
                    problems.append(f"{path.relative_to(ROOT)}:{node.lineno} lists {words}")
    assert not problems, listed(problems)
