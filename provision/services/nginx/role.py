"""The web server: Nginx serves files itself and passes everything else to the application."""

from __future__ import annotations

from provision.core.lab import Machine
from provision.core.package_set import PackageSet
from provision.engine.context import Allow, Context
from provision.engine.plan import Unit
from provision.engine.resources import File, Gone, Link, Service
from provision.services.app.role import SOCKET, address
from provision.services.tls import role as tls

CONFIG = "/etc/nginx/nginx.conf"
SITE = "/etc/nginx/sites-available/www"
ENABLED = "/etc/nginx/sites-enabled/www"
STATUS = "/etc/nginx/conf.d/lab-status.conf"
DROP_IN = "/etc/systemd/system/nginx.service.d/lab.conf"

SERVICE = "nginx.service"

PASSED_OVER = 1
"""Whole seconds for which Nginx asks no application server that has failed twice (fail_timeout in
nginx.org, ngx_http_upstream_module); when every server is passed over, visitors get a 502."""


def packages(context: Context, machine: Machine) -> PackageSet:
    """Nginx alone."""
    return PackageSet(("nginx",))


def units(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """The server, its one site, and the pages for when something is not there."""
    balancers = context.lab.with_role("haproxy")
    site = context.render(
        "nginx/site.conf.j2",
        machine,
        balancers=balancers,
        socket=SOCKET,
        upstreams=upstreams(context, machine),
        passed_over=PASSED_OVER,
        tls=tls,
    )
    return (
        Unit(
            "nginx",
            (
                File(
                    "/srv/foobar/errors/404.html",
                    context.render("nginx/404.html.j2", machine),
                    passive=True,
                ),
                File(
                    "/srv/foobar/errors/502.html",
                    context.render("nginx/502.html.j2", machine),
                    passive=True,
                ),
                *tls.files(context, machine),
                File(CONFIG, context.render("nginx/nginx.conf.j2", machine)),
                File(SITE, site),
                Link(ENABLED, SITE),
                File(STATUS, context.render("nginx/status.conf.j2", machine)),
                Gone("/etc/nginx/sites-enabled/default"),
                File(DROP_IN, context.render("nginx/nginx.service.j2", machine)),
                Service("nginx.service"),
            ),
            service="nginx.service",
            activate="reload",
            validate=("nginx", "-t", "-q"),
            wait={
                "name": "Nginx on port 80",
                "http": {"address": "127.0.0.1", "port": 80, "path": "/static/none"},
                "statuses": [404],
                "deadline": 15,
            },
            needs=_needs(context, machine),
        ),
    )


def _needs(context: Context, machine: Machine) -> tuple[str, ...]:
    """Who goes first in a lab that serves already: who answers TLS, then who asks for it."""
    if not context.rolling:
        return ()
    if context.lab.topology.https:
        behind = context.lab.with_role("app") if upstreams(context, machine) else ()
        return tuple(f"{m.name}/app" for m in behind)
    # On the way back to plain HTTP, TLS goes once no balancer asks for it any more.
    return tuple(f"{m.name}/haproxy" for m in context.lab.with_role("haproxy"))


def upstreams(context: Context, machine: Machine) -> tuple[str, ...]:
    """The application servers of other machines; none when there is one on this machine."""
    if "app" in machine.roles:
        return ()
    return tuple(address(m) for m in context.lab.with_role("app") if address(m))


def absent(context: Context, machine: Machine) -> tuple[Unit, ...]:
    """No web server where the topology wants none."""
    return (Unit("nginx-gone", (Service(SERVICE, running=False),)),)


def ports(context: Context, machine: Machine) -> tuple[Allow, ...]:
    """HTTP, and HTTPS where there is any, for the balancers; for everybody where there are none."""
    balancers = tuple(str(m.address) for m in context.lab.with_role("haproxy"))
    whom = "the balancer" if balancers else "everybody"
    found = [Allow(80, balancers, f"HTTP for {whom}")]
    if context.lab.topology.https:
        found.append(Allow(443, balancers, f"HTTPS for {whom}"))
    return tuple(found)
