"""The role ``exporters``: node, Nginx and MySQL exporters, and the lab's own metrics."""

from __future__ import annotations

from typing import Any

from provision.core.lab import ROOT, Machine
from provision.core.package_set import PackageSet
from provision.database.interface import BACKUP_FOLDER, CHECK_USER, ERRANT_FOLDER, TLS_FOLDER
from provision.engine.agent.protocol import HttpRequest, Readiness
from provision.engine.context import Context
from provision.engine.plan import Resource, Unit
from provision.engine.resources import File, NoFile, Service
from provision.engine.resources.removal import NoService
from provision.engine.role import Allow, Role

SERVICE = "prometheus-node-exporter.service"
NODE, MYSQL, NGINX, HAPROXY = 9100, 9104, 9113, 8404
"""Ports on the machine's address (Prometheus wiki, "Default port allocations"). HAProxy's exporter
is part of HAProxy."""

CNF = "/etc/foobar-lab/mysqld-exporter.cnf"
TEXTFILES = "/var/lib/prometheus/node-exporter"
FACTS = "/usr/local/lib/foobar-lab/lab_facts.py"
STATUS = "http://127.0.0.1:8080/nginx-status"
CERTIFICATES = ("/etc/foobar-lab/tls/*.pem", "/etc/mysql/lab/*.pem")
UNITS = "/etc/systemd/system"

COLLECTORS = ("filesystem", "netdev", "sockstat", "systemd", "textfile", "uname")
"""Collectors that work in a container; the others report values of its host."""

VM_COLLECTORS = ("cpu", "loadavg", "meminfo")
EXCLUDED_FILE_SYSTEMS = (
    "autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|mqueue"
    "|nsfs|proc|pstore|ramfs|securityfs|sysfs|tracefs"
)
"""File systems without a size. Unlike node exporter's default, overlay (a container's ``/``) is not
excluded."""


BY_ROLE = {
    "nginx": ("nginx", "prometheus-nginx-exporter.service", NGINX),
    "mysql": ("mysql", "prometheus-mysqld-exporter.service", MYSQL),
}
"""Exporters of machines with a role: job, systemd unit, port."""


def exporters(machine: Machine) -> tuple[tuple[str, str, int], ...]:
    """The exporters of a machine: job, systemd unit, port."""
    return (("node", SERVICE, NODE), *(e for role, e in BY_ROLE.items() if role in machine.roles))


def packages(context: Context, machine: Machine) -> PackageSet:
    """The exporters from Debian."""
    return PackageSet(tuple(unit.removesuffix(".service") for _, unit, _ in exporters(machine)))


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """Each exporter, for the machines that monitor."""
    sources = tuple(str(m.address) for m in context.lab.with_role("monitoring"))
    if not sources:
        return ()
    opened = [(job, port) for job, _, port in exporters(machine)]
    if "haproxy" in machine.roles:
        opened.append(("haproxy", HAPROXY))
    return tuple(Allow(port, sources, f"{job} metrics for monitoring") for job, port in opened)


def command(context: Context, machine: Machine, job: str, port: int) -> list[str]:
    """The command line of an exporter, quoted for systemd."""
    program = {
        "node": "/usr/bin/prometheus-node-exporter",
        "nginx": "/usr/bin/prometheus-nginx-exporter",
        "mysql": "/usr/bin/prometheus-mysqld-exporter",
    }[job]
    words = [program, f"--web.listen-address={machine.address}:{port}", "--log.level=warn"]
    if job == "nginx":
        return [*words, f"--nginx.scrape-uri={STATUS}"]
    if job == "mysql":
        # These default collectors need tables that the account may not read.
        without = ("innodb_cmp", "innodb_cmpmem", "query_response_time")
        more = [f"--no-collect.info_schema.{name}" for name in without]
        return [*words, f"--config.my-cnf={CNF}", *more]
    collectors = COLLECTORS if context.state.in_containers else COLLECTORS + VM_COLLECTORS
    watched = "|".join(
        name.removesuffix(".service").replace(".", "[.]") for name in context.services(machine)
    )
    return [
        *words,
        "--web.disable-exporter-metrics",
        "--collector.disable-defaults",
        *(f"--collector.{name}" for name in collectors),
        # which machine holds the virtual address
        *(["--collector.netdev.address-info"] if "keepalived" in machine.roles else []),
        f'"--collector.systemd.unit-include=({watched})[.]service"',
        # "$" is doubled for systemd
        f'"--collector.filesystem.fs-types-exclude=^({EXCLUDED_FILE_SYSTEMS})$$"',
        '"--collector.filesystem.mount-points-exclude=^/(dev|proc|run|sys|tmp|var/tmp)($$|/)"',
        f"--collector.textfile.directory={TEXTFILES}",
    ]


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The lab's own metrics, then one unit per exporter; exporters of other roles are stopped."""
    present = (_unit(context, machine, *exporter) for exporter in exporters(machine))
    others = [e for role, e in BY_ROLE.items() if role not in machine.roles]
    return (_facts(context, machine), *present, *(_no_exporter(*e) for e in others))


