"""What others use of the database: accounts, the schema of own applications, paths on machines."""

from __future__ import annotations

from provision.database.agent.backup_place import FOLDER

BACKUP_FOLDER = FOLDER
CHECK_USER = "lab_check"
TLS_FOLDER = "/etc/mysql/lab"

OWN_SCHEMA = "app"
"""The schema of an application of the user's own."""

OWN_ACCOUNT = "app"
OWN_PASSWORD = "mysql-own-app"
"""The name of its password among the lab's secrets."""
