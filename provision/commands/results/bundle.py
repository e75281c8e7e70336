"""Values of `bundle.*`."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from provision.commands.results.units import Bytes, Time


class BundleValues(TypedDict):
    """A bundle that was written or verified."""

    file: str
    size_bytes: Bytes
    created: Annotated[Time, "the time of its newest part"]
    commit: Annotated[str, "of the project in it"]
    key: Annotated[str, "fingerprint of the key that signs it"]
    bundled_topologies: list[str]
    bundled_providers: list[str]
    architectures: Annotated[list[str], "of hosts, as Debian names them"]
    host_releases: Annotated[list[str], "Debian releases of hosts"]
    platforms: Annotated[list[str], "with wheels"]
    tests: Annotated[bool, "whether it has what scripts/test needs"]
    learners: Annotated[bool, "whether the solutions of drills are left out"]
    entries: Annotated[int, "the number of files in it"]


class NewerVersion(TypedDict):
    """Something of which a newer version exists."""

    kind: Literal["debian", "python", "project"]
    package: str
    where: Annotated[str, "release and architecture, or the lock file"]
    bundled: str
    newest: str


class OutdatedBundle(TypedDict):
    """What has newer versions than those in a bundle."""

    file: str
    newer: list[NewerVersion]
