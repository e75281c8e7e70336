"""scripts/up: install what is missing, then run ``invoke lab.up`` with the same arguments.

With ``--bundle FILE``, everything comes from that file, and no network is needed, then or later.
"""

from __future__ import annotations

from collections.abc import Sequence

from provision.setup import apt, bundled, packages, privileges, virtual_environment
from provision.setup.console import replace_process, say, start_log
from provision.setup.lock import setup_lock
from provision.setup.options import parse_up

LOCKS = ("requirements.lock",)


def main(arguments: Sequence[str]) -> int:
    """Run it.

    Raises:
        SetupError: when something cannot be installed.
    """
    options = parse_up(arguments)
    containers = options.provider == "lxc"
    if containers:
        privileges.require()
    with setup_lock() as keep:
        start_log()
        if options.bundle:
            bundled.unpack(options.bundle)
        sources = bundled.sources(LOCKS[0])
        if containers:
            apt.install(bundled.host_packages(packages.RUN), sources)
            bundled.unpack_images(keep)
        virtual_environment.create(LOCKS, sources.pip, keep)
        bundled.add_boxes(keep)
    say(" ".join(["invoke lab.up", *options.arguments]))
    return replace_process([virtual_environment.program("invoke"), "lab.up", *options.arguments])
