"""What other services use of TLS: file paths, names in certificates, the files a server loads.

TLS ends on balancers, on web servers, and on application servers whose web servers are other
machines. No topology has a role for it: ``https: true`` enables it on all of them.
"""

from __future__ import annotations

from typing import Any

from provision.core.lab import Lab, Machine
from provision.core.pki import StagedCertificate
from provision.engine.context import Context
from provision.engine.plan import Resource
from provision.engine.resources import Directory, File

FOLDER = "/etc/foobar-lab/tls"
CA = f"{FOLDER}/ca.pem"
BUNDLE = f"{FOLDER}/site.pem"
"""Certificate and private key in one file, as HAProxy and Nginx both accept it."""

GROUPS = "X25519MLKEM768:X25519:prime256v1:secp384r1"
"""Key exchange, hybrid post-quantum first (OpenSSL 3.5 and later; draft-ietf-tls-ecdhe-mlkem)."""

CIPHERS = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)
"""For TLS 1.2. These, `GROUPS` and `SUITES` are version 6.0 of Mozilla's "intermediate" profile
(ssl-config.mozilla.org); the client chooses among them. The lab's certificates have ECDSA keys."""

SUITES = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""For TLS 1.3."""

RENEWAL_DAYS = 30
"""A certificate that expires in fewer days is replaced, by the machine's timer and by lab.up."""


def terminates_tls(context: Context, machine: Machine) -> bool:
    """Whether a server on this machine has a certificate."""
    return context.lab.topology.https and server_role(machine) != ""


def server_role(machine: Machine) -> str:
    """The machine's role that is closest to the users; empty when it serves nothing over TLS."""
    return next((role for role in ("haproxy", "nginx", "app") if role in machine.roles), "")


def app_name(lab: Lab) -> str:
    """A name in the certificate of every application server, beside the server's own.

    Nginx verifies one name for all servers of an upstream (nginx.org, proxy_ssl_name).
    """
    return f"app.{lab.topology.domain}"


def certificate_name(context: Context, machine: Machine) -> str:
    """The authority's name for the machine's certificate: the site's, or the server's own."""
    role = server_role(machine)
    return context.lab.site if role == "haproxy" else f"{role}.{machine.name}"


def staged_certificates(context: Context, machine: Machine) -> StagedCertificate:
    """The machine's certificate and its successor.

    A balancer's has the site's names, which users verify. A web server's has its own name, which
    the balancer verifies; an application server's also the one that web servers verify.
    """
    lab = context.lab
    name = certificate_name(context, machine)
    if "haproxy" not in machine.roles:
        names = [machine.name, *([app_name(lab)] if server_role(machine) == "app" else [])]
        return context.authority.issue_staged(name, [machine.address], names)
    balancers = lab.with_role("haproxy")
    addresses = dict.fromkeys([*(m.address for m in balancers), lab.address])
    names = [lab.site, lab.topology.domain, *(m.name for m in balancers)]
    return context.authority.issue_staged(name, addresses, names)


def certificate_files(context: Context, machine: Machine) -> tuple[Resource[Any], ...]:
    """What the server process loads; part of the server's own unit, so that a change reloads it."""
    if not terminates_tls(context, machine):
        return ()
    pair = staged_certificates(context, machine)
    return (
        Directory("/etc/foobar-lab"),
        Directory(FOLDER),
        File(CA, context.authority.pem()),
        File(BUNDLE, pair.certificate + pair.key, mode="0600", secret=True),
    )
