"""The roles: what each machine of the usual topology is, word for word, and in which order.

``tests/golden/roles/distributed/MACHINE.txt`` holds every unit, resource and file of a machine.
After a change of a role or a template: ``REGENERATE=1 pytest tests/unit/test_roles.py``; then read
``git diff``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provision import registry as roles
from provision.commands import show
from provision.core.errors import LabError
from provision.core.lab import ROOT
from provision.engine.context import Context
from provision.engine.plan import Plan, Unit, plan, questions
from provision.engine.resources import File
from tests.unit.samples import PASSWORD, context

GOLDEN = ROOT / "tests" / "golden" / "roles" / "distributed"
TOPOLOGIES = sorted(p.stem for p in (ROOT / "configs" / "topologies").glob("*.yml"))
DISTRIBUTED = context()


def described(units: tuple[Unit, ...]) -> str:
    """All that a machine should be, for people."""
    lines = []
    for unit in units:
        lines.append(f"=== {unit.name}")
        for key in ("service", "activate", "validate", "needs"):
            value = getattr(unit, key)
            if value:
                lines.append(f"{key}: {value if isinstance(value, str) else ' '.join(value)}")
        if unit.wait:
            lines.append(f"wait: {unit.wait['name']}, {unit.wait['deadline']} s")
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
def test_a_machine_in_these_words(name: str) -> None:
    text = described(roles.desired(DISTRIBUTED, DISTRIBUTED.lab.machine(name)))
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
def test_no_unit_waits_for_itself(root: Path, name: str, rolling: bool) -> None:
    """Units of a machine follow each other; some wait for units of other machines.

    In every topology, with every database machine as primary, new and while it serves.
    """
    for primary in context(name).lab.with_role("mysql"):
        in_order(context(name, primary=primary.name, rolling=rolling, root=root))


def in_order(each: Context) -> None:
    """Whether all units can be applied, one machine's after each other and after their needs."""
    before: dict[str, set[str]] = {}
    for machine in each.lab.machines:
        last = ""
        for unit in roles.desired(each, machine):
            name = f"{machine.name}/{unit.name}"
            assert name not in before, f"two units are called {name}"
            before[name] = set(unit.needs) | ({last} if last else set())
            last = name
    unknown = {need for needs in before.values() for need in needs} - set(before)
    assert not unknown, f"nobody is called {unknown}"
    done: set[str] = set()
    while len(done) < len(before):
        ready = {name for name, needs in before.items() if name not in done and needs <= done}
        assert ready, f"these wait for each other: {sorted(set(before) - done)}"
        done |= ready


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_no_secret_is_in_a_plan_for_people(root: Path, name: str) -> None:
    """Of machines on which nothing is right yet, as of a first lab.up."""
    here = context(name, root=root)
    for machine in here.lab.machines:
        units = roles.desired(here, machine)
        planned = everything(machine.name, units)
        text, count = show.plans({machine.name: planned})
        assert count > 0
        for shown in (text, repr(units), repr(planned)):
            found = [secret for secret in here.secrets.known() if secret in shown]
            assert not found, f"{len(found)} secrets are shown"
    assert len(here.secrets.known()) >= 3


def everything(machine: str, units: tuple[Unit, ...]) -> Plan:
    """A plan of a machine that has nothing."""
    nothing = {
        "path": {"type": "absent"},
        "tree": {"digest": ""},
        "service": {"UnitFileState": "", "ActiveState": "inactive"},
        "user": {"home": "", "shell": ""},
        "socket": {"text": "!none"},
        "stamp": {"fingerprint": ""},
        "mysql": {"up": False, "error": "none"},
        "migrations": {"numbers": [], "error": ""},
        "command": {"status": 127, "out": "", "err": ""},
    }
    asked = questions(units).asked
    answers = {
        kind: [
            dict.fromkeys(one["names"], "") if kind == "package" else nothing.get(kind, {})
            for one in each
        ]
        for kind, each in asked.items()
        if kind == "package" or kind in nothing
    }
    known = tuple(u for u in units if all(kind in answers for kind, _ in u.questions()))
    return plan(machine, known, answers)


def test_passwords_reach_a_machine_only_in_secret_files_of_mode_0600() -> None:
    found = 0
    for machine in DISTRIBUTED.lab.machines:
        for unit in roles.desired(DISTRIBUTED, machine):
            for resource in unit.resources:
                if isinstance(resource, File) and PASSWORD.format("") in resource.content:
                    assert resource.secret, resource.name
                    assert resource.mode in ("0600", "0400", "0640"), resource.name
                    found += 1
    assert found >= 4


def test_what_serves_takes_up_a_change_one_after_the_other() -> None:
    def needs(name: str, unit: str, *, rolling: bool) -> tuple[str, ...]:
        here = context(rolling=rolling)
        units = {u.name: u for u in roles.desired(here, here.lab.machine(name))}
        return units[unit].needs

    assert needs("web-02", "app", rolling=False) == ()
    assert needs("web-02", "app", rolling=True) == ("web-01/app",)
    assert needs("web-01", "mysql", rolling=True) == ("web-02/mysql",)
    assert needs("web-02", "mysql", rolling=True) == ()


def test_roles_follow_the_record_of_who_is_primary() -> None:
    for primary, other in (("web-01", "web-02"), ("web-02", "web-01")):
        here = context(primary=primary)
        names = {
            name: [u.name for u in roles.desired(here, here.lab.machine(name))]
            for name in (primary, other)
        }
        assert "mysql-accounts" in names[primary]
        assert "schema" in names[primary]
        assert "mysql-accounts" not in names[other]
        assert "schema" not in names[other]


def test_what_an_operator_decided_is_in_the_configuration() -> None:
    here = context(algorithm="leastconn", weights={"web-02": 7})
    text = described(roles.desired(here, here.lab.machine("lb-01")))
    assert "balance leastconn" in text
    assert "  web-02: weight 7" in text
    drained = context(admin={"web-01": "drain"})
    assert "  web-01: drain" in described(roles.desired(drained, drained.lab.machine("lb-01")))


def test_a_name_that_a_template_uses_and_nobody_gave_is_one_clear_error() -> None:
    with pytest.raises(LabError, match=r"^configs/nginx/site.conf.j2: '\w+' is undefined"):
        DISTRIBUTED.render("nginx/site.conf.j2", DISTRIBUTED.lab.machine("web-01"))
    with pytest.raises(LabError, match=r"^configs/none.j2: no such template"):
        DISTRIBUTED.render("none.j2", DISTRIBUTED.lab.machine("web-01"))


def test_packages_and_services_of_a_machine() -> None:
    web = DISTRIBUTED.lab.machine("web-01")
    wanted = roles.packages(DISTRIBUTED, web)
    assert {"nginx", "gunicorn", "python3-flask"} <= set(wanted.packages)
    assert "mysql-server" in wanted.sid
    assert {"mysql.service", "foobar.service", "nginx.service"} <= set(roles.services(web))
