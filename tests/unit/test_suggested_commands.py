"""Commands that messages, checks, alerts and documents suggest: they exist and can be pasted.

Every string of ``provision/`` is searched, f-strings with a placeholder for each value, and the
documents, templates and scripts. A command's task, options and literal machine names are verified.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import yaml

from provision import checks, topology
from provision.checks.observation import Observation
from provision.core.lab import ROOT
from provision.monitoring import role as monitoring
from provision.operations import restart
from provision.teaching import explain
from tasks import namespace
from tests.unit.samples import context

TOPOLOGIES = topology.names()
MACHINES = {
    m.name for name in TOPOLOGIES for m in topology.load(topology.find(name, ROOT)).machines
}
MACHINES |= {"web-03"}  # in the README's and the tests' example of a new machine
MACHINE = re.compile(r"(lb|web|app|db|mon)-\d\d")

VALUE = "\N{WHITE SQUARE}"
"""Placeholder for a value of an f-string or a template."""

COMMAND = re.compile(
    r"""\binvoke\ +(?P<task>[a-z]+\.[a-z]+(?:-[a-z]+)*)
        (?P<words>(?:(?!\binvoke\b|&&|[;,()`'"<>\n]|\.\ |\.$|:\ |\ {2,}|\ -\ |\ \|\ |\ \#).)*)""",
    re.VERBOSE,
)
MENTIONED = re.compile(r"(?<![\w./-])(?:lab|app|lb|db|monitor|dns|tls|firewall|box)\.[a-z][a-z-]*")
SUFFIXES = {"cnf", "conf", "d", "env", "json", "key", "md", "nft", "pem", "pid", "py"}
SUFFIXES |= {
    "epoch",
    "ovf",
    "png",
    "restores",
    "service",
    "socket",
    "timer",
    "yml",
    "directory",
    "find",
    "internal",
    "machine",
}
SUFFIXES |= {"name", "network", "topology"}
"""What follows ``lab.`` or ``app.`` in names of files and attributes."""

LITERALS = {
    "db.autopromote": {"on", "off", "status"},
    "lb.mode": {"active-passive", "active-active"},
    "lb.algorithm": {"leastconn", "roundrobin"},
    "lab.restart": {
        name for t in TOPOLOGIES for name in restart.services(context(t, autopromote=True))
    },
    "lab.completion": {"bash", "zsh", "fish"},
    "lab.explain": set(explain.TOPICS),
    "lab.snapshot": {"a", "before", "clean"},
}
"""Words in lower case that may be a positional argument, besides names of machines."""

DIAGNOSES = {"lab.check", "lab.status", "lab.doctor"}
"""Tasks that list problems. None of their messages may suggest one of them."""

SHOWS: dict[str, set[str]] = {
    "lab.logs": set(),
    "lab.ssh": set(),
    "lab.plan": set(),
    "lb.status": set(),
    "db.status": {"lab.logs"},
    "tls.show": set(),
    "firewall.show": set(),
    "monitor.show": set(),
    "monitor.alerts": set(),
    "db.autopromote": {"lab.logs", "db.status"},
    "dns.trace": {"lab.logs"},
    "db.shell": set(),
    "lab.snapshots": set(),
    "lab.list": set(),
}
"""Tasks that show the cause of a fault, and those of them that their messages may suggest."""


@dataclass(frozen=True)
class Text:
    """A string and its location."""

    text: str
    where: str
    task: str = ""


@cache
def tasks() -> dict[str, tuple[set[str], int]]:
    """By task: its options, and the number of its required positional arguments."""
    signatures = {}
    for name in namespace.task_names:
        arguments = namespace[name].get_arguments()
        flags = {flag for a in arguments for flag in (f"--{n.replace('_', '-')}" for n in a.names)}
        required = [a for a in arguments if a.positional and not hasattr(a, "fallback")]
        signatures[name] = (flags, len(required))
    return signatures


def strings(path: Path) -> Iterator[Text]:
    """The string literals of a module; adjacent parts are one string, values are `VALUE`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {
        id(node): function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.decorator_list
        for node in ast.walk(function)
    }
    parts = {
        id(value)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for value in ast.walk(node)
        if value is not node
    }
    for node in ast.walk(tree):
        if id(node) in parts:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = re.sub(r"\{\w*\}", VALUE, node.value)  # for str.format
        elif isinstance(node, ast.JoinedStr):
            values = node.values
            text = "".join(str(v.value) if isinstance(v, ast.Constant) else VALUE for v in values)
        else:
            continue
        where = f"{path.relative_to(ROOT)}:{node.lineno}"
        yield Text(text, where, functions.get(id(node), ""))


def documents() -> Iterator[Text]:
    """Documents, templates, scripts and the Vagrantfile, line by line."""
    paths = [
        ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Vagrantfile")
    ]
    paths += [p for folder in ("configs", "scripts") for p in sorted((ROOT / folder).rglob("*"))]
    paths += sorted((ROOT / "provision").rglob("*.sh"))
    for path in paths:
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            text = re.sub(
                r"\{\{.*?\}\}|\{%.*?%\}|\$\{?\w+\}?", VALUE, path.read_text(encoding="utf-8")
            )
            for number, line in enumerate(text.splitlines(), 1):
                yield Text(line, f"{path.relative_to(ROOT)}:{number}")


@cache
def texts() -> tuple[Text, ...]:
    modules = [
        *sorted((ROOT / "provision").rglob("*.py")),
        *sorted((ROOT / "scripts").glob("*.py")),
    ]
    return (*(text for path in modules for text in strings(path)), *documents())


def problems(text: str) -> list[str]:
    """The errors in the commands of a text."""
    return [
        f"{problem}: {match.group().strip()!r}"
        for match in COMMAND.finditer(text)
        for problem in command_problems(match["task"], match["words"].split())
    ]


def command_problems(task: str, words: list[str]) -> Iterator[str]:
    if task not in tasks():
        yield "no such task"
        return
    options, required = tasks()[task]
    own = words[: words.index("--")] if "--" in words else words
    for word in own:
        if word.startswith("--") and word.partition("=")[0] not in {"--help", *options}:
            yield f"no option {word}"
        if MACHINE.fullmatch(word) and word not in MACHINES:
            yield f"no machine {word}"
    if "--lab" in own:
        del own[own.index("--lab") : own.index("--lab") + 2]
    if required and "--help" not in own and not (own and is_argument(task, own[0])):
        yield "its argument is missing"


def is_argument(task: str, word: str) -> bool:
    """Whether a word is an argument, and not the next word of a sentence."""
    return (
        VALUE in word
        or re.fullmatch(r"[A-Z][A-Z0-9_-]*", word) is not None
        or word in MACHINES | LITERALS.get(task, set())
        or re.fullmatch(r".*/.*|\w[\w-]*\.yml", word) is not None
    )


def test_every_suggested_command_can_be_pasted() -> None:
    wrong = [f"{t.where}: {p}" for t in texts() for p in problems(t.text)]
    assert not wrong, "\n" + "\n".join(wrong)
    assert len([t for t in texts() if COMMAND.search(t.text)]) > 150


def test_every_mentioned_task_exists() -> None:
    unknown = [
        f"{t.where}: {name}"
        for t in texts()
        for name in MENTIONED.findall(t.text)
        if name not in tasks() and name.partition(".")[2] not in SUFFIXES and " " in t.text
    ]
    assert not unknown, "\n" + "\n".join(unknown)


def test_options_in_the_table_of_tasks() -> None:
    rows = [
        line.split("|")[1]
        for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
        if re.match(r"\| `[a-z]+\.", line)
    ]
    assert len(rows) > 20
    documented = set()
    for row in rows:
        for command in re.findall(r"`([^`]+)`", row):
            name, *words = re.sub(r"[\[\]]", " ", command).split()
            if "." not in name:
                continue  # another argument of the task before it
            documented.add(name)
            assert name in tasks(), command
            for word in words:
                assert not word.startswith("--") or word in {*tasks()[name][0], "--"}, command
    missing = sorted(set(tasks()) - documented)
    assert not missing, "tasks without a row in the README"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("invoke lab.console web-01", "no such task"),
        ("invoke lab.up --force", "no option"),
        ("invoke lab.ssh web-09", "no machine"),
        ("invoke db.promote makes another one the primary", "argument is missing"),
        ("invoke lab.rescue", "argument is missing"),
    ],
)
def test_wrong_commands_are_found(text: str, problem: str) -> None:
    assert problem in "".join(problems(text))


@pytest.mark.parametrize(
    "text",
    [
        "invoke lab.up continues from here",
        f"invoke lab.logs {VALUE} --service {VALUE}",
        "invoke lab.ssh web-01 -- sudo systemctl stop nginx",
        "free space (invoke lab.snapshots shows sizes), then run it again",
    ],
)
def test_right_commands_are_accepted(text: str) -> None:
    assert not problems(text)


# --- no circular advice --------------------------------------------------------------------------


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_hints_of_checks_show_or_fix(name: str) -> None:
    sample = context(name, autopromote=True)
    restartable = {*restart.services(sample), *(m.name for m in sample.lab.machines)}
    for check in checks.checks(sample):
        assert not problems(check.hint), check.name
        for word in re.findall(r"lab\.restart (\S+)", check.hint):
            assert word in restartable, f"{check.name}: {check.hint}"
        named = COMMAND.findall(check.hint)
        assert named, check.name
        assert named[0][0] not in DIAGNOSES, f"{check.name}: {check.hint}"


def test_checks_never_point_back() -> None:
    sources = ("provision/checks/", "provision/services/", "provision/database/role.py")
    wrong = [
        f"{t.where}: {task}"
        for t in texts()
        if t.where.startswith(sources)
        for task, _ in COMMAND.findall(t.text)
        if task in DIAGNOSES
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_tasks_that_show_a_cause_do_not_point_back() -> None:
    wrong = []
    for text in texts():
        module = re.match(r"provision/commands/(\w+)\.py", text.where)
        if not module or not text.task:
            continue
        own = [n for n in SHOWS if n.endswith(f".{text.task}")]
        for name in own:
            for task, _ in COMMAND.findall(text.text):
                if task in DIAGNOSES or (task in SHOWS and task not in SHOWS[name]):
                    wrong.append(f"{text.where}: {name} -> {task}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_a_lost_key_never_leads_to_destroy() -> None:
    wrong = [
        t.where
        for t in texts()
        if "lab.destroy" in t.text and re.search(r"host key|known_hosts", t.text)
    ]
    assert not wrong, "\n" + "\n".join(wrong)


# --- alerts and explanations ---------------------------------------------------------------------


def test_next_commands_of_alerts() -> None:
    scaled = context("scaled")
    (machine,) = scaled.lab.with_role("monitoring")
    groups = yaml.safe_load(monitoring.rules(scaled, machine))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules
    for rule in rules:
        text = re.sub(r"\{\{.*?\}\}", VALUE, rule["annotations"]["next"])
        named = COMMAND.findall(text)
        assert named, rule["alert"]
        assert not problems(text), rule["alert"]
        assert named[0][0] not in {"monitor.alerts", *DIAGNOSES}, rule["alert"]


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize("topic", explain.TOPICS)
def test_commands_of_explain_texts(name: str, topic: str) -> None:
    sample = context(name)
    other = replace(sample, lab=replace(sample.lab, name="two"))
    text = explain.text(other, topic, Observation({}))
    assert COMMAND.search(text)
    assert not problems(text)
    commands = explain.commands(text)
    assert text.rstrip().endswith(commands[-1])
    assert all("--lab two" in command for command in commands)
    assert "{{" not in text
    assert "None" not in text
