"""What roles' declarations depend on: the lab, its recorded state, secrets and templates."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from provision.core.errors import LabError
from provision.core.lab import ROOT, Balance, Lab, Machine
from provision.core.package_set import PackageSet
from provision.core.secrets import Secrets
from provision.core.state import State
from provision.engine.ownership import with_ownership
from provision.engine.plan import Unit
from provision.engine.role import AFTER_CLEANUP, Allow, Role
from provision.topology.record import current_balance

if TYPE_CHECKING:
    import jinja2

    from provision.core.pki import CertificateAuthority

CONFIGS = ROOT / "configs"


@cache
def environment() -> jinja2.Environment:
    """Jinja, which raises an error for an undefined name."""
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
    """A cache of compiled templates, which saves every run the compilation of some twenty."""
    import jinja2

    folder = ROOT / ".lab" / ".templates"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return None
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        return None  # no code is loaded from a folder that other users can write to
    return jinja2.FileSystemBytecodeCache(str(folder))


@dataclass(frozen=True)
class Context:
    """Everything that a role's declarations depend on.

    Args:
        lab: the machines.
        state: what is recorded: the primary, weights, the release.
        roles: every role, in ascending order.
        rolling: True when the lab already serves, so that servers restart one after the other.
    """

    lab: Lab
    state: State
    roles: tuple[Role, ...]
    rolling: bool = False

    @property
    def owns_machines(self) -> bool:
        """Whether the machines belong to the lab; existing ones belong to somebody else."""
        return self.state.provider != "ssh"

    @cached_property
    def secrets(self) -> Secrets:
        """Passwords and keys of this lab."""
        return Secrets(self.lab.directory)

    @cached_property
    def authority(self) -> CertificateAuthority:
        """The lab's certificate authority."""
        from provision.core.pki import CertificateAuthority

        return CertificateAuthority(self.lab.directory)

    def roles_of(self, machine: Machine) -> tuple[Role, ...]:
        """The roles that a machine has, in ascending order."""
        return tuple(role for role in self.roles if role.on(self, machine))

    def desired(self, machine: Machine) -> tuple[Unit, ...]:
        """All units of a machine, in the order in which they are applied."""
        return tuple(unit for _, unit in self.desired_by_role(machine))

    def desired_by_role(self, machine: Machine) -> tuple[tuple[Role, Unit], ...]:
        """All units of a machine in order, each with the role that declares it."""
        if machine.name not in self._desired:
            declared = self._declared(machine)
            completed = with_ownership([unit for _, unit in declared], exclusive=self.owns_machines)
            roles = (role for role, _ in declared)
            self._desired[machine.name] = tuple(zip(roles, completed, strict=True))
        return self._desired[machine.name]

    @cached_property
    def _desired(self) -> dict[str, tuple[tuple[Role, Unit], ...]]:
        """By machine; rendering all templates takes some 15 ms per machine."""
        return {}

    def _declared(self, machine: Machine) -> tuple[tuple[Role, Unit], ...]:
        present = self.roles_of(machine)
        absent = [role for role in reversed(self.roles) if role not in present]
        late = [role for role in present if role.order >= AFTER_CLEANUP]
        return (
            *((r, u) for r in present if r not in late for u in r.units(self, machine)),
            *((r, u) for r in absent for u in r.absent(self, machine)),
            *((r, u) for r in late for u in r.units(self, machine)),
        )

    def desired_of(self, machines: Iterable[str]) -> dict[str, tuple[Unit, ...]]:
        """All units by machine."""
        return {name: self.desired(self.lab.machine(name)) for name in machines}

    def packages(self, machine: Machine) -> PackageSet:
        """Everything that a machine's roles need from Debian, sorted."""
        sets = [role.packages(self, machine) for role in self.roles_of(machine)]
        return PackageSet(
            tuple(sorted({name for packages in sets for name in packages.packages})),
            tuple(sorted({name for packages in sets for name in packages.sid})),
        )

    def ports(self, machine: Machine) -> tuple[Allow, ...]:
        """What a machine's firewall opens for its roles."""
        return tuple(a for role in self.roles_of(machine) for a in role.ports(self, machine))

    def services(self, machine: Machine) -> tuple[str, ...]:
        """The systemd units that must be active on a machine."""
        return tuple(role.service for role in self.roles_of(machine) if role.service)

    @property
    def primary(self) -> Machine:
        """The recorded primary."""
        return self.lab.machine(self.state.primary)

    @property
    def balance(self) -> Balance:
        """The recorded load-balancing mode and algorithm; by default the topology's."""
        return current_balance(self.lab, self.state)

    def render(self, template: str, machine: Machine, **values: Any) -> str:
        """Render the template of a remote file.

        Args:
            template: below ``configs/``, such as ``haproxy/haproxy.cfg.j2``.
            values: further names for the template.

        Raises:
            LabError: naming file and line, when the template does not exist or cannot be rendered.
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
            raise LabError(f"configs/{error.name} does not exist") from None
        except jinja2.TemplateSyntaxError as error:
            raise LabError(f"configs/{template}:{error.lineno}: {error.message}") from None
        except jinja2.UndefinedError as error:
            raise LabError(f"configs/{template}: {error.message}") from None
