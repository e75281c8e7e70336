"""Exporters: what monitoring reads of a machine, of its Nginx, of its MySQL, and of the lab."""

from __future__ import annotations

from provision import registry as roles
from provision.core.lab import ROOT, Machine
from provision.core.package_set import PackageSet
from provision.database.agent.backup import FOLDER
from provision.database.role import CHECKER, TLS
from provision.engine.context import Allow, Context
from provision.engine.plan import Resource, Unit
from provision.engine.resources import File, Gone, Service
from provision.engine.resources.removal import NoService

SERVICE = "prometheus-node-exporter.service"
NODE, MYSQL, NGINX, HAPROXY = 9100, 9104, 9113, 8404
"""Ports, on the machine's address: the usual ones (Prometheus' wiki, "Default port allocations");
HAProxy's exporter is part of HAProxy."""

CNF = "/etc/foobar-lab/mysqld-exporter.cnf"
TEXTFILES = "/var/lib/prometheus/node-exporter"
FACTS = "/usr/local/lib/foobar-lab/lab_facts.py"
STATUS = "http://127.0.0.1:8080/nginx-status"
CERTIFICATES = ("/etc/foobar-lab/tls/*.pem", "/etc/mysql/lab/*.pem")
UNITS = "/etc/systemd/system"

COLLECTORS = ("filesystem", "netdev", "sockstat", "systemd", "textfile", "uname")
"""What is true inside a container; the rest of node exporter shows the host's numbers there."""

OF_A_WHOLE_MACHINE = ("cpu", "loadavg", "meminfo")
NOT_DISKS = (
    "autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|mqueue"
    "|nsfs|proc|pstore|ramfs|securityfs|sysfs|tracefs"
)
"""File systems without a size. Unlike node exporter's own list this leaves overlay in, a
container's ``/``."""


def exporters(machine: Machine) -> tuple[tuple[str, str, int], ...]:
    """What a machine runs: job, systemd unit, port."""
    found = [("node", SERVICE, NODE)]
    if "nginx" in machine.roles:
        found.append(("nginx", "prometheus-nginx-exporter.service", NGINX))
    if "mysql" in machine.roles:
        found.append(("mysql", "prometheus-mysqld-exporter.service", MYSQL))
    return tuple(found)


def packages(context: Context, machine: Machine) -> PackageSet:
    """The exporters from Debian."""
    return PackageSet(tuple(unit.removesuffix(".service") for _, unit, _ in exporters(machine)))


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """Each exporter, for the machines that monitor."""
    sources = tuple(str(m.address) for m in context.lab.with_role("monitoring"))
    if not sources:
        return ()
    wanted = [(job, port) for job, _, port in exporters(machine)]
    if "haproxy" in machine.roles:
        wanted.append(("haproxy", HAPROXY))
    return tuple(Allow(port, sources, f"numbers of {job} for monitoring") for job, port in wanted)


def command(context: Context, machine: Machine, job: str, port: int) -> list[str]:
    """The command line of an exporter, in systemd's notation."""
    program = {
        "node": "/usr/bin/prometheus-node-exporter",
        "nginx": "/usr/bin/prometheus-nginx-exporter",
        "mysql": "/usr/bin/prometheus-mysqld-exporter",
    }[job]
    words = [program, f"--web.listen-address={machine.address}:{port}", "--log.level=warn"]
    if job == "nginx":
        return [*words, f"--nginx.scrape-uri={STATUS}"]
    if job == "mysql":
        # Of what is read by default, these need tables that the account does not see.
        without = ("innodb_cmp", "innodb_cmpmem", "query_response_time")
        more = [f"--no-collect.info_schema.{name}" for name in without]
        return [*words, f"--config.my-cnf={CNF}", *more]
    collectors = COLLECTORS if context.state.provider == "lxc" else COLLECTORS + OF_A_WHOLE_MACHINE
    watched = "|".join(
        name.removesuffix(".service").replace(".", "[.]") for name in roles.services(machine)
    )
    return [
        *words,
        "--web.disable-exporter-metrics",
        "--collector.disable-defaults",
        *(f"--collector.{name}" for name in collectors),
        # who has the shared address
        *(["--collector.netdev.address-info"] if "keepalived" in machine.roles else []),
        f'"--collector.systemd.unit-include=({watched})[.]service"',
        # "$" is doubled for systemd
        f'"--collector.filesystem.fs-types-exclude=^({NOT_DISKS})$$"',
        '"--collector.filesystem.mount-points-exclude=^/(dev|proc|run|sys|tmp|var/tmp)($$|/)"',
        f"--collector.textfile.directory={TEXTFILES}",
    ]


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The facts about the lab, then a unit an exporter."""
    return (_facts(context, machine), *(_unit(context, machine, *e) for e in exporters(machine)))


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
    resources: list[Resource] = [File(_drop_in(service), drop_in)]
    if job == "mysql":
        # The account that lab.check asks with is what this needs: REPLICATION CLIENT and no data.
        # It exists in every stage, so that going back leaves none behind.
        client = context.render(
            "monitoring/mysqld-exporter.cnf.j2",
            machine,
            user=CHECKER,
            password=context.secrets.password("mysql-check"),
            ca=f"{TLS}/ca.pem",
        )
        resources.append(File(CNF, client, group="prometheus", mode="0640", secret=True))
    return Unit(
        f"exporter-{job}",
        (*resources, Service(service)),
        service=service,
        activate="restart",
        wait={
            "name": f"the {job} exporter",
            "http": {"address": str(machine.address), "port": port, "path": "/"},
            "statuses": [200],
            "deadline": 15,
        },
    )


def _facts(context: Context, machine: Machine) -> Unit:
    """What no exporter knows: certificates and backups, twice a minute."""
    words = ["/usr/bin/python3", "-I", "-B", FACTS, f"{TEXTFILES}/lab_facts.prom"]
    words += [f"certificate={pattern}" for pattern in CERTIFICATES]
    if "mysql" in machine.roles:
        words.append(f"backups={FOLDER}")
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
    """Nothing of it runs, and its files are gone; Debian's packages stay."""
    services = (SERVICE, "prometheus-nginx-exporter.service", "prometheus-mysqld-exporter.service")
    files = (
        FACTS,
        f"{TEXTFILES}/lab_facts.prom",
        CNF,
        *(_drop_in(service) for service in services),
    )
    stopped = [
        NoService("lab-facts.timer"),
        NoService("lab-facts.service"),
        *(Service(name, running=False) for name in services),
    ]
    return (Unit("no-exporters", (*stopped, *(Gone(path) for path in files))),)
