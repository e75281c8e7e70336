"""Results of the database probes on servers that are as configured."""

from __future__ import annotations

from typing import Any

from provision.core.lab import Machine
from provision.database.agent.comparison import Comparison
from provision.database.agent.probes import AccountFacts, AccountList, GrantedPrivilege
from provision.database.agent.settings import SettingsFacts
from provision.database.resources import Account
from provision.database.role import all_accounts, compare_with_primary, settings
from provision.engine.context import Context

COMPARED = Comparison(
    primary_uuid="uuid-1", uuid="uuid-2", primary_server_id="1", server_id="2", tables=4
)
LOCAL = dict.fromkeys(("root@localhost", "debian-sys-maint@localhost"), "auth_socket")


def settings_facts(context: Context, machine: Machine) -> SettingsFacts:
    return SettingsFacts("", dict(settings(context, machine).values))


def account_facts(account: Account) -> AccountFacts:
    granted = tuple(
        GrantedPrivilege(privilege, grant.level, False)
        for grant in account.grants
        for privilege in grant.privileges
    )
    return AccountFacts(
        True, "caching_sha2_password", True, False, False, account.fingerprint, False, granted
    )


def database_results(context: Context, machine: Machine) -> dict[str, Any]:
    """By probe name; empty for a machine without a database."""
    if "mysql" not in machine.roles:
        return {}
    probe = settings(context, machine).probe()
    results: dict[str, Any] = {probe.name: settings_facts(context, machine)}
    names = dict(LOCAL)
    for resource in all_accounts(context, machine):
        if isinstance(resource, Account):
            results[resource.probe().name] = account_facts(resource)
            names[f"{resource.user}@{resource.host}"] = "caching_sha2_password"
        else:
            results[resource.probe().name] = AccountList("", names, recorded=())
    if machine.name != context.state.primary:
        results[compare_with_primary(context).name] = COMPARED
    return results
