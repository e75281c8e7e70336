"""Limits at which a lab counts as unhealthy, the same for checks, alert rules and charts."""

from __future__ import annotations

REPLICATION_LAG_SECONDS = 5
"""A replica may be so far behind its primary."""

DISK_USED_PERCENT = 90
"""So much of a file system may be used: of its blocks, and of its inodes."""

DISK_WARNING_PERCENT = 80
"""From here on a warning is shown."""

CEILING_PERCENT = 90
"""So much may be used of connections, HAProxy's slots, file descriptors and ephemeral ports."""

CEILING_WARNING_PERCENT = 75
"""From here on a warning is shown."""

FILES_RESERVE = 64
"""So many file descriptors must be free, or a service cannot accept its usual connections."""

PORTS_RESERVE = 256
"""So many ephemeral ports must be free."""

MEMORY_AVAILABLE_PERCENT = 3
"""So much memory must be available before the kernel starts to kill processes."""

MEMORY_WARNING_PERCENT = 8
"""Below this a warning is shown."""

RESTART_LOOP = 3
"""So many automatic restarts of a service in `LOOP_SECONDS`."""

FLAPS = 4
"""So many transitions of a backend server to DOWN in `LOOP_SECONDS`."""

LOOP_SECONDS = 60
"""The period in which they are counted."""

LOOP_QUIET_SECONDS = 8
"""After so long without another one, it has stopped; less than `lab.up` waits for its checks."""

RECENT_RESTART_SECONDS = 600
"""An automatic restart is shown for so long."""

TIMER_SECONDS = {"lab-facts.timer": 300, "lab-purge.timer": 9000}
"""A timer elapses at least once in this time; the others: `DAILY_TIMER_SECONDS`."""

DAILY_TIMER_SECONDS = 26 * 3600
"""For daily timers, with their random delay."""

CATCH_UP_SECONDS = 70 * 60
"""A persistent timer makes up for a missed run within this time after the machine's start.

The longest RandomizedDelaySec of the lab's timers is one hour.
"""

ERROR_RATE = 0.05
"""This share of requests may fail."""

CERTIFICATE_SECONDS = 14 * 86400
"""Validity below which the alert fires; `lab.up` renews certificates 30 days before expiry."""

BACKUP_AGE_SECONDS = 26 * 3600
"""Age of the newest backup; one is made every night."""
