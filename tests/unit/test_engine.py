"""The engine: differences, fingerprints, requests; every kind of resource with recorded results."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from provision.engine.agent.files import LoadedFacts, PathFacts, path_probe
from provision.engine.agent.http import socket_probe
from provision.engine.agent.protocol import (
    Readiness,
    Results,
    Stamp,
    gather_request,
)
from provision.engine.agent.services import ServiceState, service_probe
from provision.engine.agent.trees import TreeFacts, content_time, tree_digest
from provision.engine.plan import Difference, Plan, Resource, Unit, UnitPlan, plan, probes
from provision.engine.resources import (
    Directory,
    File,
    Link,
    NoFile,
    Packages,
    Service,
    Tree,
    User,
)
from provision.engine.resources.files import tree_files
from provision.services.haproxy.runtime_state import ServerStates
from tests.unit.samples import result

SECRET = "never-shown-secret"
HELLO = File("/root/t/file", "hello\n", mode="0640")


def differences(resource: Resource[Any], facts: Any) -> dict[str, tuple[str, str]]:
    """What differs: by key, before and after."""
    return {d.key: (d.before, d.after) for d in resource.differences(facts)}


# --- files and links -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "state", "expected"),
    [
        (HELLO, "file", {}),
        (File("/root/t/file", "hello\n"), "file", {"mode": ("0640", "0644")}),
        (File("/x", "bye\n", mode="0640"), "file", {"content": ("hello\n", "bye\n")}),
        (File("/x", "hello\n", "lab", "adm", "0640"), "file", {"owner": ("root:root", "lab:adm")}),
        (
            File("/x", "new\n"),
            "absent",
            {
                "type": ("", "file"),
                "owner": ("", "root:root"),
                "mode": ("", "0644"),
                "content": ("", "new\n"),
            },
        ),
        (Link("/x", "dir"), "link", {}),
        (Link("/x", "other"), "link", {"target": ("dir", "other")}),
        (Link("/x", "dir"), "absent", {"target": ("", "dir")}),
        (Link("/x", "dir"), "file", {"target": ("(file)", "dir")}),
        (Link("/x", "dir"), "directory", {"target": ("(directory)", "dir")}),
        (NoFile("/x"), "absent", {}),
        (NoFile("/x"), "file", {"type": ("file", "absent")}),
        (NoFile("/x"), "link", {"type": ("link", "absent")}),
        (Directory("/x", "www-data", "adm", "2750"), "directory", {}),
        (
            Directory("/x"),
            "directory",
            {"owner": ("www-data:adm", "root:root"), "mode": ("2750", "0755")},
        ),
        (
            Directory("/x"),
            "absent",
            {"type": ("", "directory"), "owner": ("", "root:root"), "mode": ("", "0755")},
        ),
        (Service("mysql.service"), "running", {}),
        (Service("nginx.service"), "stopped", {"state": ("inactive", "active")}),
        (
            Service("x.service"),
            "disabled",
            {"enabled": ("disabled", "enabled"), "state": ("inactive", "active")},
        ),
        (
            Service("x.service"),
            "failed",
            {"enabled": ("disabled", "enabled"), "state": ("failed", "active")},
        ),
        (
            Service("x.service"),
            "absent",
            {"enabled": ("not installed", "enabled"), "state": ("inactive", "active")},
        ),
        (
            Service("x.timer"),
            "masked",
            {"enabled": ("masked", "enabled"), "state": ("inactive", "active")},
        ),
        (Service("systemd-journald.service"), "static", {}),
        (Service("x.service", running=False), "absent", {}),
        (Service("x.service", running=False), "masked", {}),
        (Service("x.service", running=False), "disabled", {}),
        (Service("x.service", running=False), "failed", {"state": ("failed", "inactive")}),
        (
            Service("x.service", running=False),
            "running",
            {"enabled": ("enabled", "disabled"), "state": ("active", "inactive")},
        ),
        (User("foobar", "/srv/foobar"), "there", {}),
        (
            User("x", "/srv/foobar"),
            "absent",
            {"home": ("", "/srv/foobar"), "shell": ("", "/usr/sbin/nologin")},
        ),
        (
            User("lab", "/home/lab"),
            "with-shell",
            {"shell": ("/bin/bash", "/usr/sbin/nologin")},
        ),
        (
            Packages(("nginx", "no-such-package", "haproxy")),
            "some",
            {"no-such-package": ("", "installed"), "haproxy": ("", "installed")},
        ),
        (Packages(("nginx",)), "some", {}),
        (
            ServerStates("/s", "web", (("web-01", "weight 100"), ("web-02", "weight 100"))),
            "ready",
            {},
        ),
        (
            ServerStates("/s", "web", (("web-01", "weight 100"), ("web-02", "weight 100"))),
            "drain-and-maint",
            {"web-01": ("drain", "weight 100"), "web-02": ("maint", "weight 100")},
        ),
        (
            ServerStates("/s", "web", (("web-01", "weight 100"), ("web-02", "weight 20"))),
            "weight",
            {},
        ),
        (
            ServerStates("/s", "web", (("web-01", "weight 100"),)),
            "stopped",
            {"web-01": ("", "weight 100")},
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Resource) else None,
)
def test_differences(
    resource: Resource[Any], state: str, expected: dict[str, tuple[str, str]]
) -> None:
    assert differences(resource, result(resource.probe(), state)) == expected


def test_a_file_with_equal_text_and_another_digest_differs() -> None:
    there = result(path_probe("/x"), "file")
    assert "content" not in differences(HELLO, there)
    # The text was decoded with replacement characters, so only the digest differs.
    resource = File("/x", "hello\n", mode="0640")
    assert resource.actual(dataclasses.replace(there, digest="0" * 64))["content"] == "hello\n"


def test_a_secret_file_is_compared_by_its_digest() -> None:
    same = File("/root/t/file", "hello\n", mode="0640", secret=True)
    there = result(same.probe(), "secret-file")
    assert there.content == ""
    assert differences(same, there) == {}
    other = dataclasses.replace(same, content=SECRET)
    (difference,) = other.differences(there)
    assert difference.secret
    assert SECRET not in repr(difference)
    assert SECRET not in repr(other)
    assert other.probe().args == {"path": "/root/t/file", "secret": True}


def test_only_servers_in_another_state_are_changed() -> None:
    probe = socket_probe("/s", "show servers state web")
    states = ServerStates("/s", "web", (("web-01", "drain"), ("web-02", "weight 50")))
    (action,) = states.actions(result(probe, "drain-and-maint"))
    assert action.args["lines"] == [
        "set server web/web-02 weight 50",
        "set server web/web-02 state ready",
    ]
    (action,) = ServerStates("/s", "web", (("web-01", "maint"),)).actions(result(probe, "ready"))
    assert action.args["lines"] == ["set server web/web-01 state maint"]


def test_only_missing_packages_are_installed() -> None:
    packages = Packages(("nginx", "haproxy"))
    (action,) = packages.actions(result(packages.probe(), "some"))
    assert (action.args["names"], action.args["reinstall"]) == (["haproxy"], [])


def test_a_service_is_stopped_or_started_as_declared() -> None:
    def args(service: Service) -> Mapping[str, Any]:
        (action,) = service.actions(RUNS)
        assert action.do == "service"
        return action.args

    assert args(Service("x")) == {"name": "x", "enabled": True, "run": ""}
    assert args(Service("x", starts=True))["run"] == "start"
    stop = {"name": "x", "enabled": False, "run": "stop"}
    assert args(Service("x", running=False)) == stop


def test_a_tree_has_the_digest_that_the_machine_computes(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "a" / "__pycache__").mkdir(parents=True)
    (tmp_path / "a" / "__pycache__" / "x.pyc").write_bytes(b"compiled")
    (tmp_path / "a" / "text").write_text("ä\n", encoding="utf-8")
    (tmp_path / "run").write_text("#!/bin/sh\n")
    (tmp_path / "run").chmod(0o755)
    tree = Tree("/srv/x", tree_files(tmp_path))
    for path, _, data in tree.files:
        seconds = content_time(hashlib.sha256(data).hexdigest())
        os.utime(tmp_path / path, (seconds, seconds))
    assert tree.digest == tree_digest(str(tmp_path))
    assert differences(tree, TreeFacts(tree.digest)) == {}
    for path, wrong in (
        ("run", 0o644),
        ("run", 0o700),
        ("a/text", 0o600),
        ("a", 0o700),
        (".", 0o711),
    ):
        right = (tmp_path / path).stat().st_mode
        (tmp_path / path).chmod(wrong)
        assert tree_digest(str(tmp_path)) != tree.digest, (path, wrong)
        (tmp_path / path).chmod(right)
    assert tree_digest(str(tmp_path)) == tree.digest


# --- units and plans -----------------------------------------------------------------------------

CONFIG = File("/etc/x.conf", "new\n")
UNIT = Unit(
    "x",
    (CONFIG, Service("x.service")),
    service="x.service",
    activate="reload",
    validate=("x", "-t"),
    readiness=Readiness("x", deadline=5, socket="/s"),
)
RIGHT = PathFacts("file", "root", "root", "0644", content="new\n")
RUNS = ServiceState("active", "enabled")


def plan_unit(path: PathFacts, service: ServiceState, fingerprint: str) -> UnitPlan:
    values = {
        path_probe("/etc/x.conf").name: path,
        service_probe("x.service").name: service,
        "loaded x": LoadedFacts(fingerprint),
    }
    (unit_plan,) = plan("lb-01", [UNIT], Results.of("lb-01", values)).units
    return unit_plan


def test_without_differences_the_plan_is_empty() -> None:
    unit_plan = plan_unit(RIGHT, RUNS, UNIT.fingerprint)
    assert unit_plan.empty
    assert Plan("lb-01", (unit_plan,)).changes == 0


def test_a_changed_file_is_written_validated_and_loaded() -> None:
    old = dataclasses.replace(RIGHT, content="old\n")
    unit_plan = plan_unit(old, RUNS, "of the old file")
    assert [c.resource for c in unit_plan.changes] == [CONFIG]
    assert unit_plan.changes[0].differences == (Difference("content", "old\n", "new\n"),)
    request = unit_plan.request()
    assert [a.do for a in request.actions] == ["write"]
    assert request.validate == ("x", "-t")
    assert request.needs_reload
    assert request.stamp == Stamp("x", UNIT.fingerprint)
    assert Plan("lb-01", (unit_plan,)).changes == 1


def test_a_file_that_was_written_and_never_loaded_needs_a_reload() -> None:
    unit_plan = plan_unit(RIGHT, RUNS, "of the old file")
    assert not unit_plan.empty
    assert unit_plan.needs_reload
    assert unit_plan.changes == ()
    assert unit_plan.request().actions == ()
    assert unit_plan.request().validate == ("x", "-t")
    assert Plan("lb-01", (unit_plan,)).changes == 1


def test_a_stopped_service_is_started_and_not_reloaded() -> None:
    request = plan_unit(RIGHT, ServiceState("inactive", "enabled"), UNIT.fingerprint).request()
    assert [a.do for a in request.actions] == ["service"]
    assert not request.needs_reload
    assert request.validate == ()


def test_a_file_that_was_changed_by_hand_is_loaded_again() -> None:
    """The service may have been reloaded with the changed file."""
    by_hand = dataclasses.replace(RIGHT, content="by hand\n")
    assert plan_unit(by_hand, RUNS, UNIT.fingerprint).request().needs_reload


def test_the_fingerprint_is_of_all_that_the_process_loads_and_of_nothing_else() -> None:
    def of(*resources: Resource[Any], also: str = "") -> str:
        return Unit("x", resources, extra_fingerprint=also).fingerprint

    base = of(CONFIG)
    assert of(CONFIG, Service("x.service")) == base
    assert of(CONFIG, File("/page.html", "text", passive=True)) == base
    assert of(CONFIG, Directory("/d")) == base
    different = [
        of(dataclasses.replace(CONFIG, content="other")),
        of(dataclasses.replace(CONFIG, path="/other")),
        of(dataclasses.replace(CONFIG, mode="0600")),
        of(CONFIG, Link("/l", "t")),
        of(CONFIG, NoFile("/l")),
        of(CONFIG, Tree("/t", ())),
        of(CONFIG, also="release 2"),
        of(),
    ]
    assert len({base, *different}) == len(different) + 1
    # Only a digest: no secret can be read from the stamp.
    secret = of(File("/s", SECRET, secret=True))
    assert len(secret) == 64
    assert secret != of(File("/s", SECRET + "!", secret=True))


def test_a_unit_without_a_service_has_no_stamp() -> None:
    files = Unit("files", (CONFIG,))
    assert [probe.kind for probe in files.probes()] == ["path"]
    results = Results.of("m", {CONFIG.probe().name: PathFacts("absent")})
    (unit_plan,) = plan("m", [files], results).units
    assert unit_plan.request().stamp is None
    assert unit_plan.request().service == ""


def test_a_probe_of_several_resources_is_sent_once() -> None:
    same = dataclasses.replace(UNIT, name="y")
    sent = gather_request(probes([UNIT, same, Unit("z", (NoFile("/etc/x.conf"),))])).probes
    kinds = sorted(probe.kind for probe in sent.values())
    compared = ["last-change", "last-change", "systemd-unit"]
    assert kinds == sorted([*compared, "loaded", "loaded", "path", "service"])


def test_values_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        UNIT.name = "other"  # type: ignore[misc]
