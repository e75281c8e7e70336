"""What a role is given, and how it reads its templates. Roles declare; they do nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Protocol

from provision.core.errors import LabError
from provision.core.lab import ROOT, Balance, Lab, Machine
from provision.core.package_set import PackageSet
from provision.core.pki import Authority
from provision.core.secrets import Secrets
from provision.core.state import State
from provision.engine.plan import Unit
from provision.topology.labs import balance

if TYPE_CHECKING:
    import jinja2

CONFIGS = ROOT / "configs"
IMPORTS = re.compile(
    r"^ *from (provision\.[\w.]*\bagent)(?:\.(\w+))? import (\([^)]*\)|.*)", re.MULTILINE
)
"""What a module that runs on machines imports from others of its kind."""


@cache
def programs(*modules: str) -> tuple[tuple[str, bool, bytes], ...]:
    """The files of programs that run on a machine without the controller.

    Args:
        modules: below ``provision``, such as ``database.agent.backup``; what they import from
            folders called ``agent`` comes along.
    """
    files: dict[str, bytes] = {}
    wanted = [f"provision.{name}" for name in modules]
    while wanted:
        name = wanted.pop()
        path = name.replace(".", "/") + ".py"
        if path in files:
            continue
        files[path] = (ROOT / path).read_bytes()
        package = name
        while package := package.rpartition(".")[0]:
            files.setdefault(package.replace(".", "/") + "/__init__.py", b"")
        for folder, module, names in IMPORTS.findall(files[path].decode()):
            listed = [each.split() for each in names.strip("()").split(",")]
            found = [module] if module else [words[0] for words in listed if words]
            wanted += [f"{folder}.{each}" for each in found]
    return tuple((path, False, content) for path, content in sorted(files.items()))


@cache
def environment() -> jinja2.Environment:
    """Jinja, strict: a name that a template uses and nobody gave is an error."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(CONFIGS),
        bytecode_cache=_compiled(),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _compiled() -> jinja2.BytecodeCache | None:
    """Where compiled templates are kept: a run that changes nothing need not compile twenty."""
    import jinja2

    folder = ROOT / ".lab" / ".templates"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = folder.stat()
    except OSError:
        return None
    if hasattr(os, "getuid") and (own.st_uid != os.getuid() or own.st_mode & 0o022):
        return None  # code is not loaded from where others can write
    return jinja2.FileSystemBytecodeCache(str(folder))


@dataclass(frozen=True)
class Allow:
    """A port that a machine's firewall opens; a role's ``ports(context, machine)`` lists them.

    Args:
        port: of TCP, or of ``protocol``.
        sources: addresses or networks that may reach it; empty for everybody.
        why: a few words for people, such as ``HTTP for everybody``.
        protocol: ``tcp`` or ``udp``.
    """

    port: int
    sources: tuple[str, ...]
    why: str
    protocol: str = "tcp"


@dataclass(frozen=True)
class Context:
    """All that roles know: the lab as it should be, what is recorded of it, and its secrets.

    Args:
        lab: the machines.
        state: what is recorded: who is primary, weights, the release.
        rolling: True when the lab already serves, so that servers must not restart all at once.
    """

    lab: Lab
    state: State
    rolling: bool = False

    @cached_property
    def secrets(self) -> Secrets:
        """Passwords and keys of this lab."""
        return Secrets(self.lab.directory)

    @cached_property
    def authority(self) -> Authority:
        """The lab's certificate authority."""
        return Authority(self.lab.directory)

    @property
    def primary(self) -> Machine:
        """The machine whose database takes writes, as recorded."""
        return self.lab.machine(self.state.primary)

    @property
    def balance(self) -> Balance:
        """How requests are spread: as the topology says unless an operator chose otherwise."""
        return balance(self.lab, self.state)

    def render(self, template: str, machine: Machine, **values: Any) -> str:
        """The text of a remote file.

        Args:
            template: below ``configs/``, such as ``haproxy/haproxy.cfg.j2``.
            machine: the machine it is for.
            values: more names for the template.

        Raises:
            LabError: when the template cannot be read or rendered; names file and line.
        """
        import jinja2

        names: Mapping[str, Any] = {
            "lab": self.lab,
            "state": self.state,
            "machine": machine,
            "banner": f"Written by the lab from configs/{template}; changes here are undone.",
        }
        try:
            return environment().get_template(template).render(**names, **values)
        except jinja2.TemplateNotFound as error:
            raise LabError(f"configs/{error.name}: no such template") from None
        except jinja2.TemplateSyntaxError as error:
            raise LabError(f"configs/{template}:{error.lineno}: {error.message}") from None
        except jinja2.UndefinedError as error:
            raise LabError(f"configs/{template}: {error.message}") from None


class Role(Protocol):
    """What every module of ``provision/roles`` offers.

    It may also offer ``ports(context, machine) -> tuple[Allow, ...]``, what the firewall opens for
    it, and ``absent(context, machine) -> tuple[Unit, ...]``, what is left to undo on a machine
    that does not have the role.
    """

    SERVICE: str
    """The systemd unit that the role stands on."""

    def packages(self, context: Context, machine: Machine) -> PackageSet:
        """The Debian packages that the role needs on the machine."""

    def units(self, context: Context, machine: Machine) -> tuple[Unit, ...]:
        """What the machine should be, in the order of application."""
