"""The namespace of all tasks, composed from the modules of this package."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from typing import Any

from invoke.collection import Collection

MODULES = {
    "lab": (
        "lab",
        "access",
        "machines",
        "clean",
        "completion",
        "diagram",
        "doctor",
        "explain",
        "load",
        "prefetch",
        "prune",
        "snapshots",
    ),
    "app": ("app",),
    "lb": ("lb",),
    "db": ("db",),
    "monitor": ("monitor",),
    "dns": ("dns",),
    "tls": ("tls",),
    "firewall": ("firewall",),
    "box": ("box",),
    "drill": ("drill", "drill_class", "drill_end", "drill_files", "drill_watch"),
    "postmortem": ("postmortem",),
}
"""The modules of this package by namespace."""


def requested(words: Iterable[str]) -> set[str]:
    """The namespaces that a command line needs; empty for all.

    A command imports its own namespace only: all of them take a third of a run that changes
    nothing. A command line without a namespace (``--list``, a typing error) imports all.
    """
    return {word.partition(".")[0] for word in words if "." in word} & MODULES.keys()


@cache
def collection(names: frozenset[str] = frozenset()) -> Any:
    """The collection of some namespaces; of all when no name is given."""
    namespace = Collection()
    for name, modules in MODULES.items():
        if names and name not in names:
            continue
        tasks = Collection(name)
        for module in modules:
            members = Collection.from_module(import_module(f"provision.commands.{module}")).tasks
            for task in members.values():
                task.kind = f"{name}.{task.name}"
                tasks.add_task(task)
        namespace.add_collection(tasks)
    return namespace


def task_names() -> list[str]:
    """The names of all tasks."""
    return sorted(collection().task_names)
