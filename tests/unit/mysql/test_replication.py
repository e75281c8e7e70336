"""What lab.plan says of a database's role, from answers of real servers and variations of them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from provision.database.resources import Account, DataDirectory, Grant, Record, Replication, Schema
from provision.database.status import Status

RECORDED = Path(__file__).parent / "recorded"
PRIMARY = json.loads((RECORDED / "primary.json").read_text())
REPLICA = json.loads((RECORDED / "replica.json").read_text())
STOPPED = json.loads((RECORDED / "replica-stopped.json").read_text())
EPOCH = int(PRIMARY["server"]["epoch"]["epoch"])
SECRET = "a-password-of-the-tests"


def role(machine: str, epoch: int = EPOCH, primary: str = "web-01") -> Replication:
    addresses = {"web-01": "192.168.56.11", "web-02": "192.168.56.12"}
    peers = {name: address for name, address in addresses.items() if name != machine}
    return Replication(Record(machine, primary, epoch, peers), "repl", SECRET)


def differs(resource: Any, answer: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Key to before and after, without the password (the recorded server had another one)."""
    found = {d.key: (d.before, d.after) for d in resource.differences(answer)}
    found.pop("password", None)
    return found


def changed(answer: dict[str, Any], place: str, **values: Any) -> dict[str, Any]:
    answer = copy.deepcopy(answer)
    answer[place] = {**answer[place], **values} if values else None
    return answer


def test_a_primary_as_it_should_be() -> None:
    assert differs(role("web-01"), PRIMARY["server"]) == {}


def test_a_replica_as_it_should_be() -> None:
    assert differs(role("web-02"), REPLICA["server"]) == {}


def test_a_server_that_does_not_run() -> None:
    answer = {"up": False, "error": "mysqld does not answer"}
    assert set(differs(role("web-01"), answer)) == {"writes", "epoch", "source", "semi-sync"}


Case = tuple[str, dict[str, Any], dict[str, tuple[str, str]]]
PRIMARY_CASES: dict[str, Case] = {
    "read only after a restart": (
        "variables",
        {"read_only": "1", "super_read_only": "1", "rpl_semi_sync_source_enabled": "OFF"},
        {"writes": ("refused", "accepted"), "semi-sync": ("replica", "source")},
    ),
    "no promotion written": ("epoch", {"epoch": None}, {"epoch": ("none", str(EPOCH))}),
    "semi-sync switched off by hand": (
        "variables",
        {"rpl_semi_sync_source_enabled": "OFF"},
        {"semi-sync": ("replica", "source")},
    ),
}


@pytest.mark.parametrize("name", PRIMARY_CASES)
def test_a_primary_that_drifted(name: str) -> None:
    place, values, expected = PRIMARY_CASES[name]
    answer = changed(PRIMARY["server"], place, **values)
    assert differs(role("web-01"), answer) == expected


def test_a_recorded_primary_that_still_replicates() -> None:
    found = differs(role("web-02", primary="web-02"), REPLICA["server"])
    assert found["writes"] == ("refused", "accepted")
    assert found["source"] == ("192.168.56.11 by GTID over TLS", "none")


def test_an_old_primary_that_is_recorded_as_replica() -> None:
    found = differs(role("web-01", primary="web-02"), PRIMARY["server"])
    assert found["writes"] == ("accepted", "refused")
    assert found["source"] == ("none", "192.168.56.12 by GTID over TLS")
    assert found["receiving"] == ("", "running")


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
    answer = changed(REPLICA["server"], "replica", **values)
    assert differs(role("web-02"), answer) == expected


def test_a_replica_stopped_for_real() -> None:
    assert set(differs(role("web-02"), STOPPED["server"])) == {"receiving", "applying"}


def test_a_replica_that_takes_writes() -> None:
    answer = changed(REPLICA["server"], "variables", super_read_only="0", read_only="0")
    assert differs(role("web-02"), answer) == {"writes": ("accepted", "refused")}


