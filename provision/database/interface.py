"""What monitoring uses of the database: an account that reads status, and paths on the machine."""

from __future__ import annotations

from provision.database.agent.backup_file import FOLDER

BACKUP_FOLDER = FOLDER
CHECK_USER = "lab_check"
TLS_FOLDER = "/etc/mysql/lab"
