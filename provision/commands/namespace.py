"""The namespace of all tasks, composed from the modules of this package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from invoke.collection import Collection

TASKS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "lab": {
        "lab": ("up", "plan", "status", "check", "destroy", "list"),
        "access": ("trust", "rescue", "rebuild"),
        "machines": ("ssh", "logs", "halt", "kill", "start", "restart"),
        "clean": ("clean",),
        "completion": ("completion",),
        "diagram": ("diagram",),
        "doctor": ("doctor",),
        "explain": ("explain", "spof"),
        "load": ("load",),
        "prefetch": ("prefetch",),
        "prune": ("prune",),
        "snapshots": ("snapshot", "restore", "snapshots"),
    },
    "app": {"app": ()},
    "board": {"board": ()},
    "lb": {"lb": ()},
    "db": {"db": ()},
    "monitor": {"monitor": ()},
    "dns": {"dns": ()},
    "tls": {"tls": ()},
    "firewall": {"firewall": ()},
    "box": {"box": ()},
    "bundle": {"bundle": ()},
    "drill": {
        "drill": ("list", "start", "status", "hint", "check", "grade", "reset"),
        "drill_class": ("course", "report"),
        "drill_end": ("solution", "solve", "finish", "give-up"),
        "drill_files": ("lint", "new", "try"),
        "drill_replay": ("replay",),
        "drill_watch": ("watch",),
    },
    "class": {
        "classroom": ("up", "status", "sheet"),
        "class_labs": ("each", "reset", "destroy"),
    },
    "postmortem": {"postmortem": ()},
}
"""By namespace, the modules of this package, each with its tasks if the namespace has several."""


def requested(words: Iterable[str]) -> set[str]:
    """The modules that a command line needs; empty for all.

    A command imports its own module only: all of them take a third of a run that changes nothing.
    A command line without a task (``--list``, a typing error) imports all.
    """
    modules: set[str] = set()
    for word in words:
        namespace, _, task = word.partition(".")
        if task and namespace in TASKS:
            owners = [module for module, tasks in TASKS[namespace].items() if task in tasks]
            modules |= {*owners} or TASKS[namespace].keys()
    return modules


@cache
def collection(modules: frozenset[str] = frozenset()) -> Any:
    """The collection of the tasks of some modules; of all when no module is given."""
    root = Collection()
    for namespace, owners in TASKS.items():
        tasks = Collection(namespace)
        for module in owners:
            if modules and module not in modules:
                continue
            loaded = Collection.from_module(import_module(f"provision.commands.{module}")).tasks
            for task in loaded.values():
                task.kind = f"{namespace}.{task.name}"
                tasks.add_task(task)
        if tasks.tasks:
            root.add_collection(tasks)
    return root


def task_names() -> list[str]:
    """The names of all tasks."""
    return sorted(collection().task_names)
