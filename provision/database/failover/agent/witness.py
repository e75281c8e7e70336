"""On the balancer: lab-autopromote.service, the third party of autopromote.py.

It hears the guards of the database machines, asks the primary's database itself, and keeps its word
in a file that is on the disk before anybody hears of it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from provision.database.failover.agent import wire
from provision.database.failover.agent.rules import Supervisor, Word, report, values, word

CONFIG = "/etc/foobar-lab/autopromote.json"
"""``address``, ``secret`` and ``databases`` (name to address)."""

WORD = "/var/lib/foobar-lab/autopromote-word.json"
PROBE = 0.5


def now() -> float:
    """Seconds that go on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def load(path: str = WORD) -> Word:
    """The word as it is on the disk; without one, numbers begin at the time of day."""
    try:
        with open(path) as file:
            return word(json.load(file))
    except FileNotFoundError:
        return Word(serial=int(time.time()))


def save(what: Word, path: str = WORD) -> None:
    """Put the word on the disk; when this returns, it is there."""
    with open(f"{path}.new", "w") as file:
        json.dump(values(what), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.new", path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Daemon:
    """The supervisor with its file and its probes."""

    def __init__(self, config: dict[str, Any], path: str = WORD) -> None:
        self.config, self.path = config, path
        self.party = Supervisor(load(path), now())
        self.mutex = threading.Lock()
        self.saved = self.party.word
        self.failed = 0
        self.probed = ""
        self._said = ""

    def say(self, text: str, level: int = 5) -> None:
        """Tell the journal, once as long as it stays the same."""
        if text != self._said:
            self._said = text
            print(f"<{level}>{text}", flush=True)

    def keep(self) -> None:
        """Write the word down if it changed; what cannot be written ends the process."""
        if self.party.word != self.saved:
            try:
                save(self.party.word, self.path)
            except OSError as error:
                print(f"<2>{self.path} cannot be written: {error}", flush=True)
                os._exit(1)
            before, self.saved = self.saved, self.party.word
            self._tell(before, self.saved)

    def _tell(self, before: Word, after: Word) -> None:
        if after.epoch != before.epoch:
            self.say(f"{after.primary} takes writes since epoch {after.epoch}")
        elif after.order and not before.order:
            self.say(f"{after.primary} is dead: the replica is told to take its place", 2)
        elif before.order and not after.order:
            self.say(f"the replica refused to take the place of {after.primary}", 4)
        elif bool(after.promotable) != bool(before.promotable):
            is_ = "is promotable" if after.promotable else "is not promotable"
            self.say(f"the replica of {after.primary} {is_}")

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer a guard."""
        said = report(question)
        if said.machine not in self.config["databases"]:
            return {}
        with self.mutex:
            known, granted = self.party.hear(said, now())
            self.keep()
            return {"word": values(known), "granted": granted}

    def look(self) -> None:
        """Probe the primary's database and consider."""
        address = self.config["databases"].get(self.party.word.primary)
        if address is None:
            return
        if address != self.probed:
            self.probed, self.failed = address, 0
        self.failed = 0 if wire.greets(address) else self.failed + 1
        with self.mutex:
            why = self.party.consider(self.failed, now())
            self.keep()
        if self.failed >= 3 and why:
            self.say(f"{self.party.word.primary} does not answer, and is not replaced: {why}", 4)


def main() -> int:
    """Supervise until told to stop."""
    with open(CONFIG) as file:
        config = json.load(file)
    daemon = Daemon(config)
    wire.serve(config["address"], config["secret"], daemon.answer)
    while True:
        daemon.look()
        time.sleep(PROBE)


if __name__ == "__main__":
    sys.exit(main())
