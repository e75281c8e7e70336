"""The role ``monitoring``: Prometheus, Alertmanager, the alert log and the monitoring page."""

from __future__ import annotations

from typing import Any

from provision.core.hints import for_lab
from provision.core.lab import ROOT, Lab, Machine
from provision.core.package_set import PackageSet
from provision.core.thresholds import (
    BACKUP_AGE_SECONDS,
    CERTIFICATE_SECONDS,
    DISK_USED_PERCENT,
    ERROR_RATE,
    REPLICATION_LAG_SECONDS,
)
from provision.engine.agent.protocol import HttpRequest, Readiness
from provision.engine.context import Context
from provision.engine.payload import programs
from provision.engine.plan import Resource, Unit
from provision.engine.resources import File, NoFile, Service
from provision.engine.resources.removal import NoDirectory, NoService
from provision.engine.role import Allow, Role
from provision.monitoring.agent.ports import ALERTS_PORT
from provision.monitoring.agent.prometheus import PORT as PROMETHEUS_PORT
from provision.monitoring.exporters import exporters
from provision.monitoring.scrape import jobs
from provision.services.keepalived import interface as keepalived

SERVICE = "prometheus.service"
ALERTMANAGER = "prometheus-alertmanager.service"
ALERTS, PAGE = "lab-alerts.service", "lab-monitor.service"

LOOPBACK = "127.0.0.1"
"""All parts but the page listen here only."""

ALERTMANAGER_PORT = 9093
PAGE_PORT = 9000
CONFIG, RULES = "/etc/prometheus/lab.yml", "/etc/prometheus/lab-rules.yml"
ALERTMANAGER_CONFIG = "/etc/prometheus/lab-alertmanager.yml"
UNITS = "/etc/systemd/system"
CODE = "/usr/local/lib/foobar-lab/monitoring"


def packages(context: Context, machine: Machine) -> PackageSet:
    """Prometheus, Alertmanager and Chart.js from Debian."""
    return PackageSet(("libjs-chart.js", "prometheus", "prometheus-alertmanager"))


def page_address(lab: Lab, machine: Machine) -> str:
    """Where the page listens: on loopback when this machine is the only balancer."""
    only = all(m == machine for m in lab.with_role("haproxy")) and "haproxy" in machine.roles
    return LOOPBACK if only else str(machine.address)


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """The page, for balancers on other machines, which proxy it."""
    others = tuple(str(m.address) for m in context.lab.with_role("haproxy") if m != machine)
    if not others:
        return ()
    return (Allow(PAGE_PORT, others, "the monitoring page for the balancer"),)


