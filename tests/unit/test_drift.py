"""Drift in plans: manual changes, outdated processes, and resources without a result."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from provision.engine.agent import overwritten, owned, package_files, packages, unit_files
from provision.engine.agent.files import Journal, LoadedFacts, PathFacts
from provision.engine.agent.originals import OriginalPath
from provision.engine.agent.owned import CONTENT_CHANGED, OwnedFacts, compare, without_packaged
from provision.engine.agent.process import ProcessResult
from provision.engine.agent.protocol import ProbeResponse, Results
from provision.engine.agent.secret_content import first_certificate, setting_digests
from provision.engine.agent.unit_files import LastChange, SystemdUnit, parse_timestamp
from provision.engine.ownership import with_ownership
from provision.engine.plan import Unit, UnitPlan, plan
from provision.engine.resources import EffectiveUnit, File, OwnedDirectory, Packages
from provision.services.system.agent.machine_state import (
    differing,
    parse_links,
    parse_routes,
    without_temporary,
)
from tests.unit.samples import context

CONFIG = File("/etc/x.conf", "a\n")
UNIT = Unit("x", (CONFIG,), service="x.service", activate="reload")
PRESENT = PathFacts(
    "file", "root", "root", "0644", digest=hashlib.sha256(b"a\n").hexdigest(), content="a\n"
)
FRAGMENT = "/usr/lib/systemd/system/x.service"


def planned(unit: Unit, loaded: SystemdUnit, last: LastChange) -> UnitPlan:
    values = {
        CONFIG.probe().name: PRESENT,
        "loaded x": LoadedFacts(unit.fingerprint),
        "systemd unit x.service": loaded,
        "last change x": last,
    }
    return plan("m", [unit], Results.of("m", values)).units[0]


def running(since: float = 100.0, started: float = 100.0, **files: float) -> SystemdUnit:
    paths = {FRAGMENT: 10.0, **{f"/etc/{name}.conf": when for name, when in files.items()}}
    return SystemdUnit("loaded", "active", paths, since=since, started=started)


def test_a_process_that_is_newer_than_its_files_is_left_alone() -> None:
    assert planned(UNIT, running(), LastChange("/etc/x.conf", 99.0)).empty


def test_a_file_that_changed_after_the_last_reload_is_loaded() -> None:
    changed = planned(UNIT, running(since=100.0), LastChange("/etc/x.conf", 101.0))
    assert (changed.outdated, changed.verb) == ("/etc/x.conf", "reload")
    assert planned(UNIT, running(since=102.0), LastChange("/etc/x.conf", 101.0)).empty


def test_a_drop_in_that_changed_requires_a_restart_even_after_a_reload() -> None:
    changed = planned(UNIT, running(since=300.0, hand=200.0), LastChange("", 0.0))
    assert (changed.outdated, changed.verb) == ("/etc/hand.conf", "restart")


def test_a_passive_drop_in_requires_nothing() -> None:
    unit = Unit("x", (CONFIG,), service="x.service", activate="reload", passive=("/etc/hand.conf",))
    assert planned(unit, running(hand=200.0), LastChange("", 0.0)).empty


@pytest.mark.parametrize(
    "path",
    ["/run/systemd/generator.late/x.service", "/run/systemd/system/service.d/zzz-lxc-service.conf"],
)
def test_a_generated_unit_file_requires_nothing(path: str) -> None:
    unit = SystemdUnit("loaded", "active", {path: 200.0}, since=100.0, started=100.0)
    assert planned(UNIT, unit, LastChange("", 0.0)).empty


def test_a_stopped_service_is_not_outdated() -> None:
    stopped = SystemdUnit("loaded", "inactive", {FRAGMENT: 10.0})
    assert planned(UNIT, stopped, LastChange("/etc/x.conf", 101.0)).empty


def test_a_probe_that_failed_is_no_change() -> None:
    failed = ProbeResponse(error="MySQL error 1040: Too many connections")
    (unit,) = plan("m", [Unit("y", (CONFIG,))], Results("m", {CONFIG.probe().name: failed})).units
    assert not unit.changes
    assert [item.reason for item in unit.unreadable] == ["MySQL error 1040: Too many connections"]


def test_undeclared_overrides_are_foreign() -> None:
    declared = "/etc/systemd/system/x.service.d/lab.conf"
    hand = "/run/systemd/system.control/x.service.d/50-MemoryMax.conf"
    resource = EffectiveUnit("x.service", (declared,))
    facts = SystemdUnit("loaded", "active", {FRAGMENT: 1, declared: 1, hand: 1})
    assert resource.foreign(facts) == (hand,)
    assert [d.before for d in resource.differences(facts)] == [hand]


def test_units_know_what_other_units_declare() -> None:
    drop_in = File("/etc/systemd/system/x.service.d/lab.conf", "", passive=True)
    folder = OwnedDirectory("/etc/systemd/system")
    first, second = with_ownership([UNIT, Unit("own", (drop_in, folder))])
    assert isinstance(first.resources[0], EffectiveUnit)
    assert first.passive == (drop_in.path,)
    completed = second.resources[1]
    assert isinstance(completed, OwnedDirectory)
    assert drop_in.path in completed.declared


def test_on_existing_machines_nothing_is_foreign() -> None:
    units = [UNIT, Unit("own", (Packages(("x",)), OwnedDirectory("/etc/x.d", service=True)))]
    first, second = with_ownership(units, exclusive=False)
    assert first.resources == (CONFIG,)
    assert second.resources == (Packages(("x",), (CONFIG.path,), conffiles=False),)
    for provider, expected in (("ssh", False), ("lxc", True)):
        here = context(provider=provider)
        resources = [r for m in here.lab.machines for u in here.desired(m) for r in u.resources]
        owning = [r for r in resources if isinstance(r, EffectiveUnit | OwnedDirectory)]
        assert bool(owning) == expected
        judged = {r.conffiles for r in resources if isinstance(r, Packages)}
        assert judged == {expected}


def test_files_are_compared_with_what_was_there_at_first(tmp_path: Path) -> None:
    kept, foreign, packaged = (tmp_path / name for name in ("kept", "foreign", "packaged"))
    for path in (kept, foreign, packaged):
        path.write_text("x")
    entries = {
        str(kept): OriginalPath("file", content="b3RoZXI="),
        str(tmp_path / "gone"): OriginalPath("file"),
    }
    paths = [str(foreign), str(kept), str(packaged)]
    facts = compare(str(tmp_path), entries, paths, {str(packaged)}, ())
    assert facts == OwnedFacts(
        True,
        (str(foreign),),
        ((str(kept), "content was changed"), (str(tmp_path / "gone"), "is missing")),
    )


def test_files_of_later_packages_are_no_differences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("added", "by-hand", "upgraded", "edited")
    added, by_hand, upgraded, edited = (str(tmp_path / name) for name in names)
    for name in names:
        (tmp_path / name).write_text(name)
    digests = {upgraded: package_files.md5(upgraded), edited: "0" * 32}
    monkeypatch.setattr(owned, "owned_by_packages", lambda paths: {added}.intersection(paths))
    monkeypatch.setattr(package_files, "conffile_digests", lambda: {"p": digests})
    absent, file = OriginalPath("absent"), OriginalPath("file")
    entries = {added: absent, by_hand: absent, upgraded: file, edited: file}
    facts = compare(str(tmp_path), entries, list(entries), set(), ())
    kept = ((by_hand, "is now: file"), (edited, CONTENT_CHANGED))
    assert without_packaged(facts, entries).changed == kept


def test_changed_conffiles_are_moved_away_before_the_reinstallation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, configured, intact = (tmp_path / name for name in ("changed", "configured", "intact"))
    for path in (changed, configured, intact):
        path.write_text("text")
    digests = {str(changed): "0", str(configured): "0", str(intact): package_files.md5(str(intact))}
    commands: list[list[str]] = []

    def run(argv: list[str], timeout: float = 0.0) -> ProcessResult:
        commands.append(argv)
        if "--reinstall" in argv:
            assert changed.exists() != repaired
        return ProcessResult(0, "", "")

    monkeypatch.setattr(overwritten, "FOLDER", str(tmp_path / "overwritten"))
    monkeypatch.setattr(overwritten, "WRITTEN", str(tmp_path / "written.json"))
    monkeypatch.setattr(package_files, "conffile_digests", lambda _packages: {"p": digests})
    monkeypatch.setattr(packages, "POLICY", str(tmp_path / "policy"))
    monkeypatch.setattr(packages, "run", run)
    args = {"names": [], "reinstall": ["p"], "configured": [str(configured)]}
    for repaired in (False, True):
        packages.install({**args, "conffiles": repaired}, Journal(), lambda _text: None)
    assert sum("--reinstall" in argv for argv in commands) == 2
    assert configured.exists()
    assert intact.exists()
    (copy,) = (path for path in (tmp_path / "overwritten").rglob("*") if path.is_file())
    assert copy.name == "changed"


def test_copies_outlive_the_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overwritten, "FOLDER", str(tmp_path / "overwritten"))
    monkeypatch.setattr(overwritten, "BACKUPS", str(tmp_path / "backups"))
    assert not overwritten.move_to_backups()
    for number in ("first", "second"):
        (tmp_path / "overwritten" / number).mkdir(parents=True)
        assert overwritten.move_to_backups()
        assert not (tmp_path / "overwritten").exists()
    assert {path.name for path in (tmp_path / "backups").iterdir()} == {"first", "second"}


def test_a_copy_is_kept_of_what_the_lab_did_not_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overwritten, "HOME", str(tmp_path))
    monkeypatch.setattr(overwritten, "FOLDER", str(tmp_path / "overwritten"))
    monkeypatch.setattr(overwritten, "WRITTEN", str(tmp_path / "written.json"))
    overwritten.record_written({"/etc/x": overwritten.digest(b"lab")})
    copies = overwritten.Copies()
    assert not copies.changed_by_hand("/etc/x", b"lab")
    assert copies.changed_by_hand("/etc/x", b"hand")
    assert not copies.changed_by_hand("/etc/packaged", b"")
    for number in range(overwritten.KEPT + 5):
        file = tmp_path / f"file{number}"
        file.write_text("hand")
        overwritten.Copies().keep(str(file))
    assert len(list((tmp_path / "overwritten").iterdir())) == overwritten.KEPT
    newest = max((tmp_path / "overwritten").iterdir())
    assert [p.read_text() for p in newest.rglob("file*") if p.is_file()] == ["hand"]
    assert newest.stat().st_mode & 0o077 == 0


def test_a_secret_file_shows_names_of_settings_and_its_certificate_only() -> None:
    digests = setting_digests(b"# comment\nUSER=me\nPASSWORD=secret\n")
    assert list(digests) == ["USER", "PASSWORD"]
    assert "secret" not in json.dumps(dict(digests))
    pem = b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"
    key = b"-----BEGIN PRIVATE KEY-----\nk=1\n-----END PRIVATE KEY-----\n"
    assert first_certificate(key + pem) == pem.decode()
    assert setting_digests(key) == {}


def test_timestamps_links_and_routes_are_parsed() -> None:
    assert parse_timestamp("Thu 1970-01-01 00:01:40.500000 UTC") == 100.5
    assert parse_timestamp("") == 0.0
    line = "2: eth0@if7: <UP> mtu 1500 qdisc noqueue state UP mode DEFAULT group default qlen 1000"
    assert parse_links(line) == {"mtu eth0": "1500", "qdisc eth0": "noqueue"}
    assert parse_routes("b dev eth0 linkdown \na dev eth0\n") == "a dev eth0\nb dev eth0"
    leased = "default via 10.0.2.2 dev eth0 proto dhcp src 10.0.2.15 metric 100\n"
    assert parse_routes(f"{leased}a dev eth0\n") == "a dev eth0"


def test_values_whose_subject_is_gone_are_not_restored() -> None:
    recorded = {
        "sysctl net.core.gone": "1",
        "sysctl net.core.somaxconn": "4096",
        "mtu eth9": "1500",
        "qdisc eth9": "fq",
        "table inet gone": "present",
        "account gone": "900:900:::",
    }
    present = {"sysctl net.core.somaxconn": "1", "table ip foreign": "present", "mtu eth1": "9000"}
    names = ["sysctl net.core.somaxconn", "account gone", "table ip foreign"]
    assert differing(recorded, present) == names


def test_older_records_are_read_without_leases_and_dynamic_users() -> None:
    values = {
        "routes": "a dev eth0\nb dev eth0 proto dhcp",
        "account dynamic": "61184:61184:::",
        "account app": "900:900:::",
    }
    assert without_temporary(values) == {"routes": "a dev eth0", "account app": "900:900:::"}


def test_removing_a_unit_file_leaves_the_directories_of_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without /run/systemd/system, systemctl refuses to work."""
    system = tmp_path / "system"
    drop_in = system / "nginx.service.d" / "limits.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\n")
    (system / "nginx.service").symlink_to("/dev/null")
    monkeypatch.setattr(unit_files, "FOLDERS", (str(system),))
    monkeypatch.setattr(unit_files, "run", lambda argv: None)
    monkeypatch.setattr(overwritten, "FOLDER", str(tmp_path / "overwritten"))
    remove = [str(drop_in), str(system / "nginx.service")]
    unit_files.restore_unit_files({"remove": remove}, Journal(), print)
    assert list(system.iterdir()) == []


def test_timers_with_a_foreign_drop_in() -> None:
    etc, run = "/etc/systemd/system", "/run/systemd/system"
    paths = [f"{run}/b.timer.d/x.conf", f"{etc}/b.timer.d/y.conf", f"{etc}/a.socket.d/x.conf"]
    assert owned.overridden_timers([*paths, f"{etc}/other.timer"]) == ["b.timer"]
