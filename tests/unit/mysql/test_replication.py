"""MySQL's resources and server status, decoded from recorded rows and variations of them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from provision.database.agent.probes import AccountFacts, SchemaFacts, parse_account
from provision.database.agent.requests import AssumeRole, ReplicationAccount
from provision.database.agent.role_record import RoleRecord
from provision.database.agent.server_status import ServerStatus, parse_server_status
from provision.database.resources import Account, DataDirectory, Grant, Replication, Schema
from provision.engine.agent.files import PathFacts

RECORDED = Path(__file__).parent / "recorded"
PRIMARY = json.loads((RECORDED / "primary.json").read_text())
REPLICA = json.loads((RECORDED / "replica.json").read_text())
STOPPED = json.loads((RECORDED / "replica-stopped.json").read_text())
EPOCH = int(PRIMARY["server"]["epoch"]["epoch"])
SECRET = "a-password-of-the-tests"


def role(machine: str, epoch: int = EPOCH, primary: str = "web-01") -> Replication:
    addresses = {"web-01": "192.168.56.11", "web-02": "192.168.56.12"}
    peers = {name: address for name, address in addresses.items() if name != machine}
    record = RoleRecord(machine, primary, epoch, peers)
    return Replication(AssumeRole(record, ReplicationAccount("repl", SECRET)))


def parse(rows: dict[str, Any]) -> ServerStatus:
    names = ("variables", "status", "replica", "epoch", "binlog")
    return parse_server_status(*(rows[name] or {} for name in names))


def differences(resource: Replication, rows: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Key to before and after, without the password (the recorded server had another one)."""
    return {
        difference.key: (difference.before, difference.after)
        for difference in resource.differences(parse(rows))
        if difference.key != "password"
    }


def changed(rows: dict[str, Any], part: str, **values: Any) -> dict[str, Any]:
    rows = copy.deepcopy(rows)
    rows[part] = {**rows[part], **values}
    return rows


def test_a_primary_in_the_desired_state() -> None:
    assert differences(role("web-01"), PRIMARY["server"]) == {}


def test_a_replica_in_the_desired_state() -> None:
    assert differences(role("web-02"), REPLICA["server"]) == {}


def test_a_server_that_does_not_run() -> None:
    keys = {d.key for d in role("web-01").differences(ServerStatus(error="mysqld is down"))}
    assert keys == {"writes", "epoch", "source", "semi-sync"}


Case = tuple[str, dict[str, Any], dict[str, tuple[str, str]]]
PRIMARY_CASES: dict[str, Case] = {
    "read only after a restart": (
        "variables",
        {"read_only": "1", "super_read_only": "1", "rpl_semi_sync_source_enabled": "OFF"},
        {"writes": ("refused", "accepted"), "semi-sync": ("replica", "source")},
    ),
    "no promotion recorded": ("epoch", {"epoch": None}, {"epoch": ("none", str(EPOCH))}),
    "semi-sync turned off manually": (
        "variables",
        {"rpl_semi_sync_source_enabled": "OFF"},
        {"semi-sync": ("replica", "source")},
    ),
}


@pytest.mark.parametrize("name", PRIMARY_CASES)
def test_a_primary_that_drifted(name: str) -> None:
    part, values, expected = PRIMARY_CASES[name]
    rows = changed(PRIMARY["server"], part, **values)
    assert differences(role("web-01"), rows) == expected


def test_a_recorded_primary_that_still_replicates() -> None:
    changes = differences(role("web-02", primary="web-02"), REPLICA["server"])
    assert changes["writes"] == ("refused", "accepted")
    assert changes["source"] == ("192.168.56.11 by GTID over TLS", "none")


def test_an_old_primary_that_is_recorded_as_replica() -> None:
    changes = differences(role("web-01", primary="web-02"), PRIMARY["server"])
    assert changes["writes"] == ("accepted", "refused")
    assert changes["source"] == ("none", "192.168.56.12 by GTID over TLS")
    assert changes["receiving"] == ("", "running")


SOURCE = "192.168.56.11 by GTID over TLS"
REPLICA_CASES: dict[str, tuple[dict[str, Any], dict[str, tuple[str, str]]]] = {
    "receiving stopped": (
        {"Replica_IO_Running": "No", "Last_IO_Error": "Fatal error 1236"},
        {"receiving": ("stopped: Fatal error 1236", "running")},
    ),
    "connecting": ({"Replica_IO_Running": "Connecting"}, {"receiving": ("connecting", "running")}),
    "applying stopped": (
        {"Replica_SQL_Running": "No", "Last_SQL_Error": "Duplicate entry"},
        {"applying": ("stopped: Duplicate entry", "running")},
    ),
    "another source": (
        {"Source_Host": "192.168.56.99"},
        {"source": ("192.168.56.99 by GTID over TLS", SOURCE)},
    ),
    "by position": (
        {"Auto_Position": "0"},
        {"source": ("192.168.56.11 by file and position over TLS", SOURCE)},
    ),
    "without TLS": (
        {"Source_SSL_Allowed": "No"},
        {"source": ("192.168.56.11 by GTID in clear", SOURCE)},
    ),
    "unverified": (
        {"Source_SSL_Verify_Server_Cert": "No"},
        {"source": ("192.168.56.11 by GTID over unverified TLS", SOURCE)},
    ),
    "delayed": (
        {"SQL_Delay": "3600"},
        {"source": (f"{SOURCE}, 3600 s behind", SOURCE)},
    ),
}


