"""The access sheets of a class: one printable page per team, in one HTML file."""

from __future__ import annotations

import html
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from provision.core.lab import Lab
from provision.providers.ssh.host_key import fingerprint

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1b1b; background: #fff; margin: 0; }
section { max-width: 42rem; margin: 0 auto; padding: 2.5rem 1.5rem; }
section + section { border-top: 1px dashed #888; }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
p { margin: .3rem 0; } .class { color: #555; margin: 0; }
.code { font: 700 1.9rem/1.3 ui-monospace, monospace; letter-spacing: .08em; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #ccc; }
td.key { font: 12px ui-monospace, monospace; overflow-wrap: anywhere; }
pre { font: 12.5px/1.4 ui-monospace, monospace; background: #f3f3f3; padding: .6rem .8rem;
  white-space: pre-wrap; overflow-wrap: anywhere; margin: .4rem 0; }
@page { size: A4; margin: 14mm; }
@media print {
  body { font-size: 11pt; }
  section { padding: 0; border: 0 !important; break-after: page; break-inside: avoid; }
  section:last-of-type { break-after: auto; }
  pre { background: none; border: 1px solid #999; }
}
"""


@dataclass(frozen=True)
class Sheet:
    """What one team gets.

    Args:
        board: the URL of the board; empty when the class has none.
        user: that the team logs in as.
        key: its private key, in OpenSSH's format.
        host_keys: by machine.
        jump: how a computer that is not the controller reaches the machines: ``user@host``.
    """

    title: str
    team: str
    lab: Lab
    code: str
    user: str
    key: str
    host_keys: dict[str, str]
    board: str = ""
    jump: str = ""

    @property
    def key_file(self) -> str:
        """The name under which the team saves its key."""
        return f"{self.lab.name}.key"

    def ssh_command(self, address: str) -> str:
        """The command that logs in to a machine."""
        words = ["ssh", "-i", self.key_file, "-o", "IdentitiesOnly=yes"]
        words += ["-J", self.jump] if self.jump else []
        return shlex.join([*words, f"{self.user}@{address}"])


def page(title: str, sheets: Sequence[Sheet]) -> str:
    """The sheets of all teams as one HTML page, which requests nothing from elsewhere."""
    sections = "\n".join(map(section, sheets))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body>\n{sections}\n</body></html>\n"
    )


def section(sheet: Sheet) -> str:
    """The sheet of one team."""
    text = html.escape
    lab = sheet.lab
    rows = "".join(
        f"<tr><td>{text(machine.name)}</td><td>{machine.address}</td>"
        f"<td>{text(', '.join(machine.roles))}</td>"
        f'<td class="key">{text(_fingerprint(sheet.host_keys.get(machine.name, "")))}</td></tr>'
        for machine in lab.machines
    )
    board = f"<h2>Your page</h2><p>{text(sheet.board)}</p>" if sheet.board else "<h2>Your code</h2>"
    where = "" if sheet.jump else " on the teacher's computer"
    commands = "\n".join(sheet.ssh_command(str(machine.address)) for machine in lab.machines)
    return (
        f'<section><p class="class">{text(sheet.title)}</p><h1>{text(sheet.team)}</h1>'
        f'{board}<p class="code">{text(sheet.code)}</p>'
        f"<h2>Your site</h2><p>{text(lab.url)}/ is {text(lab.site)}</p>"
        "<h2>Your machines</h2><table><thead><tr><th>machine</th><th>address</th><th>roles</th>"
        f"<th>host key</th></tr></thead><tbody>{rows}</tbody></table>"
        f"<h2>SSH{where}</h2><p>Save the key below as <code>{text(sheet.key_file)}</code>, "
        f"then <code>chmod 600 {text(sheet.key_file)}</code>. It opens your machines only.</p>"
        f"<pre>{text(commands)}</pre><pre>{text(sheet.key.strip())}</pre></section>"
    )


def _fingerprint(host_key: str) -> str:
    return fingerprint(host_key) if host_key else ""
