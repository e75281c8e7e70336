"""How many requests the site serves at once, and how many wait: derived from gunicorn's threads.

More concurrent requests than threads only make a queue inside gunicorn, where no limit and no
priority applies. So the balancer holds that queue: each server gets at most as many requests as its
application has threads (``maxconn``), some wait, and further ones get a 503 with Retry-After.
"""

from __future__ import annotations

from provision.core.lab import Lab, Machine
from provision.core.timeouts import TIMEOUTS

WORKERS = 2
"""Processes of gunicorn on an application server. Two suit one or two cores."""

THREADS = 4
"""Threads of each process: requests mostly wait for MySQL."""

SLOTS = WORKERS * THREADS
"""Concurrent requests of an application server."""

REQUEST_MILLISECONDS = 250
"""A slow request, on average under load; a queue of these must end before `TIMEOUTS.queue`."""

QUEUE_PER_SLOT = TIMEOUTS.queue // REQUEST_MILLISECONDS
"""Requests that may wait for each slot."""

RETRY_AFTER_SECONDS = 2
"""Retry-After of the balancer's and Nginx's 503: by then the queue of that moment is served."""

CONNECTIONS = 3_800
"""Client connections of the site on a balancer."""

RESERVED_CONNECTIONS = 200
"""More that a balancer accepts: for statistics, readiness and peers, also when the site is full."""

CONNECTIONS_PER_ADDRESS = 1_000
"""From one address. A class of 40 behind one NAT has 25 for each; a browser opens 6."""

STATIC_SLOTS = 64
"""Concurrent requests for static files on a web server, which use no thread of gunicorn."""

RETRIES_PERCENT = 20
"""The retry budget: this share of the requests of the last ten seconds may be retried …"""

RETRIES_ALWAYS = 100
"""… and this number in addition, for a site with few visitors."""


def preferred_apps(lab: Lab, web: Machine) -> tuple[Machine, ...]:
    """The application servers that a web server uses while they respond: its own, or its share.

    With one partner each, a web server's write readiness is that of its application server, and
    the balancer can avoid it. Every application server is preferred by some web server.
    """
    if "app" in web.roles:
        return (web,)
    apps, webs = lab.with_role("app"), lab.with_role("nginx")
    if not apps:
        return ()
    position = webs.index(web)
    share = tuple(app for i, app in enumerate(apps) if i % len(webs) == position)
    return share or (apps[position % len(apps)],)


def server_slots(lab: Lab, web: Machine, slots: int = SLOTS) -> int:
    """``maxconn`` of a web server: the slots of its application servers, shared with others.

    Args:
        slots: concurrent requests of an application server.
    """
    webs = lab.with_role("nginx")
    users = [app for other in webs for app in preferred_apps(lab, other)]
    return max(1, sum(slots // users.count(app) for app in preferred_apps(lab, web)))


def queue_bound(lab: Lab, app_slots: int = SLOTS) -> int:
    """Requests that wait per available web server; the balancer refuses further ones."""
    slots = [server_slots(lab, web, app_slots) for web in lab.with_role("nginx")]
    return QUEUE_PER_SLOT * min(slots, default=app_slots)


def nginx_requests(lab: Lab, web: Machine, slots: int = SLOTS) -> int:
    """Requests that Nginx passes on at once: slots and queue, where no balancer holds the queue.

    Behind a balancer it is only a backstop: all web servers may share one application server.
    """
    return server_slots(lab, web, slots) + queue_bound(lab, slots)
