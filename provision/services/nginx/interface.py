"""What other services use of Nginx: how long it avoids a failed upstream server."""

from __future__ import annotations

SERVICE = "nginx.service"

FAIL_TIMEOUT = 1
"""Whole seconds for which Nginx sends no request to an application server that has failed twice
(nginx.org, ngx_http_upstream_module); while it avoids all of them, users get a 502."""
