"""Which modules travel to a machine: those of the agent, and those of programs installed there.

Code that runs on machines lives in folders called ``agent`` and imports nothing else but Python's
standard library. Modules are found by what they import and by what they register, never listed.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Mapping
from functools import cache

from provision.core.lab import ROOT

_LOCK = threading.Lock()

MAIN = "provision.engine.agent.main"

BOOT = "import sys;exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"
"""The argument of ``python3 -c`` on a machine; the payload follows on stdin."""

LOADER = f"""
import sys, json
sources, registered = json.loads(sys.stdin.buffer.readline())
packages = {{name.rpartition('.')[0] for name in sources}}
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in sources:
            import importlib.machinery
            return importlib.machinery.ModuleSpec(name, self, is_package=name in packages)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(compile(sources[module.__name__], module.__name__, 'exec'), module.__dict__)
sys.meta_path.insert(0, Finder())
from {MAIN} import main
main(registered)
"""
"""What the bare python3 on a machine runs first: modules are imported from the next line."""

IMPORTS = re.compile(
    r"^ *from (provision\.[\w.]*\bagent)(?:\.(\w+))? import (\([^)]*\)|.*)", re.MULTILINE
)
REGISTERS = re.compile(
    r"^@(collector|batch_collector|action|operation)\(\s*\"([^\"]+)\"", re.MULTILINE
)


def payload() -> bytes:
    """What is sent to a machine's python3: the loader, the agent's modules, what they register."""
    with _LOCK:  # connections start at the same time, and one of them reads the modules
        return _payload()


@cache
def _payload() -> bytes:
    registered = registrations()
    files = closure([MAIN, *registered.values()])
    sources = {_module(path): text for path, text in files.items()}
    loader = LOADER.encode()
    return b"%d\n%s%s\n" % (len(loader), loader, json.dumps([sources, registered]).encode())


@cache
def registrations() -> Mapping[str, str]:
    """By ``registry.key``, such as ``action write``, the module whose decorator registers it."""
    registered = {}
    for path in sorted((ROOT / "provision").glob("**/agent/*.py")):
        module = _module(path.relative_to(ROOT).as_posix())
        for decorator, name in REGISTERS.findall(path.read_text(encoding="utf-8")):
            registered[f"{decorator.removeprefix('batch_')} {name}"] = module
    return registered


@cache
def programs(*modules: str) -> tuple[tuple[str, bool, bytes], ...]:
    """The files of programs that run on a machine without the controller.

    Args:
        modules: below ``provision``, such as ``database.agent.backup``.
    """
    files = closure(f"provision.{name}" for name in modules)
    return tuple((path, False, text.encode()) for path, text in sorted(files.items()))


def closure(modules: Iterable[str]) -> dict[str, str]:
    """Source text by path, of modules and of what they import from folders called ``agent``."""
    files: dict[str, str] = {}
    pending = list(modules)
    while pending:
        name = pending.pop()
        path = name.replace(".", "/") + ".py"
        if path in files:
            continue
        files[path] = (ROOT / path).read_text(encoding="utf-8")
        package = name
        while package := package.rpartition(".")[0]:
            files.setdefault(package.replace(".", "/") + "/__init__.py", "")
        for folder, module, names in IMPORTS.findall(files[path]):
            listed = re.findall(r"(\w+)(?: as \w+)?\s*(?:,|$)", names.strip("()"))
            pending += [f"{folder}.{imported}" for imported in ([module] if module else listed)]
    return files


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
