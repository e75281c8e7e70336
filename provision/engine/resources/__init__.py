"""The kinds of things a machine is made of: how each is asked for, compared and made so."""

from provision.engine.resources.files import Directory, File, Gone, Link, Tree
from provision.engine.resources.system import Command, Packages, Service, SidSource, User
from provision.services.haproxy.runtime_state import ServerStates

__all__ = [
    "Command",
    "Directory",
    "File",
    "Gone",
    "Link",
    "Packages",
    "ServerStates",
    "Service",
    "SidSource",
    "Tree",
    "User",
]
