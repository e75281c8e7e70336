"""What others use of the database: accounts, the schema of own applications, paths on machines."""

from __future__ import annotations

from provision.database.agent import backup_place, errant_files

BACKUP_FOLDER = backup_place.FOLDER
ERRANT_FOLDER = errant_files.FOLDER
CHECK_USER = "lab_check"
REPL = "repl"
"""The account that replicas connect to their source with."""

TLS_FOLDER = "/etc/mysql/lab"

OWN_SCHEMA = "app"
"""The schema of an application of the user's own."""

OWN_ACCOUNT = "app"
OWN_PASSWORD = "mysql-own-app"
"""The name of its password among the lab's secrets."""
