"""`lab.completion`: a static script that completes commands in bash, zsh or fish.

The script holds all words, so that completing a word starts no Python. Names of labs are read from
the checkout's folder of labs by the shell itself.
"""

from __future__ import annotations

from typing import Any

from provision import providers, registry, topology
from provision.commands import namespace, usage
from provision.commands.base import task
from provision.commands.completion_scripts import SHELLS, CompletedTask, CompletionWords
from provision.core.errors import not_among
from provision.core.lab import ROOT
from provision.drills import catalogue
from provision.teaching import explain
from provision.topology.values import ALGORITHMS, MODES

VALUES = {
    "machine": "machines",
    "server": "machines",
    "service": "services",
    "topology": "topologies",
    "provider": "providers",
    "lab": "labs",
    "algorithm": "algorithms",
    "mode": "modes",
    "topic": "topics",
    "shell": "shells",
    "drill": "drills",
    "layer": "layers",
}
"""By argument, the list of words that complete it. Other arguments are completed as files."""

BY_TASK = {
    ("lab.restart", "what"): "restartable",
    ("lab.spof", "what"): "components",
    ("db.autopromote", "what"): "states",
}
"""Arguments that mean something else in one task."""


@task(positional=["shell"], help={"shell": "bash, zsh or fish"})
def completion(c: Any, shell: str) -> None:
    """Print a script that completes commands.

    Load it in bash and zsh with ``source <(invoke lab.completion bash)``, in fish with ``invoke
    lab.completion fish | source``.
    """
    if shell not in SHELLS:
        raise not_among(f"unknown shell {shell!r}", shell, SHELLS)
    print(SHELLS[shell](words()), end="")


def words() -> CompletionWords:
    """All words that a script completes."""
    topologies = [topology.load(topology.find(name)) for name in topology.names()]
    machines = sorted({machine.name for loaded in topologies for machine in loaded.machines})
    roles = sorted({r for loaded in topologies for m in loaded.machines for r in m.roles})
    services = tuple(sorted({r.short_service for r in registry.roles() if r.service}))
    tasks = namespace.collection()
    return CompletionWords(
        root=ROOT,
        tasks=tuple(_task(name, tasks[name]) for name in sorted(tasks.task_names)),
        lists={
            "machines": tuple(machines),
            "services": services,
            "topologies": tuple(topology.names()),
            "providers": tuple(providers.PROVIDERS),
            "algorithms": ALGORITHMS,
            "modes": MODES,
            "topics": tuple(explain.TOPICS),
            "shells": tuple(SHELLS),
            "drills": catalogue.ids(),
            "layers": catalogue.layers(),
            "states": ("on", "off", "status"),
            "restartable": (*machines, *services),
            "components": ("machine", *machines, *roles),
        },
    )


def _task(name: str, declared: Any) -> CompletedTask:
    options: dict[str, str | None] = {"--help": None}
    positional = []
    for argument in declared.get_arguments():
        kind = BY_TASK.get((name, argument.name), VALUES.get(argument.name, "files"))
        if argument.positional:
            positional.append(kind)
            continue
        option = usage.long_name(argument)
        options[f"--{option}"] = None if argument.kind is bool else kind
        if argument.kind is bool and argument.default is True:
            options[f"--no-{option}"] = None
    summary = (declared.__doc__ or "").splitlines()[0].rstrip(".")
    return CompletedTask(name, summary, options, tuple(positional))