@pytest.mark.parametrize("name", REPLICA_CASES)
def test_a_replica_that_drifted(name: str) -> None:
    values, expected = REPLICA_CASES[name]
    rows = changed(REPLICA["server"], "replica", **values)
    assert differences(role("web-02"), rows) == expected


def test_a_recorded_stopped_replica() -> None:
    assert set(differences(role("web-02"), STOPPED["server"])) == {"receiving", "applying"}


def test_a_writable_replica() -> None:
    rows = changed(REPLICA["server"], "variables", super_read_only="0", read_only="0")
    assert differences(role("web-02"), rows) == {"writes": ("accepted", "refused")}


def test_a_replica_with_another_password_stored() -> None:
    (difference,) = role("web-02").differences(parse(REPLICA["server"]))
    assert difference.key == "password"
    assert difference.secret


def test_secrets_occur_only_in_the_request() -> None:
    resource = role("web-02")
    (action,) = resource.actions(parse(REPLICA["server"]))
    assert action.args["account"] == {"user": "repl", "password": SECRET}
    assert SECRET not in repr(resource)
    assert SECRET not in json.dumps([resource.expected(), resource.probe().args])


# --- accounts and schemas ------------------------------------------------------------------------

NETWORK = PRIMARY["app"]["account"]["host"]


def account(**changes: Any) -> Account:
    grant = Grant(("SELECT", "INSERT", "UPDATE", "DELETE"), "foobar.*")
    return Account("foobar_app", NETWORK, SECRET, changes.get("grants", (grant,)))


def facts(rows: dict[str, Any], **changes: Any) -> AccountFacts:
    """The recorded account, as if it had been created with the password of the tests."""
    row = {**rows["account"], "lab": account().fingerprint, **changes}
    return parse_account("foobar_app", NETWORK, [row], rows["grants"])


def test_an_account_in_the_desired_state() -> None:
    assert account().differences(facts(PRIMARY["app"])) == ()


def test_replicas_have_the_same_accounts() -> None:
    assert account().differences(facts(REPLICA["app"])) == ()


def test_an_absent_account() -> None:
    differences = account().differences(parse_account("nobody", NETWORK, [], []))
    assert {d.key for d in differences} == {"login", "password", "grants"}
    assert all(d.before == "" for d in differences)


def test_a_manually_changed_password_is_detected_and_redacted() -> None:
    (change,) = account().differences(facts(PRIMARY["app"], digest="0" * 64))
    assert (change.key, change.before, change.secret) == ("password", "changed by hand", True)


@pytest.mark.parametrize(
    ("column", "value", "login"),
    [
        ("ssl_type", "", "caching_sha2_password without TLS"),
        ("account_locked", "Y", "caching_sha2_password over TLS, locked"),
        ("password_expired", "Y", "caching_sha2_password over TLS, expired"),
        ("plugin", "sha256_password", "sha256_password over TLS"),
    ],
)
def test_a_login_that_drifted(column: str, value: str, login: str) -> None:
    (change,) = account().differences(facts(PRIMARY["app"], **{column: value}))
    assert (change.key, change.before) == ("login", login)


def test_an_excess_privilege() -> None:
    rows = copy.deepcopy(PRIMARY["app"])
    rows["grants"].append(
        {
            "grantee": f"'foobar_app'@'{NETWORK}'",
            "level": "*.*",
            "privilege_type": "SUPER",
            "is_grantable": "YES",
        }
    )
    (change,) = account().differences(facts(rows))
    assert change.before == (
        "DELETE, INSERT, SELECT, UPDATE on foobar.*; SUPER with grant option on *.*"
    )


def test_least_privilege_of_the_recorded_accounts() -> None:
    grants = {
        name: sorted((g["level"], g["privilege_type"]) for g in PRIMARY[name]["grants"])
        for name in ("repl", "check")
    }
    assert grants["repl"] == [
        ("*.*", "BACKUP_ADMIN"),
        ("*.*", "REPLICATION SLAVE"),
    ]
    assert grants["check"] == [("*.*", "REPLICATION CLIENT"), ("lab.*", "SELECT")]


def test_schemas() -> None:
    recorded = SchemaFacts(PRIMARY["schema"]["schema"]["collation"])
    assert Schema("foobar").differences(recorded) == ()
    (change,) = Schema("foobar").differences(SchemaFacts(""))
    assert change.after == "utf8mb4_0900_ai_ci"


def test_the_data_directory_is_prepared_once() -> None:
    resource = DataDirectory()
    assert len(resource.differences(PathFacts("absent"))) == 1
    assert resource.differences(PathFacts("file", content=resource.mark)) == ()


# --- the status ----------------------------------------------------------------------------------


def test_status_of_a_primary() -> None:
    status = parse(PRIMARY["server"])
    assert (status.up, status.writable) == (True, True)
    assert (status.semisync_enabled, status.semisync_active) == (True, True)
    assert status.semisync_replicas == 1
    assert status.epoch == EPOCH
    assert status.source == ""
    assert not status.replicating


def test_status_of_a_primary_after_a_fallback_to_async() -> None:
    status = parse(changed(PRIMARY["server"], "status", Rpl_semi_sync_source_status="OFF"))
    assert status.semisync_enabled
    assert not status.semisync_active


def test_status_of_a_replica() -> None:
    status = parse(REPLICA["server"])
    assert status.replicating
    assert not status.writable
    assert status.lag == 0
    assert "\n" not in status.executed.text


def test_status_of_a_stopped_replica() -> None:
    status = parse(STOPPED["server"])
    assert not status.replicating
    assert status.lag is None
