"""The kinds of things a machine is made of: how each is asked for, compared and made so."""

from provision.resources.files import Directory, File, Gone, Link, Tree
from provision.resources.haproxy import ServerStates
from provision.resources.system import Command, Packages, Service, SidSource, User

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