def _no_exporter(job: str, service: str, _port: int) -> Unit:
    files = (NoFile(_drop_in(service)), *([NoFile(CNF)] if job == "mysql" else []))
    return Unit(f"no-exporter-{job}", (Service(service, running=False), *files))


def _unit(context: Context, machine: Machine, job: str, service: str, port: int) -> Unit:
    families = {"node": "AF_INET AF_NETLINK AF_UNIX", "mysql": "AF_INET", "nginx": "AF_INET"}[job]
    drop_in = context.render(
        "monitoring/service.conf.j2",
        machine,
        command=command(context, machine, job, port),
        families=families,
        proc_subset="all" if job == "node" else "pid",
        writes="",
        memory=64,
    )
    resources: list[Resource[Any]] = [File(_drop_in(service), drop_in)]
    if job == "mysql":
        # The account of lab.check: REPLICATION CLIENT, no access to data, in every topology.
        client = context.render(
            "monitoring/mysqld-exporter.cnf.j2",
            machine,
            user=CHECK_USER,
            password=context.secrets.password("mysql-check"),
            ca=f"{TLS_FOLDER}/ca.pem",
        )
        resources.append(File(CNF, client, group="prometheus", mode="0640", secret=True))
    return Unit(
        f"exporter-{job}",
        (*resources, Service(service)),
        service=service,
        activate="restart",
        readiness=Readiness(
            f"the {job} exporter",
            deadline=15,
            http=HttpRequest("/", address=str(machine.address), port=port),
        ),
    )


def _facts(context: Context, machine: Machine) -> Unit:
    """Metrics that no exporter has: certificate expiry and backup age, twice a minute."""
    words = ["/usr/bin/python3", "-I", "-B", FACTS, f"{TEXTFILES}/lab_facts.prom"]
    words += [f"certificate={pattern}" for pattern in CERTIFICATES]
    if "mysql" in machine.roles:
        words += [f"backups={BACKUP_FOLDER}", f"errant={ERRANT_FOLDER}"]
    program = ROOT / "provision" / "monitoring" / "agent" / "facts.py"
    service = context.render(
        "monitoring/lab-facts.service.j2", machine, command=words, code=FACTS, writes=TEXTFILES
    )
    return Unit(
        "lab-facts",
        (
            File(FACTS, program.read_text(encoding="utf-8")),
            File(f"{UNITS}/lab-facts.service", service),
            File(
                f"{UNITS}/lab-facts.timer", context.render("monitoring/lab-facts.timer.j2", machine)
            ),
            Service("lab-facts.timer"),
        ),
        service="lab-facts.timer",
        activate="restart",
    )


def _drop_in(service: str) -> str:
    return f"{UNITS}/{service}.d/lab.conf"


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """Services stopped and files removed; Debian's packages stay."""
    services = (SERVICE, *(service for _, service, _ in BY_ROLE.values()))
    files = (
        FACTS,
        f"{TEXTFILES}/lab_facts.prom",
        CNF,
        *(_drop_in(service) for service in services),
    )
    resources: tuple[Resource[Any], ...] = (
        NoService("lab-facts.timer"),
        NoService("lab-facts.service"),
        *(Service(name, running=False) for name in services),
        *(NoFile(path) for path in files),
    )
    return (Unit("no-exporters", resources),)


ROLE = Role("exporters", 90, units, absent, packages=packages, ports=ports, service=SERVICE)
