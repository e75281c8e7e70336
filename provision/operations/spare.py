"""A spare of a snapshot: its machines, booted in advance; a restore then takes about a second."""

from __future__ import annotations

from collections.abc import Sequence

from provision.core.lab import Lab
from provision.core.report import Report
from provision.operations import snapshot_archive as archive
from provision.operations.session import Session

REQUEST = """\
import http.client, ssl, sys
https, address, host = sys.argv[1:]
if https:
    site = http.client.HTTPSConnection(address, timeout=3, context=ssl._create_unverified_context())
else:
    site = http.client.HTTPConnection(address, timeout=3)
site.request("GET", "/", headers={"Host": host})
sys.exit(site.getresponse().status != 200)
"""
"""Runs on a machine that no network but the spare's own reaches; who responds is certain."""


def prepare(session: Session, name: str, report: Report) -> None:
    """Boot the machines of a snapshot, and freeze them when the site works.

    Raises:
        LabError: when they do not boot, or the provider has no spares; the snapshot stays.
    """
    directory = session.lab.directory
    manifest = archive.load(directory, name)
    lab, _ = archive.stored_lab(directory, manifest, session.lab.root)
    probes = {lab.front.name: site_probe(lab)}
    session.provider.prepare_spare(lab, name, manifest.machines, probes, report)


def site_probe(lab: Lab) -> Sequence[str]:
    """The command that asks for a page through the balancer."""
    https = "yes" if lab.topology.https else ""
    return ("python3", "-c", REQUEST, https, str(lab.address), lab.site)
