"""The monitoring server: Prometheus asks, Alertmanager tells, a page draws."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from provision.core.errors import for_lab
from provision.core.lab import ROOT, Lab, Machine
from provision.core.package_set import PackageSet
from provision.engine.context import Allow, Context
from provision.engine.plan import Unit
from provision.engine.resources import File, Gone, Service
from provision.engine.resources.removal import NoDirectory, NoService
from provision.monitoring.exporters import HAPROXY, exporters
from provision.services.keepalived import role as keepalived

SERVICE = "prometheus.service"
ALERTMANAGER = "prometheus-alertmanager.service"
ALERTS, PAGE = "lab-alerts.service", "lab-monitor.service"
PROMETHEUS_PORT, ALERTMANAGER_PORT, ALERTS_PORT = 9090, 9093, 9099
"""On the loopback address alone: nobody else asks."""

PAGE_PORT = 9000
CONFIG, RULES = "/etc/prometheus/lab.yml", "/etc/prometheus/lab-rules.yml"
ALERTMANAGER_CONFIG = "/etc/prometheus/lab-alertmanager.yml"
UNITS = "/etc/systemd/system"
CODE = "/usr/local/lib/foobar-lab/monitoring"

LAG, DISK = 5, 90
"""When a replica lags (seconds) and a disk is full (percent): as the named checks say."""

ERRORS = 0.05
"""The share of users' requests that may fail."""

CERTIFICATE = 14 * 86400
"""Seconds before a certificate's end; it should have been renewed 30 days before."""

BACKUP = 26 * 3600
"""Seconds; a backup is made every night."""

_MYSQL = (
    "mysql_up|mysql_version_info|mysql_slave_status_.*"
    "|mysql_global_status_(queries|questions|connections|slow_queries|threads_.*|uptime|rpl_.*)"
    "|mysql_global_variables_(read_only|super_read_only|max_connections|server_id)"
)
_HAPROXY = (
    "haproxy_(frontend|backend|server)_(status|http_responses_total|current_sessions|weight"
    "|response_time_average_seconds|total_time_average_seconds|queue_time_average_seconds"
    "|check_status|retry_warnings_total|redispatch_warnings_total|bytes_.*_total"
    "|http_requests_total|check_failures_total|active_servers)"
)


@dataclass(frozen=True)
class Job:
    """What Prometheus scrapes under one name.

    Args:
        name: of the job.
        targets: machine name and ``address:port``.
        keep: which metrics are kept, as a regular expression; empty for all.
        scopes: HAProxy's exporter is asked for these only.
    """

    name: str
    targets: tuple[tuple[str, str], ...]
    keep: str = ""
    scopes: tuple[str, ...] = ()


def jobs(lab: Lab) -> tuple[Job, ...]:
    """Everything that is scraped in a lab, without jobs that have no target."""
    found: dict[str, list[tuple[str, str]]] = {}
    for machine in lab.with_role("exporters"):
        wanted = [(job, port) for job, _, port in exporters(machine)]
        if "haproxy" in machine.roles:
            wanted.append(("haproxy", HAPROXY))
        for job, port in wanted:
            found.setdefault(job, []).append((machine.name, f"{machine.address}:{port}"))
    keep = {"mysql": _MYSQL, "haproxy": _HAPROXY, "nginx": "nginx_.*", "node": "node_.*|lab_.*"}
    scopes = {"haproxy": ("frontend", "backend", "server")}
    return tuple(
        Job(name, tuple(targets), keep[name], scopes.get(name, ()))
        for name, targets in sorted(found.items())
    )


def packages(context: Context, machine: Machine) -> PackageSet:
    """Prometheus, Alertmanager and a chart library from Debian."""
    return PackageSet(("libjs-chart.js", "prometheus", "prometheus-alertmanager"))


def page_address(lab: Lab, machine: Machine) -> str:
    """Where the page listens: the loopback address when every balancer is this machine."""
    alone = all(m == machine for m in lab.with_role("haproxy")) and "haproxy" in machine.roles
    return "127.0.0.1" if alone else str(machine.address)


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """The page, for balancers on other machines: whichever has visitors shows it."""
    others = tuple(str(m.address) for m in context.lab.with_role("haproxy") if m != machine)
    if not others:
        return ()
    return (Allow(PAGE_PORT, others, "the monitoring page for the balancer"),)


