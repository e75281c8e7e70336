"""The lab's tasks (`invoke --list`); provision/commands/namespace.py lists their modules."""

import sys

# Invoke turns the bytecode cache off; without it, every command is slower.
sys.dont_write_bytecode = False

# Seconds, instead of 0.005: logins wait for Python's lock less while modules are imported.
sys.setswitchinterval(0.0005)

from provision.commands import namespace as tasks  # noqa: E402
from provision.commands import usage  # noqa: E402

usage.install(tasks.task_names)
namespace = tasks.collection(frozenset(tasks.requested(sys.argv[1:])))
