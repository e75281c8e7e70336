"""The SQL that makes accounts and points replicas at their source."""

from __future__ import annotations

from provision.database.agent.accounts import statements
from provision.database.agent.replication import change_source


def test_an_account_is_made_or_mended_by_the_same_statements() -> None:
    made = statements(
        {
            "user": "foobar_app",
            "host": "192.168.56.0/24",
            "password": "it's",
            "grants": [["SELECT, INSERT", "foobar.*"], ["REPLICATION CLIENT", "*.*"]],
        }
    )
    who = "'foobar_app'@'192.168.56.0/24'"
    how = (
        r"IDENTIFIED WITH caching_sha2_password BY 'it\'s' "
        "REQUIRE SSL PASSWORD EXPIRE NEVER ACCOUNT UNLOCK"
    )
    assert made == [
        f"CREATE USER IF NOT EXISTS {who} {how}",
        f"ALTER USER {who} {how}",
        f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {who}",
        f"GRANT SELECT, INSERT ON `foobar`.* TO {who}",
        f"GRANT REPLICATION CLIENT ON *.* TO {who}",
    ]


def test_a_replica_finds_its_source_by_gtid_over_verified_tls() -> None:
    statement = change_source("192.168.56.11", "repl", "p'w")
    for part in (
        "SOURCE_HOST = '192.168.56.11'",
        r"SOURCE_PASSWORD = 'p\'w'",
        "SOURCE_AUTO_POSITION = 1",
        "SOURCE_SSL = 1",
        "SOURCE_SSL_VERIFY_SERVER_CERT = 1",
        "SOURCE_DELAY = 0",
        "SOURCE_RETRY_COUNT = 0",
    ):
        assert part in statement
