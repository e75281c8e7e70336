"""What unit tests of roles, plans and checks stand on: labs never up, and recorded answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from provision import registry as roles
from provision import topology
from provision.checks.observation import Page, Seen
from provision.core.lab import ROOT, Lab
from provision.core.pki import Staged
from provision.core.state import State
from provision.engine.context import Context

RECORDED = ROOT / "tests" / "golden" / "recorded"
"""Answers of a real lab's machines: answers.json by kind and state, seen.json all at one moment."""

PASSWORD = "not-a-password-of-anybody-{}"


class FixedSecrets:
    """Secrets that are the same in every run."""

    def password(self, name: str) -> str:
        """A text in which a leak is easily found."""
        return PASSWORD.format(name)

    def known(self) -> tuple[str, ...]:
        """None are on disk."""
        return ()


class FixedAuthority:
    """Certificates that are the same in every run."""

    def pem(self, *_: Any, **__: Any) -> str:
        """The authority's own."""
        return "-- the authority --\n"

    def issue(self, name: str, *_: Any, **__: Any) -> tuple[str, str]:
        """A certificate and its key."""
        return f"-- certificate of {name} --\n", f"-- key of {name} --\n"

    def staged(self, name: str, *_: Any, **__: Any) -> Staged:
        """A certificate, its key, and both of its successor."""
        return Staged(*self.issue(name), *self.issue(f"{name}.next"))


def context(
    name: str = "distributed",
    *,
    primary: str = "",
    rolling: bool = False,
    root: Path | None = None,
    **state: Any,
) -> Context:
    """A lab of that topology as roles see it.

    Args:
        name: of the topology.
        primary: instead of the topology's own.
        rolling: whether the lab serves already.
        root: a folder for real secrets; without it they are fixed, and nothing is on disk.
        state: more of the record.
    """
    read = topology.load(topology.find(name, ROOT))
    recorded = State(primary=primary or read.primary, topology=name, **state)
    found = Context(Lab("default", root or Path("/checkout"), read), recorded, rolling)
    if root is None:
        found.__dict__["secrets"] = FixedSecrets()
        found.__dict__["authority"] = FixedAuthority()
    return found


def recorded(file: str) -> Any:
    """A recorded file, parsed."""
    return json.loads((RECORDED / file).read_text(encoding="utf-8"))


def answer(kind: str, state: str) -> Mapping[str, Any]:
    """What the probe of that kind answered on a machine in that state."""
    found: Mapping[str, Any] = recorded("answers.json")[kind][state]
    return found


def seen() -> Seen:
    """What was seen of the lab of ``lab.yml``, in which all is well."""
    data = recorded("seen.json")
    for machine in context(str(RECORDED / "lab.yml")).lab.machines:
        # A role that gets one more service need not be recorded anew.
        count = len(roles.services(machine))
        data["answers"][machine.name]["service"] = [
            dict(answer("service", "running")) for _ in range(count)
        ]
    rounds = tuple(tuple(Page(**page) for page in each) for each in data["rounds"])
    pages = {name: Page(**page) for name, page in data["pages"].items()}
    return Seen(data["states"], data["answers"], data["errors"], rounds, pages)
