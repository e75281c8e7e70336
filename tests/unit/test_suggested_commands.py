"""Commands that checks, alerts and explain texts suggest: each names a task that exists."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import yaml

from provision import checks, topology
from provision.checks.observation import Observation
from provision.monitoring import role as monitoring
from provision.teaching import explain
from tasks import namespace
from tests.unit.samples import context

COMMAND = re.compile(r"\binvoke ([a-z]+\.[a-z-]+)")
TOPOLOGIES = topology.names()


def unknown_tasks(text: str) -> set[str]:
    """Tasks in a text that do not exist; the text must name one at least."""
    names = set(COMMAND.findall(text))
    assert names, f"no command in {text!r}"
    return names - set(namespace.task_names)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_hints_of_checks(name: str) -> None:
    for check in checks.checks(context(name, autopromote=True)):
        assert not unknown_tasks(check.hint), check.name


def test_next_commands_of_alerts() -> None:
    scaled = context("scaled")
    (machine,) = scaled.lab.with_role("monitoring")
    groups = yaml.safe_load(monitoring.rules(scaled, machine))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules
    for rule in rules:
        assert not unknown_tasks(rule["annotations"]["next"]), rule["alert"]


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize("topic", explain.TOPICS)
def test_commands_of_explain_texts(name: str, topic: str) -> None:
    sample = context(name)
    other = replace(sample, lab=replace(sample.lab, name="two"))
    text = explain.text(other, topic, Observation({}))
    assert not unknown_tasks(text)
    commands = explain.commands(text)
    assert text.rstrip().endswith(commands[-1])
    assert all("--lab two" in command for command in commands)
    assert "{{" not in text
    assert "None" not in text
