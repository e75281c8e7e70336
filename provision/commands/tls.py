"""`tls.*`: the lab's certificates, and how a computer trusts its CA."""

from __future__ import annotations

import shlex
import time
from datetime import UTC, datetime
from typing import Any

from provision.commands import tables
from provision.commands.base import Session, console, open_session, publish, task
from provision.commands.results import site as results
from provision.core.errors import LabError, not_among
from provision.core.hints import for_lab
from provision.core.pki import CertificateDetails
from provision.services.tls import interface as tls
from provision.services.tls.https import TlsHandshake, handshake


def _machines(session: Session) -> dict[str, str]:
    """By certificate name, the machines that use it."""
    users: dict[str, list[str]] = {}
    for machine in session.lab.machines:
        if tls.terminates_tls(session.context, machine):
            name = tls.certificate_name(session.context, machine)
            users.setdefault(name, []).append(machine.name)
    return {name: ", ".join(machines) for name, machines in users.items()}


def _https(session: Session) -> None:
    if not session.lab.topology.https:
        raise LabError(
            f"lab {session.lab.name} has no HTTPS: its topology is {session.lab.topology.name}",
            "invoke lab.up --topology secured",
        )


def _row(fact: CertificateDetails, where: str) -> dict[str, str]:
    return {
        "certificate": fact.name,
        "serves": where,
        "for": ", ".join(fact.names) or "signs the others",
        "from": f"{fact.start:%Y-%m-%d}",
        "until": f"{fact.end:%Y-%m-%d}",
        "days": str(fact.days),
    }


LAYOUT = tables.layout(
    "tls.show",
    tables.Column("CERTIFICATE"),
    tables.Column("SERVES", 3, prose=True),
    tables.Column("FOR", 2, prose=True),
    tables.Column("FROM", 4),
    tables.Column("UNTIL", 1),
    tables.Column("DAYS", right=True),
)


@task(result=results.Certificates)
def show(c: Any, lab: str = "") -> None:
    """Show certificates and the balancer's TLS settings."""
    session = open_session(lab)
    _https(session)
    authority = session.context.authority
    facts: list[tuple[CertificateDetails, str]] = []
    for name, where in {"ca": "", **_machines(session)}.items():
        for file, place in ((name, where), (f"{name}.next", f"{where}, next")):
            fact = authority.details(file)
            if fact is not None:
                facts.append((fact, place))
    reachable = not session.provider.network_problem(session.lab)
    shown = handshake(session.lab) if reachable else None
    if publish(_values(facts, shown)):
        return
    rows = [tuple(_row(fact, where).values()) for fact, where in facts]
    tables.show(console(), LAYOUT, rows)
    print()
    for fact, _ in facts[:2]:
        print(f"{fact.name}: SHA-256 {fact.fingerprint}")
    if shown is None or shown.error:
        print(
            f"{session.lab.url}: no TLS ({shown.error if shown else 'its network does not exist'})"
        )
    else:
        left = (shown.ends - time.time()) / 86400
        print(f"{session.lab.url}: {shown.version}, {shown.cipher}, {left:.0f} days left")


def _values(
    facts: list[tuple[CertificateDetails, str]], shown: TlsHandshake | None
) -> results.Certificates:
    return results.Certificates(
        certificates=[
            results.Certificate(
                certificate=fact.name.removesuffix(".next"),
                path=str(fact.path),
                machines=[name for name in where.removesuffix(", next").split(", ") if name],
                names=list(fact.names),
                start=_time(fact.start),
                end=_time(fact.end),
                days=fact.days,
                successor=fact.name.endswith(".next"),
                fingerprint=fact.fingerprint,
            )
            for fact, where in facts
        ],
        handshake=None
        if shown is None
        else results.HandshakeValues(
            version=shown.version,
            cipher=shown.cipher,
            end=_time(datetime.fromtimestamp(shown.ends, UTC)) if shown.ends else "",
            names=list(shown.names),
            error=shown.error,
        ),
    )


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


@task(result=results.TrustText)
def trust(c: Any, lab: str = "") -> None:
    """Show how to trust the lab's CA on each system."""
    session = open_session(lab)
    _https(session)
    authority = session.context.authority
    fact = authority.details("ca")
    if fact is None:
        raise LabError("this lab has no certificate authority yet", "invoke lab.up")
    name = f"foobar-lab-{session.lab.name}"
    text = trust_text(shlex.quote(str(fact.path)), name, fact, session)
    values = results.TrustText(
        path=str(fact.path), fingerprint=fact.fingerprint, end=_time(fact.end), text=text
    )
    if not publish(values):
        print(text)


def trust_text(path: str, name: str, fact: CertificateDetails, session: Session) -> str:
    """The commands for each system.

    Args:
        path: file of the CA certificate, quoted for a shell.
        name: of the installed certificate.
    """
    title = f"foobar-lab {session.lab.name} CA"
    return f"""\
The CA certificate of lab {session.lab.name} is {path},
valid until {fact.end:%Y-%m-%d}, SHA-256 {fact.fingerprint}
The holder of its private key (this computer) can impersonate any site to a computer that trusts it.
Trust it on your own computer only, and remove it when you remove the lab.

For one command
  curl --cacert {path} --resolve {session.lab.site}:443:{session.lab.address} https://{session.lab.site}/

Linux: Debian, Ubuntu (Chrome has its own store, see below)
  sudo cp {path} /usr/local/share/ca-certificates/{name}.crt && sudo update-ca-certificates
  remove: sudo rm /usr/local/share/ca-certificates/{name}.crt && sudo update-ca-certificates --fresh
Linux: Fedora, RHEL
  sudo cp {path} /etc/pki/ca-trust/source/anchors/{name}.pem && sudo update-ca-trust
  remove: sudo rm /etc/pki/ca-trust/source/anchors/{name}.pem && sudo update-ca-trust
Linux: Chrome, Chromium (their own store; package libnss3-tools)
  mkdir -p $HOME/.pki/nssdb && certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n {name} -i {path}
  remove: certutil -d sql:$HOME/.pki/nssdb -D -n {name}
macOS (Safari, Chrome)
  sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {path}
  remove: sudo security delete-certificate -c "{title}" /Library/Keychains/System.keychain
Windows (Edge, Chrome), in an administrator console
  certutil -addstore -f Root {path}
  remove: certutil -delstore Root "{title}"
Firefox on every system
  Settings > Privacy & Security > Certificates > View Certificates > Authorities > Import,
  choose the file, select "Trust this CA to identify websites"; remove: Delete or Distrust there

The name {session.lab.site} must resolve to {session.lab.address}; next:
{for_lab("invoke dns.hosts", session.lab.name)}
Then open https://{session.lab.site}/"""


@task(result=results.Discarded, positional=["machine"])
def renew(c: Any, machine: str, lab: str = "") -> None:
    """Discard a certificate; lab.up issues another."""
    session = open_session(lab)
    _https(session)
    server = session.lab.machine(machine)
    if not tls.terminates_tls(session.context, server):
        names = [m.name for m in session.lab.machines if tls.terminates_tls(session.context, m)]
        raise not_among(f"{machine} does not terminate TLS", "", names)
    with session.lock():
        certificate = tls.certificate_name(session.context, server)
        session.context.authority.discard(certificate)
    following = for_lab("invoke lab.up", session.lab.name)
    publish(results.Discarded(machine=machine, certificate=certificate, next=following))
    print(f"the certificate of {machine} is discarded; next: {following}")
