"""Choose a drill's variables by a seed, and render its templates for one lab."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jinja2

from provision.core.errors import LabError
from provision.core.lab import Lab
from provision.drills.drill import (
    BreakStep,
    Disruption,
    Drill,
    DrillProbe,
    Exercise,
    Expectation,
    ExpectedCause,
    Hint,
    LoadProbe,
    TypedLines,
)

LOWEST_AGE, HIGHEST_AGE = 20, 95
"""Minutes before the start at which the fault was made, as files and stories say."""


class RenderError(LabError):
    """A template of a drill cannot be rendered.

    Args:
        where: the path of the key, such as ``break[0].run``; empty for the story.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where or 'the story'}: {problem}")
        self.where = where


@dataclass(frozen=True)
class LabValues:
    """What a drill's variables depend on besides the seed.

    Args:
        primary: the machine whose database is writable.
        changed: the time of day of the fault, such as ``14:20``.
    """

    lab: Lab
    primary: str
    changed: str = "14:20"


@cache
def environment() -> jinja2.Environment:
    """Jinja for drills: comments start with ``{##``, because shells use ``${#name}``."""
    return jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        comment_start_string="{##",
        comment_end_string="##}",
    )


def age_minutes(seed: str) -> int:
    """How long ago the fault was made, in minutes."""
    return random.Random(f"age {seed}").randint(LOWEST_AGE, HIGHEST_AGE)


def render(drill: Drill, lab_values: LabValues, seed: str) -> Exercise:
    """The drill in a lab with a seed; the same seed gives the same exercise.

    Raises:
        RenderError: naming the key whose template or variable is wrong.
    """
    variables = select(drill, lab_values, seed)
    front: dict[str, Any] = _rendered(dict(drill.front), variables, "")
    story = _text(drill.story, variables, "")
    lesson = front["lesson"]
    # A copy of the project for learners has no wrong fix and no solution.
    wrong = front.get("wrong_fix", {"why": "", "steps": []})
    forbidden = front.get("forbidden", [])
    return Exercise(
        id=drill.id,
        title=front["title"],
        level=drill.level,
        minutes=drill.minutes,
        layer=drill.layer,
        seed=seed,
        story=story,
        variables=variables,
        steps=tuple(BreakStep(**step) for step in front["break"]),
        symptoms=tuple(_probe(p, f"symptoms[{n}]") for n, p in enumerate(front["symptoms"])),
        cause=ExpectedCause(**front["root_cause"]),
        proofs=tuple(_probe(p, f"proofs[{n}]") for n, p in enumerate(front["proofs"])),
        shortcuts=tuple(item for item in forbidden if isinstance(item, str)),
        guarded=tuple(_probe(item, "forbidden") for item in forbidden if isinstance(item, dict)),
        hints=tuple(_hint(item, f"hints[{n}]") for n, item in enumerate(front["hints"])),
        solution=_typed(front.get("solution", [])),
        wrong_fix=_typed(wrong["steps"]),
        wrong_why=wrong["why"],
        lesson=lesson["text"],
        explain=lesson["explain"],
        plan=front.get("plan", ""),
    )


def select(drill: Drill, lab_values: LabValues, seed: str) -> dict[str, Any]:
    """The variables of a drill, those of its lab included.

    Raises:
        RenderError: when a machine with a role does not exist, or a template is wrong.
    """
    lab = lab_values.lab
    databases = [machine.name for machine in lab.with_role("mysql")]
    values: dict[str, Any] = {
        "site": lab.site,
        "domain": lab.topology.domain,
        "url": lab.url,
        "topology": lab.topology.name,
        "https": lab.topology.https,
        "balancer": lab.front.name,
        "primary": lab_values.primary,
        "replicas": [name for name in databases if name != lab_values.primary],
        "address": {machine.name: str(machine.address) for machine in lab.machines},
        "gateway": str(lab.gateway),
        "changed": lab_values.changed,
    }
    for name, declared in drill.front.get("vars", {}).items():
        source = random.Random(f"{drill.id} {name} {seed}")
        values[name] = _variable(declared, values, lab_values, source, f"vars.{name}")
    return values


