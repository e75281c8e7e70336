"""The lab's tasks: `invoke --list` shows them. This file only composes; see provision/commands."""

import sys
from importlib import import_module

# Invoke keeps Python from caching compiled modules; without the cache every command is slower.
sys.dont_write_bytecode = False

from invoke.collection import Collection  # noqa: E402

MODULES = {
    "lab": ("lab", "clean", "diagram", "explain", "snapshots"),
    "app": ("app",),
    "lb": ("lb",),
    "db": ("db",),
    "monitor": ("monitor",),
    "dns": ("dns",),
    "tls": ("tls",),
    "firewall": ("firewall",),
    "box": ("box",),
}
"""By namespace: the modules of provision/commands whose tasks are in it."""

# A command pays for the import of its own namespace alone: that is a third of a run that changes
# nothing. Whatever names none (--list, completion, a typing error) gets all of them.
named = {word.partition(".")[0] for word in sys.argv[1:] if "." in word} & MODULES.keys()
namespace = Collection()
for name in MODULES:
    if named and name not in named:
        continue
    collection = Collection(name)
    for module in MODULES[name]:
        found = Collection.from_module(import_module(f"provision.commands.{module}"))
        for task in found.tasks.values():
            collection.add_task(task)
    namespace.add_collection(collection)
