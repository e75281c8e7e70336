"""Values of `lb.*`, `app.*`, `dns.*`, `tls.*`, `firewall.*`, `monitor.*` and `box.*`."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from provision.commands.results.lab import BackendServerValues
from provision.commands.results.units import Bytes, Next, PerSecond, Time


class Balancer(TypedDict):
    """The servers as one balancer reports them."""

    balancer: str
    servers: list[BackendServerValues]


class Balancing(TypedDict):
    """How requests are distributed, and to which servers."""

    algorithm: str
    mode: str
    balancers: list[Balancer]


class ReleaseValues(TypedDict):
    """One release."""

    release: str
    current: bool
    machines: Annotated[list[str], "machines that run it"]
    application: Annotated[str, "guest book, or what gunicorn starts"]


class Releases(TypedDict):
    """All stored releases."""

    releases: list[ReleaseValues]


class Deployed(TypedDict):
    """A release that runs on every server."""

    release: str
    before: Annotated[str, "the release before"]
    left_out: Annotated[list[str], "files of the folder that the release does not have, and why"]


class HostLines(TypedDict):
    """Lines of a hosts file."""

    file: str
    lines: list[str]
    changed: bool


class HopValues(TypedDict):
    """One hop of a request."""

    component: str
    location: str
    ok: bool
    details: dict[str, str]


class Trace(TypedDict):
    """One request, hop by hop."""

    path: str
    hops: list[HopValues]


class Certificate(TypedDict):
    """A certificate of the lab."""

    certificate: str
    path: str
    machines: Annotated[list[str], "machines that use it"]
    names: Annotated[list[str], "host names and addresses of the subject"]
    start: Time
    end: Time
    days: Annotated[int, "full days until it expires; negative afterwards"]
    successor: Annotated[bool, "the one that the machine takes when the present one ends"]
    fingerprint: Annotated[str, "SHA-256"]


class HandshakeValues(TypedDict):
    """What a TLS handshake with the site negotiated."""

    version: Annotated[str, "such as TLSv1.3; empty when it failed"]
    cipher: str
    end: Annotated[str, "when the certificate expires; RFC 3339, UTC; empty when it failed"]
    names: list[str]
    error: str


class Certificates(TypedDict):
    """All certificates, and the TLS of the site; null when its network does not exist."""

    certificates: list[Certificate]
    handshake: HandshakeValues | None


class TrustText(TypedDict):
    """The CA certificate, and how each system trusts it."""

    path: str
    fingerprint: str
    end: Time
    text: str


class Discarded(TypedDict):
    """A certificate that the next lab.up issues again."""

    machine: str
    certificate: str
    next: Next


class FirewallRule(TypedDict):
    """One open port of a machine."""

    machine: str
    port: Annotated[int | None, "null for a protocol without ports"]
    protocol: str
    sources: Annotated[list[str], "allowed sources; empty for any"]
    why: str
    connections: Annotated[int | None, "accepted connections; null when the rule is not loaded"]


class Dropped(TypedDict):
    """Packets that no rule accepted."""

    machine: str
    packets: Annotated[int | None, "null when the rules are not loaded"]


class Firewall(TypedDict):
    """Open ports and their counters."""

    rules: list[FirewallRule]
    dropped: list[Dropped]


class AlertValues(TypedDict):
    """One alert."""

    alert: str
    state: Annotated[str, "firing or pending"]
    machine: str
    severity: str
    summary: str
    check: Annotated[str, "the equivalent check of lab.check"]
    next: Next
    since: Time


class Alerts(TypedDict):
    """Firing alerts, and pending ones with --all."""

    alerts: list[AlertValues]


class ScrapeTarget(TypedDict):
    """One target of Prometheus."""

    job: str
    machine: str
    up: bool


class ServerRates(TypedDict):
    """One web server."""

    server: str
    status: Annotated[str, "of the balancer: UP, DOWN, DRAIN …"]
    requests_per_second: PerSecond
    response_seconds: Annotated[float | None, "seconds; null without requests"]
    sessions: Annotated[int | None, "sessions open now; null when unknown"]


class DatabaseRates(TypedDict):
    """One database; null where Prometheus has no value."""

    machine: str
    writable: bool | None
    lag_seconds: float | None
    receiving: bool | None
    applying: bool | None
    semi_sync: bool | None
    queries_per_second: PerSecond


class Monitor(TypedDict):
    """The screen of monitor.show."""

    requests_per_second: PerSecond
    errors_per_second: PerSecond
    targets: list[ScrapeTarget]
    servers: list[ServerRates]
    databases: list[DatabaseRates]
    alerts: list[AlertValues]


class RateLine(TypedDict):
    """Requests per second of one server, the oldest first; null for a missing value."""

    server: str
    requests_per_second: list[float | None]


class Rates(TypedDict):
    """Requests per second over time."""

    seconds: Annotated[float, "the time range, in seconds"]
    step_seconds: Annotated[int, "the time between two values"]
    servers: list[RateLine]


class BoxBuilt(TypedDict):
    """A Vagrant box."""

    path: str
    size_bytes: Bytes
    packages: int
    provider: Literal["libvirt", "virtualbox"]
    architecture: Literal["amd64", "arm64"]
    topologies: Annotated[list[str], "whose packages are in the box"]
    added: Annotated[bool, "whether it was added to Vagrant"]