def rules(context: Context, machine: Machine) -> str:
    """The alert rules; commands in them name the lab."""
    text = context.render(
        "monitoring/rules.yml.j2",
        machine,
        monitor=machine.name,
        holders=[m.name for m in context.lab.with_role("keepalived")],
        interface=keepalived.network_interface(context),
        databases=len(context.lab.with_role("mysql")),
        lag=REPLICATION_LAG_SECONDS,
        disk=DISK_USED_PERCENT / 100,
        errors=ERROR_RATE,
        certificate=CERTIFICATE_SECONDS,
        backup=BACKUP_AGE_SECONDS,
    )
    return for_lab(text, context.lab.name)


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The alert log before Alertmanager, Alertmanager before Prometheus, then the page."""
    address = page_address(context.lab, machine)
    log = _ready("the alert log (Alertmanager's webhook receiver)", LOOPBACK, ALERTS_PORT, "/ready")
    page = _ready("the monitoring page", address, PAGE_PORT, "/_monitor/")
    limits = (str(REPLICATION_LAG_SECONDS), str(ERROR_RATE))
    lab = context.lab
    arguments = (address, str(PAGE_PORT), lab.name, lab.site, lab.topology.name, *limits)
    return (
        _program(context, machine, ALERTS, "alerts", log),
        _alertmanager(context, machine),
        _prometheus(context, machine),
        _program(context, machine, PAGE, "page", page, *arguments),
    )


def _alertmanager(context: Context, machine: Machine) -> Unit:
    command = [
        "/usr/bin/prometheus-alertmanager",
        f"--config.file={ALERTMANAGER_CONFIG}",
        "--storage.path=/var/lib/prometheus/alertmanager",
        f"--web.listen-address={LOOPBACK}:{ALERTMANAGER_PORT}",
        "--cluster.listen-address=",
        "--data.retention=24h",
        "--log.level=warn",
    ]
    config = context.render(
        "monitoring/alertmanager.yml.j2", machine, receiver=f"{LOOPBACK}:{ALERTS_PORT}"
    )
    return Unit(
        "alertmanager",
        (
            File(ALERTMANAGER_CONFIG, config),
            _drop_in(context, machine, ALERTMANAGER, command, 96),
            Service(ALERTMANAGER),
        ),
        service=ALERTMANAGER,
        activate="restart",
        validate=("amtool", "check-config", ALERTMANAGER_CONFIG),
        readiness=_ready("Alertmanager", LOOPBACK, ALERTMANAGER_PORT, "/-/ready"),
    )


def _prometheus(context: Context, machine: Machine) -> Unit:
    command = [
        "/usr/bin/prometheus",
        f"--config.file={CONFIG}",
        # Not Debian's default: a Prometheus that starts before it is configured writes there.
        "--storage.tsdb.path=/var/lib/prometheus/lab",
        "--storage.tsdb.retention.time=2d",
        "--storage.tsdb.retention.size=128MB",
        f"--web.listen-address={LOOPBACK}:{PROMETHEUS_PORT}",
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
            _drop_in(context, machine, SERVICE, command, 256),
            Service(SERVICE),
        ),
        service=SERVICE,
        activate="restart",
        validate=("promtool", "check", "config", CONFIG),
        # Otherwise alerts fire for machines that are still being configured.
        needs=tuple(
            f"{m.name}/exporter-{job}"
            for m in context.lab.with_role("exporters")
            if m != machine
            for job, _, _ in exporters(m)
        ),
        readiness=_ready("Prometheus", LOOPBACK, PROMETHEUS_PORT, "/-/ready"),
    )


def _drop_in(
    context: Context, machine: Machine, service: str, command: list[str], memory: int
) -> File:
    text = context.render(
        "monitoring/service.conf.j2",
        machine,
        command=command,
        writes="/var/lib/prometheus",
        memory=memory,
    )
    return File(f"{UNITS}/{service}.d/lab.conf", text)


def _program(
    context: Context,
    machine: Machine,
    service: str,
    module: str,
    readiness: Readiness,
    *arguments: str,
) -> Unit:
    """A module of ``provision/monitoring/agent`` as a systemd service."""
    name = service.removesuffix(".service")
    text = context.render(
        "monitoring/lab-program.service.j2",
        machine,
        description=readiness.name[0].upper() + readiness.name[1:],
        command=["/usr/bin/python3", "-m", f"provision.monitoring.agent.{module}", *arguments],
        code=CODE,
        name=name,
    )
    return Unit(
        name,
        (
            *(File(f"{CODE}/{path}", content) for path, content in _source_files(module)),
            File(f"{UNITS}/{service}", text),
            Service(service),
        ),
        service=service,
        activate="restart",
        readiness=readiness,
    )


def _source_files(module: str) -> list[tuple[str, str]]:
    """Paths below `CODE` and contents."""
    files = [(path, data.decode()) for path, _, data in programs(f"monitoring.agent.{module}")]
    if module == "page":
        static = ROOT / "provision" / "monitoring" / "agent" / "static"
        files += [
            (path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
            for path in sorted(static.iterdir())
        ]
    return files


def _ready(name: str, address: str, port: int, path: str) -> Readiness:
    return Readiness(name, deadline=30, http=HttpRequest(path, address=address, port=port))


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """Services stopped and files removed; Debian's packages and stored metrics stay."""
    debian = (SERVICE, ALERTMANAGER)
    files = [CONFIG, RULES, ALERTMANAGER_CONFIG]
    files += [f"{UNITS}/{service}.d/lab.conf" for service in debian]
    resources: tuple[Resource[Any], ...] = (
        NoService(PAGE),
        NoService(ALERTS),
        *(Service(name, running=False) for name in debian),
        *(NoFile(path) for path in files),
        NoDirectory(CODE),
    )
    return (Unit("no-monitoring", resources),)


ROLE = Role(
    "monitoring",
    100,
    units,
    absent,
    packages=packages,
    ports=ports,
    service=SERVICE,
    memory=110,
)
