"""An opened lab: its desired state, its recorded state, and the provider of its machines."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from provision import providers
from provision.core.errors import LabError, UsageError, not_among
from provision.core.interrupted_restore import refuse_interrupted
from provision.core.lab import DEFAULT_LAB, Lab
from provision.core.locks import lab_lock
from provision.core.report import Report
from provision.core.state import State, lab_names
from provision.core.suggestions import suggestion
from provision.engine.fleet import Fleet, quiet, running
from provision.operations import power_cuts
from provision.providers.base import Provider
from provision.providers.package_pool import open_pool
from provision.topology.labs import open_lab

if TYPE_CHECKING:
    from provision.engine.context import Context


@dataclass(frozen=True)
class Session:
    """A lab that a command works on."""

    lab: Lab
    state: State
    provider: Provider

    @property
    def context(self) -> Context:
        """What roles need to declare their desired state."""
        from provision import registry  # after `fleet`, so that machines start in the meantime

        return registry.context(self.lab, self.state)

    def fleet(self, report: Report = quiet) -> Fleet:
        """The running machines, over SSH.

        Raises:
            LabError: when no machine runs, the lab's network does not exist, or a restore was
                interrupted.
        """
        refuse_interrupted(self.lab.directory)
        return running(self.lab, self.provider, report, open_pool())

    def machine_states(self) -> dict[str, str]:
        """By machine: ``running``, ``halted``, ``killed`` (see `lab.kill`) or ``absent``."""
        return power_cuts.with_killed(self.lab.directory, self.provider.state(self.lab))

    def thaw(self) -> tuple[str, ...]:
        """Continue machines that a killed ``lab.snapshot`` left frozen; returns their names.

        Nothing is done while another command works on the lab: it may be taking a snapshot.
        """
        frozen = tuple(self.provider.frozen_machines(self.lab))
        if not frozen:
            return ()
        try:
            with self.lock():
                self.provider.thaw(self.lab, frozen)
        except LabError:
            return ()
        return frozen

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Exclude other commands from this lab.

        Raises:
            LabError: at once, when another command holds the lock.
        """
        return lab_lock(self.lab.directory)


def lab_name(option: str) -> str:
    """The option ``--lab``, otherwise ``LAB_NAME``, otherwise ``default``."""
    return option or os.environ.get("LAB_NAME", "") or DEFAULT_LAB


def refuse_misspelled(name: str) -> None:
    """Refuse the name of a lab that does not exist when that of another lab is similar.

    Raises:
        UsageError: with the names of all labs.
    """
    names = lab_names()
    if name not in names and suggestion(name, names):
        raise not_among(f"there is no lab {name}", name, names)


def open_session(name: str = "") -> Session:
    """Open a lab that `lab.up` has recorded.

    Raises:
        UsageError: when there is no such lab.
    """
    lab, recorded = open_lab(lab_name(name))
    if recorded is None:
        refuse_misspelled(lab.name)
        raise UsageError(f"there is no lab {lab.name} yet", "invoke lab.up")
    return Session(lab, recorded, providers.for_state(recorded))
