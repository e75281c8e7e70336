"""The file that `drill.new` writes: a drill that passes `drill.lint`, to be changed."""

from __future__ import annotations

import re
from pathlib import Path

from provision.core.atomic import create_file
from provision.core.errors import UsageError
from provision.drills import catalogue

ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

TEXT = """\
---
# schemas/drill.schema.json describes every key; CONTRIBUTING.md has a page about drills.
id: {id}
title: A symptom in one line, as a user would report it
level: 1
minutes: 15
layer: {layer}
topologies: [distributed]
vars:
  machine: {{machine: nginx}}
break:
  - machine: "{{{{ machine }}}}"
    run: |
      systemctl stop nginx
symptoms:
  - name: "{{{{ machine }}}} serves the site"
    get: /
    machine: "{{{{ machine }}}}"
root_cause: {{machine: "{{{{ machine }}}}", service: nginx}}
proofs:
  - name: "{{{{ machine }}}} serves the site"
    get: /
    machine: "{{{{ machine }}}}"
    expect: {{headers: {{X-Served-By: "^{{{{ machine }}}}$"}}}}
forbidden: [lab.up, server-removed]
hints:
  - "Which of the two web servers answers? Ask each of them directly."
  - text: "`systemctl status nginx` shows what systemd knows of it."
    unless: {{run: systemctl is-active nginx, machine: "{{{{ machine }}}}"}}
solution:
  - machine: "{{{{ machine }}}}"
    type: |
      sudo systemctl start nginx
wrong_fix:
  why: Taking the server out of the balancer hides the fault.
  steps:
    - machine: "{{{{ balancer }}}}"
      type: |
        socket=/run/haproxy/admin.sock
        echo "set server web/{{{{ machine }}}} state maint" | sudo socat stdio $socket
lesson:
  text: What this drill teaches. In two sentences.
  explain: components
---
Time: {{{{ changed }}}}

Describe what somebody sees, when it began and what was changed lately. Name symptoms only.
"""


def write(id: str, layer: str, folder: Path = catalogue.FOLDER) -> Path:
    """Write the skeleton of a drill; returns its path.

    Raises:
        UsageError: when the id is invalid or in use, or the layer does not exist.
    """
    if not ID.fullmatch(id):
        raise UsageError(f"invalid id {id!r}", "use small letters and digits, joined by hyphens")
    if id in catalogue.ids(folder):
        raise UsageError(
            f"drill {id} exists already: {catalogue.find(id, folder)}", "choose another id"
        )
    catalogue.require_layer(layer)
    path = folder / layer / f"{id}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    create_file(path, TEXT.format(id=id, layer=layer))
    return path
