"""The firewall's rules as one resource, and their absence."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import ClassVar

from provision.engine.agent.files import PathFacts
from provision.engine.agent.protocol import Action, Probe
from provision.engine.plan import Resource, State
from provision.engine.resources.files import Absent
from provision.services.firewall.agent.trial import FirewallFacts, firewall_probe


@dataclass(frozen=True)
class Ruleset(Resource[FirewallFacts]):
    """The table ``inet lab`` in the kernel, and the file that loads it at boot.

    The kernel's listing differs in text from what was loaded. So the machine records digests of
    both when rules are confirmed, and a table that was changed or flushed by hand is detected.

    Args:
        text: for ``nft -f``; it replaces the whole table.
        ssh: addresses and networks that may connect to sshd.
        window: seconds until rules that were not confirmed are rolled back.
    """

    path: str
    text: str = field(repr=False)
    ssh: tuple[str, ...]
    window: int

    name: ClassVar[str] = "firewall rules"

    @property
    def _table(self) -> str:
        """The new table, without the commands that replace the old one."""
        return self.text[self.text.index("table inet lab {") :]

    def probe(self) -> Probe[FirewallFacts]:
        return firewall_probe(self.path)

    def expected(self) -> State:
        return {"state": "rules are loaded", "content": self._table, "at boot": "the same"}

    def actual(self, result: FirewallFacts) -> State:
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        confirmed = result.confirmed == digest and result.unchanged
        loaded = "rules are loaded" if result.listing else "no rules are loaded: all ports are open"
        at_boot = "the same" if result.file == self.text else "other rules"
        return {
            "state": loaded,
            "content": self._table if confirmed or not result.listing else result.listing,
            "at boot": at_boot if result.file else "none",
        }

    def actions(self, result: FirewallFacts) -> list[Action]:
        rules = {"path": self.path, "text": self.text}
        return [Action("firewall", {**rules, "ssh": list(self.ssh), "window": self.window})]


@dataclass(frozen=True)
class NoRuleset(Absent):
    """No table and no file; the file is removed last, so its absence shows both."""

    path: str

    name: ClassVar[str] = "no firewall rules"

    @property
    def marker(self) -> str:
        return self.path

    def actions(self, result: PathFacts) -> list[Action]:
        return [Action("remove-firewall", {"path": self.path})]
