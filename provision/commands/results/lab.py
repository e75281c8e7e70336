"""Values of `lab.*`."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from provision.commands.results.units import Bytes, Count, Next, Seconds


class BackendServerValues(TypedDict):
    """One server of the backend, as one balancer reports it."""

    server: str
    status: Annotated[str, "UP, DOWN, DRAIN, MAINT …"]
    check: Annotated[str, "the last health check's result, such as L7OK"]
    weight: Annotated[int, "the effective weight; 0 while drained"]
    sessions: Annotated[int, "sessions open now"]
    sessions_per_second: Annotated[int, "new sessions in the last second"]
    total_sessions: Annotated[int, "sessions since HAProxy started"]
    errors: Annotated[int, "failed connections and responses since HAProxy started"]
    retries: Annotated[int, "requests sent again since HAProxy started"]
    backup: Annotated[bool, "used only while the servers before it are down"]


class DatabaseSummary(TypedDict):
    """The database of one machine; db.status has more."""

    up: bool
    role: Literal["primary", "replica"]
    writable: bool
    semi_sync: NotRequired[Annotated[bool, "primary: commits wait for a replica now"]]
    source: NotRequired[Annotated[str, "replica: the address that it replicates from"]]
    receiving: NotRequired[bool]
    applying: NotRequired[bool]
    lag_seconds: NotRequired[Annotated[int | None, "seconds; null when unknown"]]
    missing: NotRequired[Annotated[int, "transactions of the primary that it lacks"]]
    errant: NotRequired[Annotated[int, "transactions that the primary lacks"]]


class MachineStatus(TypedDict):
    """One machine; only its first four values are present while it cannot be observed."""

    machine: str
    address: str
    roles: list[str]
    state: Annotated[str, "running, halted, killed (its power was cut) or absent"]
    services: NotRequired[Annotated[dict[str, str], "systemd's state by service"]]
    units: NotRequired[Annotated[dict[str, str], "systemd units with a problem, and which"]]
    database: NotRequired[DatabaseSummary]
    servers: NotRequired[list[BackendServerValues]]
    error: NotRequired[Annotated[str, "why it was not observed"]]


class WarningValues(TypedDict):
    """Something that works, and should not be forgotten."""

    machine: str
    what: str
    next: Next


class LabStatusValues(TypedDict):
    """The state of a lab."""

    topology: Annotated[str, "the last one that lab.up has reached"]
    target: Annotated[str, "the one that lab.up works towards; empty when it is reached"]
    provider: str
    network: str
    url: str
    primary: str
    algorithm: str
    mode: str
    machines: list[MachineStatus]
    warnings: Annotated[list[WarningValues], "settings that were changed, and lost redundancy"]


class CheckValues(TypedDict):
    """One named check."""

    check: str
    status: Literal["ok", "failed", "skipped", "warning"]
    machine: str
    service: str
    expected: str
    got: str
    detail: str
    next: Next
    blocked_by: Annotated[list[str], "failed checks that this failure is a consequence of"]
    root_cause: Annotated[str, "the fault, when this check found one that no other explains"]


class Checks(TypedDict):
    """The checks, with counts by status."""

    counts: Annotated[dict[str, int], "of ok, warning, failed and skipped checks"]
    checks: list[CheckValues]


class MachineOutcome(TypedDict):
    """What a run did to one machine."""

    machine: str
    changed_resources: Annotated[list[str], "names of changed resources and reloaded services"]
    unchanged: Count
    seconds: Seconds
    copies: Annotated[list[str], "where files changed by hand were kept before they were replaced"]
    error: Annotated[str, "why the run failed there; empty when it did not"]


class Configured(TypedDict):
    """A configured and checked lab."""

    url: str
    machines: list[MachineOutcome]
    checks: NotRequired[Checks]


class Up(Configured):
    """The result of lab.up."""

    topology: str
    provider: str
    network: str


class AttributeValues(TypedDict):
    """One attribute that differs from its desired value; secret values are empty."""

    attribute: str
    before: str
    after: str
    secret: bool


class ResourceChange(TypedDict):
    """One resource that would change."""

    resource: str
    attributes: list[AttributeValues]


class MachinePlan(TypedDict):
    """What lab.up would change on one machine."""

    machine: str
    state: str
    count: Annotated[int, "changes on this machine"]
    changes: list[ResourceChange]
    services: Annotated[dict[str, str], "services to reload or restart, and which of the two"]
    unreadable: Annotated[dict[str, str], "resources whose state is unknown, and why"]


class PlanValues(TypedDict):
    """What lab.up would change; ``count`` of 0 and no halted machine: nothing."""

    count: Count
    machines: list[MachinePlan]
    overrides: Annotated[list[str], "recorded settings of the balancer that lab.up keeps"]


class LabSummary(TypedDict):
    """One lab of this checkout."""

    lab: str
    topology: Annotated[str, "the last one that lab.up has reached"]
    target: Annotated[str, "the one that lab.up works towards; empty when it is reached"]
    network: str
    provider: str
    running: Annotated[int, "running machines"]
    machines: Annotated[int, "all machines"]


class Labs(TypedDict):
    """All labs of this checkout."""

    labs: list[LabSummary]


class Requirement(TypedDict):
    """One thing that a provider found on this host."""

    provider: str
    severity: Literal["ready", "missing", "note"]
    what: str
    next: Next


class TracedPathValues(TypedDict):
    """One path of a request through the machines."""

    hops: list[str]
    ok: bool
    stops_at: Annotated[str, "the first hop that failed; empty for none"]
    error: str


class OfflineValues(TypedDict):
    """What lab.up needs for one topology without a network."""

    topology: str
    ready: bool
    missing: Annotated[list[str], "images, layers and packages that have not been downloaded"]


class Prefetched(TypedDict):
    """What lab.prefetch has downloaded for offline use."""

    offline: list[OfflineValues]
    size_bytes: Annotated[Bytes, "of the package pool"]


class Doctor(TypedDict):
    """What this host lacks, and the paths of a running lab."""

    provider: str
    reason: Annotated[str, "why this provider is used"]
    ready: bool
    requirements: list[Requirement]
    paths: list[TracedPathValues]
    offline: list[OfflineValues]


class ActionValues(TypedDict):
    """An action on machines or the lab."""

    machines: Annotated[list[str], "the machines that it was about"]
    changed: Annotated[bool, "false when there was nothing to do, or it was not confirmed"]


class Restarted(TypedDict):
    """A rolling restart."""

    target: Annotated[str, "a machine or a service"]


class HostKeysValues(TypedDict):
    """The host keys of one machine as SHA-256 fingerprints; empty when unknown."""

    machine: str
    address: str
    pinned: str
    presented: str
    own: str
    changed: bool


class Rescued(Configured):
    """A machine whose access was restored, and the lab afterwards."""

    machine: str
    repaired: list[str]


class Rebuilt(Configured):
    """A machine that was created again, and the lab afterwards."""

    machine: str


class JournalLines(TypedDict):
    """Lines of a machine's journal, the oldest first."""

    machine: str
    service: str
    lines: list[str]


class Cleanup(TypedDict):
    """What lab.clean removes or restores."""

    plan: list[str]
    changed: bool


class UnusedImageValues(TypedDict):
    """An image or layer that no lab uses."""

    path: str
    size_bytes: Bytes


class Pruned(TypedDict):
    """Unused images; ``removed`` with --yes."""

    images: list[UnusedImageValues]
    size_bytes: Bytes
    removed: bool
