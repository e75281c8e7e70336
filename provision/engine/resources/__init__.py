"""The resources that roles declare: each has a probe, a desired state and actions."""

from provision.engine.resources.files import Directory, File, Link, Tree
from provision.engine.resources.ownership import EffectiveUnit, OwnedDirectory
from provision.engine.resources.removal import NoDirectory, NoFile, NoService
from provision.engine.resources.system import HeldPackages, Packages, Service, SidSource, User

__all__ = [
    "Directory",
    "EffectiveUnit",
    "File",
    "HeldPackages",
    "Link",
    "NoDirectory",
    "NoFile",
    "NoService",
    "OwnedDirectory",
    "Packages",
    "Service",
    "SidSource",
    "Tree",
    "User",
]