def test_a_replica_with_another_password_stored() -> None:
    found = role("web-02").differences(REPLICA["server"])
    assert [d.key for d in found] == ["password"]
    assert found[0].secret


def test_secrets_go_into_the_request_and_nowhere_else() -> None:
    resource = role("web-02")
    (action,) = resource.actions(REPLICA["server"])
    assert action["repl"] == {"user": "repl", "password": SECRET}
    assert SECRET not in repr(resource)
    assert SECRET not in json.dumps([resource.expected(), resource.question()])


# --- accounts and schemas ------------------------------------------------------------------------

NETWORK = PRIMARY["app"]["account"]["host"]


def account(**changes: Any) -> Account:
    grant = Grant(("SELECT", "INSERT", "UPDATE", "DELETE"), "foobar.*")
    return Account("foobar_app", NETWORK, SECRET, changes.get("grants", (grant,)))


def own(answer: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The recorded account, as if it had been made with the password of the tests."""
    return changed(answer, "account", lab=account().fingerprint, **changes)


def test_an_account_as_it_should_be() -> None:
    assert account().differences(own(PRIMARY["app"])) == ()


def test_replicas_get_the_very_same_accounts() -> None:
    assert account().differences(own(REPLICA["app"])) == ()


def test_an_account_that_is_not_there() -> None:
    found = account().differences(PRIMARY["nobody"])
    assert {d.key for d in found} == {"login", "password", "grants"}
    assert all(d.before == "" for d in found)


def test_a_password_changed_by_hand_is_noticed_and_hidden() -> None:
    (found,) = account().differences(own(PRIMARY["app"], digest="0" * 64))
    assert (found.key, found.before, found.secret) == ("password", "changed by hand", True)


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
    (found,) = account().differences(own(PRIMARY["app"], **{column: value}))
    assert (found.key, found.before) == ("login", login)


def test_a_privilege_too_many() -> None:
    answer = own(PRIMARY["app"])
    answer["grants"] = [
        *answer["grants"],
        {
            "grantee": f"'foobar_app'@'{NETWORK}'",
            "level": "*.*",
            "privilege_type": "SUPER",
            "is_grantable": "YES",
        },
    ]
    (found,) = account().differences(answer)
    assert found.before == (
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
    assert Schema("foobar").differences(PRIMARY["schema"]) == ()
    absent = {"up": True, "error": "", "schema": None}
    assert [d.after for d in Schema("foobar").differences(absent)] == ["utf8mb4_0900_ai_ci"]


def test_the_data_directory_is_looked_at_once() -> None:
    resource = DataDirectory()
    assert len(resource.differences({"type": "absent"})) == 1
    assert resource.differences({"type": "file", "content": resource.mark}) == ()


# --- the status ----------------------------------------------------------------------------------


def test_status_of_a_primary() -> None:
    now = Status.read(PRIMARY["server"])
    assert (now.up, now.writable, now.semisync_on, now.semisync_active) == (True,) * 4
    assert now.semisync_replicas == 1
    assert now.epoch == EPOCH
    assert now.source == ""
    assert not now.following


def test_status_of_a_primary_that_fell_back_to_async() -> None:
    answer = changed(PRIMARY["server"], "status", Rpl_semi_sync_source_status="OFF")
    now = Status.read(answer)
    assert now.semisync_on
    assert not now.semisync_active


def test_status_of_a_replica() -> None:
    now = Status.read(REPLICA["server"])
    assert now.following
    assert not now.writable
    assert now.lag == 0
    assert "\n" not in now.executed


def test_status_of_a_stopped_replica() -> None:
    now = Status.read(STOPPED["server"])
    assert not now.following
    assert now.lag is None


def test_status_of_a_server_that_is_down() -> None:
    assert Status.read({"up": False, "error": "gone"}) == Status(error="gone")
