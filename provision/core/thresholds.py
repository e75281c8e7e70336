"""Limits at which a lab counts as unhealthy, the same for checks, alert rules and charts."""

from __future__ import annotations

REPLICATION_LAG_SECONDS = 5
"""A replica may be so far behind its primary."""

DISK_USED_PERCENT = 90
"""So much of a file system may be used."""

ERROR_RATE = 0.05
"""This share of requests may fail."""

CERTIFICATE_SECONDS = 14 * 86400
"""Validity below which the alert fires; `lab.up` renews certificates 30 days before expiry."""

BACKUP_AGE_SECONDS = 26 * 3600
"""Age of the newest backup; one is made every night."""
