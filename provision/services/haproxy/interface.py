"""What other services use of HAProxy: its sockets, and the names in its configuration."""

from __future__ import annotations

SERVICE = "haproxy.service"
SOCKET = "/run/haproxy/admin.sock"
MASTER_SOCKET = "/run/haproxy-master.sock"
"""Set by Debian's unit: the master CLI, which also lists workers from before a reload."""

FRONTEND = "www"
BACKEND = "web"
STATIC_BACKEND = "static"
"""The same servers, for static files."""

STATISTICS_PORT = 8404
READY_PATH = "/ready"
"""On the statistics port: 200 while a server is up, so that this balancer can serve."""

WEIGHT = 1
"""The default weight of a server; HAProxy allows 0 to 256.

It is small on purpose: a server that was down for a moment gets no request until the current round
ends, and the length of a round grows with the weights (configuration manual, "balance roundrobin").
With 100, a server was measured to get none for more than twenty seconds; with 1 it is a handful.
"""
