"""The SQL that creates accounts and points replicas at their source."""

from __future__ import annotations

from provision.database.agent.accounts import account_statements
from provision.database.agent.replica import CHANGE_SOURCE
from provision.database.agent.session import quote_name


def test_the_same_statements_create_and_correct_an_account() -> None:
    statements = account_statements(
        "foobar_app",
        "192.168.56.0/24",
        "it's",
        [("SELECT, INSERT", "foobar.*"), ("REPLICATION CLIENT", "*.*")],
    )
    account = ("foobar_app", "192.168.56.0/24")
    rules = (
        "IDENTIFIED WITH caching_sha2_password BY %s "
        "REQUIRE SSL PASSWORD EXPIRE NEVER ACCOUNT UNLOCK"
    )
    assert statements == [
        (f"CREATE USER IF NOT EXISTS %s@%s {rules}", (*account, "it's")),
        (f"ALTER USER %s@%s {rules}", (*account, "it's")),
        ("REVOKE ALL PRIVILEGES, GRANT OPTION FROM %s@%s", account),
        ("GRANT SELECT, INSERT ON `foobar`.* TO %s@%s", account),
        ("GRANT REPLICATION CLIENT ON *.* TO %s@%s", account),
    ]


def test_a_replica_uses_gtids_and_verified_tls() -> None:
    assert CHANGE_SOURCE.count("%s") == 4
    for part in (
        "SOURCE_AUTO_POSITION = 1",
        "SOURCE_SSL = 1",
        "SOURCE_SSL_VERIFY_SERVER_CERT = 1",
        "SOURCE_DELAY = 0",
        "SOURCE_RETRY_COUNT = 0",
    ):
        assert part in CHANGE_SOURCE


def test_names_are_quoted() -> None:
    assert quote_name("a`b") == "`a``b`"
