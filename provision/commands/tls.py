"""`tls.*`: the lab's certificates, and how a computer comes to trust them."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict
from typing import Any

from provision.commands import show as views
from provision.commands.base import Session, console, session, show_json, task
from provision.core.errors import LabError, UsageError
from provision.core.pki import Facts
from provision.services.tls import role as tls
from provision.services.tls.https import handshake


def _machines(now: Session) -> dict[str, str]:
    """By certificate name, the machines that serve with it."""
    found: dict[str, list[str]] = {}
    for machine in now.lab.machines:
        if tls.wanted(now.context, machine):
            name = tls.certificate_name(now.context, machine)
            found.setdefault(name, []).append(machine.name)
    return {name: ", ".join(machines) for name, machines in found.items()}


def _https(now: Session) -> None:
    if not now.lab.topology.https:
        raise LabError(
            f"lab {now.lab.name} serves plain HTTP: its topology {now.lab.topology.name} does not "
            "say https: true",
            "invoke lab.up --topology secured",
        )


def _row(fact: Facts, where: str) -> dict[str, str]:
    return {
        "certificate": fact.name,
        "serves": where,
        "for": ", ".join(fact.names) or "signing the others",
        "from": f"{fact.start:%Y-%m-%d}",
        "until": f"{fact.end:%Y-%m-%d}",
        "days": str(fact.days),
    }


@task(help={"json": "for programs"})
def show(c: Any, lab: str = "", json: bool = False) -> None:
    """Show the lab's certificates, their successors, and what the balancer's TLS says of itself."""
    now = session(lab)
    _https(now)
    authority = now.context.authority
    facts: list[tuple[Facts, str]] = []
    for name, where in {"ca": "", **_machines(now)}.items():
        for each, place in ((name, where), (f"{name}.next", f"{where}, afterwards")):
            fact = authority.fact(each)
            if fact is not None:
                facts.append((fact, place))
    reachable = not now.provider.link_problem(now.lab)
    shown = handshake(now.lab) if reachable else None
    if json:
        show_json(
            {
                "certificates": [asdict(fact) | {"serves": where} for fact, where in facts],
                "front": asdict(shown) if shown else None,
            }
        )
        return
    views.table(console(), [_row(fact, where) for fact, where in facts])
    print()
    for fact, _ in facts[:2]:
        print(f"{fact.name}: SHA-256 {fact.fingerprint}")
    if shown is None or shown.error:
        print(f"{now.lab.url}: no TLS ({shown.error if shown else 'its network is not up'})")
    else:
        left = (shown.ends - time.time()) / 86400
        print(f"{now.lab.url}: {shown.version}, {shown.cipher}, {left:.0f} days left")


@task()
def trust(c: Any, lab: str = "") -> None:
    """Say how Linux, macOS, Windows and Firefox come to trust this lab, and how they stop."""
    now = session(lab)
    _https(now)
    authority = now.context.authority
    fact = authority.fact("ca")
    if fact is None:
        raise LabError("this lab has no certificate authority yet", "invoke lab.up")
    print(trust_text(shlex.quote(str(fact.path)), f"foobar-lab-{now.lab.name}", fact, now))


def trust_text(path: str, name: str, fact: Facts, now: Session) -> str:
    """The steps for each system.

    Args:
        path: of the authority's certificate on this computer.
        name: under which it is installed, to be found again.
        fact: what it says.
        now: the lab.
    """
    title = f"foobar-lab {now.lab.name} CA"
    return f"""\
The authority of lab {now.lab.name} is {path}
until {fact.end:%Y-%m-%d}, SHA-256 {fact.fingerprint}
Whoever has its key (only this computer) can pretend to be any site to whoever trusts it: trust it
on your own computer, and remove it when the lab is gone.

one command, trusting nothing for good
  curl --cacert {path} --resolve {now.lab.site}:443:{now.lab.address} https://{now.lab.site}/

Linux: Debian, Ubuntu (for Chrome as well: see below)
  sudo cp {path} /usr/local/share/ca-certificates/{name}.crt && sudo update-ca-certificates
  away: sudo rm /usr/local/share/ca-certificates/{name}.crt && sudo update-ca-certificates --fresh
Linux: Fedora, RHEL
  sudo cp {path} /etc/pki/ca-trust/source/anchors/{name}.pem && sudo update-ca-trust
  away: sudo rm /etc/pki/ca-trust/source/anchors/{name}.pem && sudo update-ca-trust
Linux: Chrome, Chromium (their own store; package libnss3-tools)
  mkdir -p $HOME/.pki/nssdb && certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n {name} -i {path}
  away: certutil -d sql:$HOME/.pki/nssdb -D -n {name}
macOS (Safari, Chrome)
  sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {path}
  away: sudo security delete-certificate -c "{title}" /Library/Keychains/System.keychain
Windows (Edge, Chrome), in a console of the administrator
  certutil -addstore -f Root {path}
  away: certutil -delstore Root "{title}"
Firefox, everywhere
  Settings > Privacy & Security > Certificates > View Certificates > Authorities > Import,
  choose the file, tick "Trust this CA to identify websites"; away: Delete or Distrust there

The name {now.lab.site} must lead to {now.lab.address}: see invoke dns.hosts.
Afterwards: https://{now.lab.site}/"""


@task(positional=["machine"])
def renew(c: Any, machine: str, lab: str = "") -> None:
    """Forget a machine's certificate and its successor: the next lab.up makes new ones."""
    now = session(lab)
    _https(now)
    found = now.lab.machine(machine)
    if not tls.wanted(now.context, found):
        names = [m.name for m in now.lab.machines if tls.wanted(now.context, m)]
        raise UsageError(f"{machine} serves no TLS", f"choose from {', '.join(names)}")
    with now.lock():
        now.context.authority.renew(tls.certificate_name(now.context, found))
    print(f"{machine} gets a new certificate from the next invoke lab.up")
