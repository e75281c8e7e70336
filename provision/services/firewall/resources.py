"""The firewall's rules as one resource, and their absence."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, ClassVar

from provision.engine.plan import Answer, Resource, State
from provision.engine.resources.files import Absent


@dataclass(frozen=True)
class Ruleset(Resource):
    """The table ``inet lab`` as the kernel has it, and the file that brings it back at boot.

    What the kernel lists is not what was loaded, word for word; so the machine records a digest of
    both when rules are confirmed, and a table that was changed or flushed by hand is noticed.

    Args:
        path: of the file.
        text: for ``nft -f``; it replaces the whole table.
        ssh: addresses and networks that may reach sshd by these rules.
        window: seconds in which the rules must be confirmed over a new connection.
    """

    path: str
    text: str = field(repr=False)
    ssh: tuple[str, ...]
    window: int

    kind: ClassVar[str] = "firewall"

    @property
    def name(self) -> str:
        """``firewall rules``."""
        return "firewall rules"

    @property
    def _table(self) -> str:
        """The text from where the new table begins: what the kernel would list."""
        return self.text[self.text.index("table inet lab {") :]

    def question(self) -> dict[str, Any]:
        """The file's path."""
        return {"path": self.path}

    def expected(self) -> State:
        """These rules, now and after a reboot."""
        return {"content": self._table, "at boot": "the same"}

    def actual(self, answer: Answer) -> State:
        """The rules as the kernel lists them, unless they are those that were confirmed."""
        ours = hashlib.sha256(self.text.encode()).hexdigest()
        loaded = answer["confirmed"] == ours and answer["unchanged"]
        at_boot = "the same" if answer["file"] == self.text else "other rules"
        return {
            "content": self._table if loaded else answer["listing"],
            "at boot": at_boot if answer["file"] else "none",
        }

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Load them on trial."""
        return [
            {
                "do": "firewall",
                "path": self.path,
                "text": self.text,
                "ssh": list(self.ssh),
                "window": self.window,
            }
        ]


@dataclass(frozen=True)
class NoRuleset(Absent):
    """No table of ours, and no file for it. The file goes last, so it alone has to be asked for.

    Args:
        path: of the file.
    """

    path: str

    @property
    def name(self) -> str:
        """``no firewall rules``."""
        return "no firewall rules"

    def place(self) -> str:
        """The file."""
        return self.path

    def actions(self, answer: Answer) -> list[dict[str, Any]]:
        """Remove table and file."""
        return [{"do": "no_firewall", "path": self.path}]
