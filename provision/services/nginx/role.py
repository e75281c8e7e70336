"""The web server: Nginx serves static files and proxies all other requests to the application."""

from __future__ import annotations

from dataclasses import dataclass, replace

from provision.core import capacity, headers
from provision.core.lab import Lab, Machine
from provision.core.package_set import PackageSet
from provision.core.timeouts import TIMEOUTS
from provision.engine.agent.protocol import HttpRequest, Readiness
from provision.engine.context import Context
from provision.engine.plan import Unit
from provision.engine.resources import File, Link, NoFile, OwnedDirectory, Service
from provision.engine.role import Allow, Role, Sandbox, Tier
from provision.services.app import interface as app
from provision.services.nginx.interface import FAIL_TIMEOUT, SERVICE
from provision.services.tls import interface as tls

CONFIG = "/etc/nginx/nginx.conf"
SITE = "/etc/nginx/sites-available/www"
ENABLED = "/etc/nginx/sites-enabled/www"
STATUS = "/etc/nginx/conf.d/lab-status.conf"
DROP_IN = f"/etc/systemd/system/{SERVICE}.d/lab.conf"
ERROR_PAGES = "/srv/foobar/errors"
PAGES = ("404.html", "502.html", "503.html", "503.json")


@dataclass(frozen=True)
class Server:
    """An application server; a backup gets requests only while the others fail."""

    address: str
    backup: bool = False


@dataclass(frozen=True)
class Upstream:
    """Where an application server listens: a socket, or a port when it is on another machine."""

    zone: str
    socket: str
    port: int


def _pages(context: Context, machine: Machine) -> dict[str, str]:
    return {name: context.render(f"nginx/{name}.j2", machine) for name in PAGES}


def _site(context: Context, machine: Machine, *, changing: bool = False) -> File:
    pages, application = _pages(context, machine), app.application(context)
    text = context.render(
        "nginx/site.conf.j2",
        machine,
        balancers=context.lab.with_role("haproxy"),
        visitors=Upstream("app", app.SOCKET, app.PORT),
        health=Upstream("health", app.HEALTH_SOCKET, app.HEALTH_PORT),
        requests=capacity.nginx_requests(context.lab, machine, application.slots),
        capacity=capacity,
        timeouts=TIMEOUTS,
        upstreams=upstreams(context, machine),
        fail_timeout=FAIL_TIMEOUT,
        tls=tls,
        headers=headers,
        policy=headers.policy_with_styles(*pages.values()),
        application=application,
        changing=changing,
    )
    return File(SITE, text)


def while_changing(context: Context, machine: Machine, unit: Unit) -> Unit:
    """The unit while application servers change from one application to another.

    Health checks of the two differ, so that Nginx answers the balancer's itself.
    """
    changed = _site(context, machine, changing=True)
    resources = (changed if r.name == changed.name else r for r in unit.resources)
    return replace(unit, resources=tuple(resources))


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The server, its one site, and its error pages."""
    pages = _pages(context, machine)
    return (
        Unit(
            "nginx",
            (
                *(File(f"{ERROR_PAGES}/{n}", text, passive=True) for n, text in pages.items()),
                *tls.certificate_files(context, machine),
                File(CONFIG, context.render("nginx/nginx.conf.j2", machine, timeouts=TIMEOUTS)),
                _site(context, machine),
                Link(ENABLED, SITE),
                File(STATUS, context.render("nginx/status.conf.j2", machine)),
                NoFile("/etc/nginx/sites-enabled/default"),
                OwnedDirectory("/etc/nginx/conf.d", ("*.conf",), service=True),
                OwnedDirectory("/etc/nginx/sites-enabled", service=True),
                OwnedDirectory("/etc/nginx/modules-enabled", ("*.conf",), service=True),
                File(DROP_IN, context.render("nginx/nginx.service.j2", machine)),
                Service(SERVICE),
            ),
            service=SERVICE,
            activate="reload",
            validate=("nginx", "-t", "-q"),
            readiness=Readiness(
                "Nginx on port 80",
                deadline=15,
                http=HttpRequest("/static/none", address="127.0.0.1"),
                statuses=(404,),
            ),
            needs=_needs(context, machine),
        ),
    )


def _needs(context: Context, machine: Machine) -> tuple[str, ...]:
    """While the lab serves: TLS is enabled on a server before its clients use it."""
    if not context.rolling:
        return ()
    if context.lab.topology.https:
        servers = context.lab.with_role("app") if upstreams(context, machine) else ()
        return tuple(f"{m.name}/app" for m in servers)
    # Back to plain HTTP: a web server disables TLS after every balancer has stopped using it.
    return tuple(f"{m.name}/haproxy" for m in context.lab.with_role("haproxy"))


def upstreams(context: Context, machine: Machine) -> tuple[Server, ...]:
    """Application servers on other machines; none when this machine has its own."""
    if "app" in machine.roles:
        return ()
    preferred = capacity.preferred_apps(context.lab, machine)
    servers = (m for m in context.lab.with_role("app") if app.listen_address(m))
    return tuple(Server(str(m.address), backup=m not in preferred) for m in servers)


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """Nginx is stopped."""
    return (Unit("nginx-gone", (Service(SERVICE, running=False),)),)


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """HTTP and HTTPS, from the balancers, or from everywhere in a topology without one."""
    balancers = tuple(str(m.address) for m in context.lab.with_role("haproxy"))
    clients = "the balancer" if balancers else "everybody"
    allowed = [Allow(80, balancers, f"HTTP for {clients}")]
    if context.lab.topology.https:
        allowed.append(Allow(443, balancers, f"HTTPS for {clients}"))
    return tuple(allowed)


def _connection(lab: Lab) -> str:
    secure = lab.topology.https and lab.with_role("haproxy")
    return "HTTPS, verified" if secure else "HTTP, port 80"


ROLE = Role(
    "nginx",
    60,
    units,
    absent,
    packages=lambda *_: PackageSet(("nginx",)),
    ports=ports,
    memory=15,
    service=SERVICE,
    label="Nginx",
    tier=Tier("web server", _connection),
    sandbox=Sandbox(
        "root binds ports and reads keys, workers are the user www-data",
        writes="/run /var/lib/nginx /var/log/nginx",
        capabilities="CAP_CHOWN CAP_DAC_OVERRIDE CAP_KILL CAP_NET_BIND_SERVICE CAP_SETGID"
        " CAP_SETUID",
        calls="@setuid @chown",
        peers="balancers",
        jit=True,
        umask="0022",
    ),
    fault_units=(SERVICE,),
    data=("/etc/nginx", "/var/log/nginx"),
)
