"""Log in to the machines of a lab while the command is still preparing its work.

A command that talks to every machine starts their agents first. Python's imports, the templates
and the preflight take as long as that, and run at the same time. For this reason the module imports
neither roles nor checks.
"""

from __future__ import annotations

from provision import topology
from provision.core.lab import Lab
from provision.core.state import State
from provision.engine.fleet import Fleet
from provision.providers.base import Provider


def begin_login(lab: Lab, recorded: State | None, provider: Provider) -> Fleet:
    """The running machines of a lab that has this topology already; their agents are starting.

    Nothing is raised for a machine that cannot be reached: the first operation tries again.
    """
    reference = topology.reference(lab.topology, lab.root)
    same = recorded is not None and not recorded.target and recorded.topology == reference
    reachable = same and not provider.network_problem(lab)
    fleet = Fleet(lab, provider.endpoints(lab) if reachable else {})
    fleet.start()
    return fleet
