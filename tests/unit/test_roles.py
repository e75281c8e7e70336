"""The roles: each machine's complete desired state in the default topology.

``tests/golden/roles/distributed/MACHINE.txt`` holds every unit, resource and file of a machine.
After a change of a role or a template: ``REGENERATE=1 pytest tests/unit/test_roles.py``; then read
``git diff``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provision.commands import show
from provision.core.errors import LabError
from provision.core.lab import ROOT
from provision.database.agent.probes import AccountFacts, AccountList, SchemaFacts
from provision.database.agent.settings import SettingsFacts
from provision.engine.agent.files import LoadedFacts, PathFacts
from provision.engine.agent.http import SocketReply
from provision.engine.agent.owned import OwnedFacts
from provision.engine.agent.packages import PackageVersions
from provision.engine.agent.process import ProcessResult
from provision.engine.agent.protocol import Results
from provision.engine.agent.services import ServiceState, UserFacts
from provision.engine.agent.trees import TreeFacts
from provision.engine.agent.unit_files import LastChange, SystemdUnit
from provision.engine.context import Context
from provision.engine.plan import Plan, Unit, plan, probes
from provision.engine.resources import File
from provision.services.app.agent.migrations import AppliedMigrations
from provision.services.firewall.agent.trial import FirewallFacts
from provision.services.system.agent.machine_state import MachineState
from tests.unit.samples import PASSWORD, context

GOLDEN = ROOT / "tests" / "golden" / "roles" / "distributed"
TOPOLOGIES = sorted(p.stem for p in (ROOT / "configs" / "topologies").glob("*.yml"))
DISTRIBUTED = context()


def described(units: tuple[Unit, ...]) -> str:
    """A machine's desired state as human-readable text."""
    lines = []
    for unit in units:
        lines.append(f"=== {unit.name}")
        for key in ("service", "activate", "validate", "needs"):
            value = getattr(unit, key)
            if value:
                lines.append(f"{key}: {value if isinstance(value, str) else ' '.join(value)}")
        if unit.readiness:
            lines.append(f"readiness: {unit.readiness.name}, {unit.readiness.deadline} s")
        for resource in unit.resources:
            marks = [word for word in ("secret", "passive") if getattr(resource, word, False)]
            lines.append(f"--- {resource.name}{''.join(f' ({word})' for word in marks)}")
            for key, value in resource.expected().items():
                if isinstance(resource, File) and key == "content":
                    lines += ["  | " + line for line in resource.content.splitlines()]
                elif key in ("digest", "password"):
                    lines.append(f"  {key}: (a digest)")
                else:
                    lines.append(f"  {key}: {value}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


@pytest.mark.parametrize("name", [m.name for m in DISTRIBUTED.lab.machines])
def test_the_desired_state_of_a_machine_is_as_recorded(name: str) -> None:
    text = described(DISTRIBUTED.desired(DISTRIBUTED.lab.machine(name)))
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("REGENERATE"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def test_every_golden_file_is_of_a_machine() -> None:
    assert {p.stem for p in GOLDEN.glob("*.txt")} == {m.name for m in DISTRIBUTED.lab.machines}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with labs' secrets in it."""
    return tmp_path_factory.mktemp("checkout")


@pytest.mark.parametrize("rolling", [False, True])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_unit_dependencies_have_no_cycle(root: Path, name: str, rolling: bool) -> None:
    """In every topology, with every database machine as primary, in a new lab and a serving one."""
    for primary in context(name).lab.with_role("mysql"):
        in_order(context(name, primary=primary.name, rolling=rolling, root=root))


def in_order(each: Context) -> None:
    """Check that all units can be applied: in order on each machine, and after their needs."""
    before: dict[str, set[str]] = {}
    for machine in each.lab.machines:
        last = ""
        for unit in each.desired(machine):
            name = f"{machine.name}/{unit.name}"
            assert name not in before, f"two units are called {name}"
            before[name] = set(unit.needs) | ({last} if last else set())
            last = name
    unknown = {need for needs in before.values() for need in needs} - set(before)
    assert not unknown, f"unknown units: {unknown}"
    result: set[str] = set()
    while len(result) < len(before):
        ready = {name for name, needs in before.items() if name not in result and needs <= result}
        assert ready, f"a dependency cycle: {sorted(set(before) - result)}"
        result |= ready


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_no_secret_is_in_a_printed_plan(root: Path, name: str) -> None:
    """With machines that have nothing yet, as at the first lab.up."""
    here = context(name, root=root)
    for machine in here.lab.machines:
        units = here.desired(machine)
        planned = full_plan(machine.name, units)
        text, count = show.plans({machine.name: planned})
        assert count > 0
        for shown in (text, repr(units), repr(planned)):
            leaked = [secret for secret in here.secrets.texts() if secret in shown]
            assert not leaked, f"{len(leaked)} secrets are shown"
    assert len(here.secrets.texts()) >= 3


NOTHING: tuple[object, ...] = (
    PathFacts("absent"),
    LastChange("", 0.0),
    MachineState(False),
    OwnedFacts(False),
    SystemdUnit("not-found", "inactive"),
    TreeFacts(""),
    LoadedFacts(""),
    ServiceState("inactive", ""),
    UserFacts("", ""),
    SocketReply(error="none"),
    AppliedMigrations(()),
    AccountFacts(),
    SchemaFacts(""),
    AccountList("not running"),
    SettingsFacts("not running"),
    FirewallFacts("", False, "", ""),
    ProcessResult(127, "", ""),
)
"""Probe results of a machine that has nothing."""


def full_plan(machine: str, units: tuple[Unit, ...]) -> Plan:
    """The plan of a machine that has nothing; of the units whose probes have such a result."""
    results = {type(result): result for result in NOTHING}
    values: dict[str, object] = {}
    for probe in probes(units):
        if probe.result is PackageVersions:
            values[probe.name] = PackageVersions(dict.fromkeys(probe.args["names"], ""))
        elif probe.result in results:
            values[probe.name] = results[probe.result]
    covered = [u for u in units if all(probe.name in values for probe in u.probes())]
    assert len(covered) > len(units) / 2
    return plan(machine, covered, Results.of(machine, values))


def test_passwords_reach_a_machine_only_in_secret_files_of_mode_0600() -> None:
    count = 0
    for machine in DISTRIBUTED.lab.machines:
        for unit in DISTRIBUTED.desired(machine):
            for resource in unit.resources:
                if isinstance(resource, File) and PASSWORD.format("") in resource.content:
                    assert resource.secret, resource.name
                    assert resource.mode in ("0600", "0400", "0640"), resource.name
                    count += 1
    assert count >= 4


def test_servers_apply_a_change_one_after_the_other() -> None:
    def needs(name: str, unit: str, *, rolling: bool) -> tuple[str, ...]:
        here = context(rolling=rolling)
        units = {u.name: u for u in here.desired(here.lab.machine(name))}
        return units[unit].needs

    assert needs("web-02", "app", rolling=False) == ()
    assert needs("web-02", "app", rolling=True) == ("web-01/app",)
    assert needs("web-01", "mysql", rolling=True) == ("web-02/mysql",)
    assert needs("web-02", "mysql", rolling=True) == ()


def test_roles_depend_on_the_recorded_primary() -> None:
    for primary, other in (("web-01", "web-02"), ("web-02", "web-01")):
        here = context(primary=primary)
        names = {
            name: [u.name for u in here.desired(here.lab.machine(name))]
            for name in (primary, other)
        }
        assert "mysql-accounts" in names[primary]
        assert "schema" in names[primary]
        assert "mysql-accounts" not in names[other]
        assert "schema" not in names[other]


def test_operator_settings_are_in_the_configuration() -> None:
    here = context(algorithm="leastconn", weights={"web-02": 7})
    text = described(here.desired(here.lab.machine("lb-01")))
    assert "balance leastconn" in text
    assert "  web-02: weight 7" in text
    drained = context(admin={"web-01": "drain"})
    assert "  web-01: drain" in described(drained.desired(drained.lab.machine("lb-01")))


def test_an_undefined_variable_in_a_template_is_one_clear_error() -> None:
    with pytest.raises(LabError, match=r"^configs/nginx/site.conf.j2: '\w+' is undefined"):
        DISTRIBUTED.render("nginx/site.conf.j2", DISTRIBUTED.lab.machine("web-01"))
    with pytest.raises(LabError, match=r"^configs/none.j2 does not exist"):
        DISTRIBUTED.render("none.j2", DISTRIBUTED.lab.machine("web-01"))


def test_packages_and_services_of_a_machine() -> None:
    web = DISTRIBUTED.lab.machine("web-01")
    wanted = DISTRIBUTED.packages(web)
    assert {"nginx", "gunicorn", "python3-flask"} <= set(wanted.packages)
    assert "mysql-server" in wanted.sid
    assert {"mysql.service", "foobar.service", "nginx.service"} <= set(DISTRIBUTED.services(web))
