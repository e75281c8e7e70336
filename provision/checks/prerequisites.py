"""Names of the checks that must pass before others can: what depends on what in a lab.

machine -> resources -> drift -> service -> restart required -> answer -> balancer -> site.
A name that ends with ``*`` stands for every check whose name starts so; names of checks that a lab
does not have are ignored (see `provision.checks.graph`).
"""

from __future__ import annotations

from provision.core.lab import Machine
from provision.engine.context import Context

Names = tuple[str, ...]

KINDS_OF_RESOURCES = ("machine", "disk", "inodes", "memory", "ports")


def machine(name: str) -> Names:
    """A machine that responds."""
    return (f"machine/{name}",)


def resources(name: str) -> Names:
    """A machine that responds, with space and memory, configured by the lab."""
    listed = [f"{kind}/{name}" for kind in KINDS_OF_RESOURCES]
    return (*listed, f"disk/{name}/*", f"inodes/{name}/*", *_drift(name, "system", "network"))


def configured(name: str, unit: str) -> Names:
    """What a systemd unit needs to be active.

    Args:
        unit: without ``.service``.
    """
    return (*resources(name), *_drift(name, unit))


def service(name: str, unit: str) -> Names:
    """A service that runs with its current configuration and can be reached."""
    running = (f"service/{name}/{unit}", f"restart-required/{name}/{unit}")
    stable = (f"restarts/{name}/{unit}", f"ceiling/{name}/{unit}")
    return (*configured(name, unit), *running, *stable, f"firewall/{name}")


def _drift(name: str, *services: str) -> Names:
    return tuple(f"drift/{name}/{service}" for service in services)


def database(name: str) -> Names:
    """A MySQL server that accepts connections in its role, with the lab's settings."""
    return (*service(name, "mysql"), f"database/{name}", f"database-settings/{name}")


def databases(context: Context) -> Names:
    """All MySQL servers."""
    return tuple(name for m in context.lab.with_role("mysql") for name in database(m.name))


def applications(context: Context, web: Machine) -> Names:
    """The application servers of a web server: its own, or those on other machines."""
    servers = (web,) if "app" in web.roles else context.lab.with_role("app")
    return tuple(
        name for m in servers for name in (*service(m.name, "foobar"), f"answer/{m.name}/foobar")
    )


def web_server(context: Context, web: Machine) -> Names:
    """A web server that answers, and everything behind it, except its own health check."""
    own = (*service(web.name, "nginx"), f"answer/{web.name}/nginx")
    return (*own, *applications(context, web), *databases(context))


def balancer(name: str) -> Names:
    """A balancer that answers and balances as recorded."""
    return (*service(name, "haproxy"), f"answer/{name}/haproxy", f"balance/{name}")


def front(context: Context) -> Names:
    """Whatever receives the users' requests."""
    balancers = context.lab.with_role("haproxy")
    if not balancers:
        web = context.lab.front.name
        return (*service(web, "nginx"), f"answer/{web}/nginx")
    addresses = [name for m in balancers for name in service(m.name, "keepalived")]
    names = [name for m in balancers for name in balancer(m.name)]
    return (*names, *addresses, "virtual-address")


def site(context: Context) -> Names:
    """Everything that a request to the site passes."""
    names = [*front(context), "balancer/*"]
    for web in context.lab.with_role("nginx"):
        names += [*web_server(context, web), f"web/{web.name}", f"tls/{web.name}"]
        names += [f"{kind}/{web.name}" for kind in ("static", "content", "flapping")]
    return tuple(names)