def rules(context: Context, machine: Machine) -> str:
    """The alert rules; the commands in them name the lab."""
    text = context.render(
        "monitoring/rules.yml.j2",
        machine,
        monitor=machine.name,
        holders=[m.name for m in context.lab.with_role("keepalived")],
        interface=keepalived.interface(context),
        databases=len(context.lab.with_role("mysql")),
        lag=LAG,
        disk=DISK / 100,
        errors=ERRORS,
        certificate=CERTIFICATE,
        backup=BACKUP,
    )
    return for_lab(text, context.lab.name)


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The receiver of alerts first, then who sends them, then who decides, then the page."""
    return (
        _program(
            context,
            machine,
            ALERTS,
            "Alerts, written to the journal (Alertmanager's web hook)",
            ("alerts",),
            ALERTS_PORT,
            "127.0.0.1",
            "/ready",
        ),
        _alertmanager(context, machine),
        _prometheus(context, machine),
        _program(
            context,
            machine,
            PAGE,
            "The monitoring page",
            ("page", page_address(context.lab, machine), str(PAGE_PORT), context.lab.name),
            PAGE_PORT,
            page_address(context.lab, machine),
            "/_monitor/",
        ),
    )


def _alertmanager(context: Context, machine: Machine) -> Unit:
    words = [
        "/usr/bin/prometheus-alertmanager",
        f"--config.file={ALERTMANAGER_CONFIG}",
        "--storage.path=/var/lib/prometheus/alertmanager",
        f"--web.listen-address=127.0.0.1:{ALERTMANAGER_PORT}",
        "--cluster.listen-address=",
        "--data.retention=24h",
        "--log.level=warn",
    ]
    config = context.render(
        "monitoring/alertmanager.yml.j2", machine, receiver=f"127.0.0.1:{ALERTS_PORT}"
    )
    return Unit(
        "alertmanager",
        (
            File(ALERTMANAGER_CONFIG, config),
            _drop_in(context, machine, ALERTMANAGER, words, 96),
            Service(ALERTMANAGER),
        ),
        service=ALERTMANAGER,
        activate="restart",
        validate=("amtool", "check-config", ALERTMANAGER_CONFIG),
        wait=_ready("Alertmanager", "127.0.0.1", ALERTMANAGER_PORT, "/-/ready"),
    )


def _prometheus(context: Context, machine: Machine) -> Unit:
    words = [
        "/usr/bin/prometheus",
        f"--config.file={CONFIG}",
        # Not Debian's own folder: a Prometheus that starts before it is configured writes there.
        "--storage.tsdb.path=/var/lib/prometheus/lab",
        "--storage.tsdb.retention.time=2d",
        "--storage.tsdb.retention.size=128MB",
        f"--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}",
        "--rules.alert.resend-delay=15s",
        "--query.lookback-delta=30s",
        "--query.max-concurrency=4",
        "--query.timeout=10s",
        "--log.level=warn",
    ]
    config = context.render(
        "monitoring/prometheus.yml.j2", machine, jobs=jobs(context.lab), rules=RULES
    )
    return Unit(
        "prometheus",
        (
            File(RULES, rules(context, machine)),
            File(CONFIG, config),
            _drop_in(context, machine, SERVICE, words, 256),
            Service(SERVICE),
        ),
        service=SERVICE,
        activate="restart",
        validate=("promtool", "check", "config", CONFIG),
        # Otherwise it would report machines that are being configured as faults.
        needs=tuple(
            f"{m.name}/exporter-{job}"
            for m in context.lab.with_role("exporters")
            if m != machine
            for job, _, _ in exporters(m)
        ),
        wait=_ready("Prometheus", "127.0.0.1", PROMETHEUS_PORT, "/-/ready"),
    )


def _drop_in(
    context: Context, machine: Machine, service: str, words: list[str], memory: int
) -> File:
    text = context.render(
        "monitoring/service.conf.j2",
        machine,
        command=words,
        writes="/var/lib/prometheus",
        memory=memory,
    )
    return File(f"{UNITS}/{service}.d/lab.conf", text)


def _program(
    context: Context,
    machine: Machine,
    service: str,
    description: str,
    command: tuple[str, ...],
    port: int,
    address: str,
    path: str,
) -> Unit:
    """One of our own small services."""
    module, *words = command
    name = service.removesuffix(".service")
    text = context.render(
        "monitoring/lab-program.service.j2",
        machine,
        description=description,
        command=["/usr/bin/python3", "-m", f"provision.monitoring.agent.{module}", *words],
        code=CODE,
        name=name,
    )
    return Unit(
        name,
        (
            *(File(f"{CODE}/{file}", content) for file, content in _files(module)),
            File(f"{UNITS}/{service}", text),
            Service(service),
        ),
        service=service,
        activate="restart",
        wait=_ready(description, address, port, path),
    )


@cache
def _files(module: str) -> tuple[tuple[str, str], ...]:
    """What one of the programs consists of: path below `CODE`, content."""
    folder = ROOT / "provision" / "monitoring" / "agent"
    paths = [folder / "__init__.py", folder / f"{module}.py"]
    if module == "page":
        paths += [folder / "queries.py", *(folder / "static").iterdir()]
    found = [("provision/__init__.py", ""), ("provision/monitoring/__init__.py", "")]
    for path in sorted(paths):
        relative = path.relative_to(ROOT).as_posix()
        found.append((relative, path.read_text(encoding="utf-8")))
    return tuple(found)


def _ready(name: str, address: str, port: int, path: str) -> dict[str, object]:
    return {
        "name": name,
        "http": {"address": address, "port": port, "path": path},
        "statuses": [200],
        "deadline": 30,
    }


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """Nothing of it runs, and its files are gone; Debian's packages and old numbers stay."""
    debian = (SERVICE, ALERTMANAGER)
    files = [CONFIG, RULES, ALERTMANAGER_CONFIG]
    files += [f"{UNITS}/{service}.d/lab.conf" for service in debian]
    stopped = (
        NoService(PAGE),
        NoService(ALERTS),
        *(Service(name, running=False) for name in debian),
    )
    return (Unit("no-monitoring", (*stopped, *(Gone(path) for path in files), NoDirectory(CODE))),)