def _variable(
    declared: Any,
    values: Mapping[str, Any],
    lab_values: LabValues,
    source: random.Random,
    where: str,
) -> Any:
    if not isinstance(declared, dict):
        return _rendered(declared, values, where)
    if "pick" in declared:
        return _rendered(source.choice(declared["pick"]), values, where)
    if "port" in declared:
        low, high = declared["port"]
        if low > high:
            raise RenderError(where, f"the range {low} to {high} is empty")
        return source.randint(low, high)
    if "token" in declared:
        return "".join(source.choices("0123456789abcdef", k=declared["token"]))
    excluded = declared.get("except", "")
    if excluded and excluded not in values:
        raise RenderError(where, f"except: there is no variable {excluded!r} before this one")
    role = declared["machine"]
    names = [n for n in _machines(lab_values, role) if n != values.get(excluded, "")]
    if not names:
        others = f" other than {values[excluded]}" if excluded else ""
        raise RenderError(
            where,
            f"topology {lab_values.lab.topology.name} has no machine with role {role}{others}",
        )
    return source.choice(names)


def _machines(lab_values: LabValues, role: str) -> Sequence[str]:
    if role == "primary":
        return [lab_values.primary] if lab_values.primary else []
    if role == "replica":
        databases = lab_values.lab.with_role("mysql")
        return [machine.name for machine in databases if machine.name != lab_values.primary]
    return [machine.name for machine in lab_values.lab.with_role(role)]


def _rendered(value: Any, values: Mapping[str, Any], where: str) -> Any:
    if isinstance(value, str):
        return _text(value, values, where)
    if isinstance(value, dict):
        return {
            key: item if where == "vars" else _rendered(item, values, _path(where, key))
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_rendered(item, values, f"{where}[{n}]") for n, item in enumerate(value)]
    return value


def _path(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _text(text: str, values: Mapping[str, Any], where: str) -> str:
    try:
        return environment().from_string(text).render(values)
    except jinja2.UndefinedError as error:
        raise RenderError(where, f"template: {error.message}") from None
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        raise RenderError(where, f"template: {error}") from None


def _probe(front: Mapping[str, Any], where: str) -> DrillProbe:
    expect = dict(front.get("expect", {}))
    expect["servers"] = tuple(expect.get("servers", ()))
    for key in ("output", "absent"):
        _compile(expect.get(key, ""), f"{where}.expect.{key}")
    for name, pattern in expect.get("headers", {}).items():
        _compile(pattern, f"{where}.expect.headers.{name}")
    load = front.get("load")
    return DrillProbe(
        name=front.get("name", ""),
        check=front.get("check", ""),
        get=front.get("get", ""),
        run=front.get("run", ""),
        load=LoadProbe(**load) if load is not None else None,
        machine=front.get("machine", ""),
        times=front.get("times", 1),
        expect=Expectation(**expect),
        after=_disruption(front.get("after", "")),
    )


def _compile(pattern: str, where: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise RenderError(where, f"{pattern!r} is no regular expression: {error}") from None


def _disruption(text: str) -> Disruption | None:
    words = text.split()
    if not words:
        return None
    if words[0] == "restart":
        return Disruption("restart", words[2], words[1])
    return Disruption(words[0], words[1] if len(words) > 1 else "")


def _hint(item: Any, where: str) -> Hint:
    if isinstance(item, str):
        return Hint(item)
    only_if, unless = (
        _probe(item[key], f"{where}.{key}") if key in item else None for key in ("if", "unless")
    )
    return Hint(item["text"], only_if, unless)


def _typed(front: Sequence[Mapping[str, str]]) -> tuple[TypedLines, ...]:
    return tuple(
        TypedLines(step["machine"], tuple(step["type"].strip("\n").split("\n"))) for step in front
    )
