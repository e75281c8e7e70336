"""The lab's tasks (`invoke --list`); provision/commands/namespace.py lists their modules."""

import sys

# Invoke turns the bytecode cache off; without it, every command is slower.
sys.dont_write_bytecode = False

from provision.commands import namespace as tasks  # noqa: E402
from provision.commands import usage  # noqa: E402

usage.install(tasks.task_names)
namespace = tasks.collection(frozenset(tasks.requested(sys.argv[1:])))
