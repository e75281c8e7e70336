"""The databases of an application of the user's own: its variables, and the local database proxy.

The proxy stays while another release runs, as the schema does, so that a rollback needs neither.
"""

from __future__ import annotations

import json
from urllib.parse import quote

from provision.core.lab import Machine
from provision.core.timeouts import SERVICE_STOP_SECONDS
from provision.database.interface import CHECK_USER, OWN_ACCOUNT, OWN_PASSWORD, OWN_SCHEMA
from provision.engine.context import Context
from provision.engine.payload import programs
from provision.engine.plan import Unit
from provision.engine.resources import Directory, File, NoFile, Service, Tree
from provision.engine.resources.removal import NoDirectory, NoService
from provision.services.app.agent.database_proxy import ADDRESS, READ_PORT, WRITE_PORT

CA = "/etc/foobar/ca.pem"
UNIT = "app-database"
SERVICE = "lab-database.service"
CONFIG = "/etc/foobar/database.json"
CODE = "/usr/local/lib/foobar-lab/database"


def variables(context: Context) -> dict[str, str]:
    """``DATABASE_URL`` (the primary), ``DATABASE_REPLICA_URL`` (for reads), and their CA.

    They are the same before and after a promotion.
    """
    return {
        "DATABASE_URL": _url(context, WRITE_PORT),
        "DATABASE_REPLICA_URL": _url(context, READ_PORT),
        "DATABASE_CA": CA,
    }


def _url(context: Context, port: int) -> str:
    password = quote(context.secrets.password(OWN_PASSWORD), safe="")
    account = f"{OWN_ACCOUNT}:{password}"
    return f"mysql://{account}@{ADDRESS}:{port}/{OWN_SCHEMA}?ssl_ca={quote(CA)}"


def proxy(context: Context, machine: Machine, reads: list[str]) -> Unit:
    """The proxy on an application server.

    Args:
        reads: databases in the order in which the machine reads from them.
    """
    config = {
        "servers": {m.name: str(m.address) for m in context.lab.with_role("mysql")},
        "reads": reads,
        "user": CHECK_USER,
        "password": context.secrets.password("mysql-check"),
        "ca": CA,
    }
    service = context.render(
        "app/lab-database.service.j2",
        machine,
        code=CODE,
        config=CONFIG,
        stop_seconds=SERVICE_STOP_SECONDS,
    )
    return Unit(
        UNIT,
        (
            Directory(CODE.rpartition("/")[0]),
            Tree(CODE, programs("services.app.agent.database_proxy")),
            File(CA, context.authority.pem()),
            File(CONFIG, json.dumps(config, indent=1) + "\n", mode="0600", secret=True),
            File(f"/etc/systemd/system/{SERVICE}", service),
            Service(SERVICE),
        ),
        service=SERVICE,
        activate="restart",
    )


def no_proxy() -> Unit:
    """No proxy."""
    return Unit(f"no-{UNIT}", (NoService(SERVICE), NoFile(CONFIG), NoDirectory(CODE)))
