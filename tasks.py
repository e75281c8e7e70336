"""The lab's tasks (`invoke --list`), composed from the modules of provision/commands."""

import sys
from importlib import import_module

# Invoke turns the bytecode cache off; without it, every command is slower.
sys.dont_write_bytecode = False

from invoke.collection import Collection  # noqa: E402

MODULES = {
    "lab": ("lab", "access", "machines", "clean", "diagram", "explain", "prune", "snapshots"),
    "app": ("app",),
    "lb": ("lb",),
    "db": ("db",),
    "monitor": ("monitor",),
    "dns": ("dns",),
    "tls": ("tls",),
    "firewall": ("firewall",),
    "box": ("box",),
}
"""The modules of provision/commands by namespace."""

# A command imports its own namespace only: all of them take a third of a run that changes nothing.
# A command line without a namespace (--list, completion, a typo) imports all.
requested = {word.partition(".")[0] for word in sys.argv[1:] if "." in word} & MODULES.keys()
namespace = Collection()
for name in MODULES:
    if requested and name not in requested:
        continue
    collection = Collection(name)
    for module in MODULES[name]:
        tasks = Collection.from_module(import_module(f"provision.commands.{module}")).tasks
        for task in tasks.values():
            task.kind = f"{name}.{task.name}"
            collection.add_task(task)
    namespace.add_collection(collection)
