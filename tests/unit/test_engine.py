"""The engine: differences, fingerprints, requests; and every kind of thing against real answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from provision.engine.agent.files import tree_digest
from provision.engine.plan import Difference, Plan, Resource, Unit, UnitPlan, plan, questions
from provision.engine.resources import (
    Command,
    Directory,
    File,
    Gone,
    Link,
    Packages,
    ServerStates,
    Service,
    Tree,
    User,
)
from provision.engine.resources.files import tree_files
from tests.unit.samples import answer

SECRET = "nobody-may-see-this"
HELLO = File("/root/t/file", "hello\n", mode="0640")


def differences(resource: Resource, seen: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What differs: by key, before and after."""
    return {d.key: (d.before, d.after) for d in resource.differences(seen)}


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
        (Gone("/x"), "absent", {}),
        (Gone("/x"), "file", {"type": ("file", "absent")}),
        (Gone("/x"), "link", {"type": ("link", "absent")}),
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
        (Service("x.service", running=False), "failed", {}),
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
        (
            Command("c", ("x",), "y", ("z",)),
            "absent",
            {"answer": ("no such program: no-such-program", "y")},
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Resource) else None,
)
def test_what_differs(resource: Resource, state: str, expected: dict[str, tuple[str, str]]) -> None:
    assert differences(resource, answer(resource.kind, state)) == expected


def test_a_file_with_the_right_text_and_bytes_that_are_no_text_differs() -> None:
    there = {**answer("path", "file"), "digest": "0" * 64, "content": "hello\n"}
    assert "content" not in differences(HELLO, answer("path", "file"))
    # The text was read with replacement characters; only the digest tells.
    resource = File("/x", "hello\n", mode="0640")
    assert resource.actual(there)["content"] == "hello\n"


def test_a_secret_file_is_compared_by_its_digest() -> None:
    same = File("/root/t/file", "hello\n", mode="0640", secret=True)
    there = answer("path", "secret-file")
    assert "content" not in there
    assert differences(same, there) == {}
    other = dataclasses.replace(same, content=SECRET)
    (found,) = other.differences(there)
    assert found.secret
    assert SECRET not in repr(found)
    assert SECRET not in repr(other)
    assert other.question() == {"path": "/root/t/file", "secret": True}


def test_only_the_servers_that_are_wrong_are_told() -> None:
    states = ServerStates("/s", "web", (("web-01", "drain"), ("web-02", "weight 50")))
    (action,) = states.actions(answer("socket", "drain-and-maint"))
    assert action["lines"] == [
        "set server web/web-02 weight 50",
        "set server web/web-02 state ready",
    ]
    (action,) = ServerStates("/s", "web", (("web-01", "maint"),)).actions(answer("socket", "ready"))
    assert action["lines"] == ["set server web/web-01 state maint"]


def test_only_the_packages_that_are_missing_are_installed() -> None:
    wanted = Packages(("nginx", "haproxy"))
    assert wanted.actions(answer("package", "some")) == [{"do": "packages", "names": ["haproxy"]}]


def test_a_service_is_stopped_or_started_as_declared() -> None:
    def one(service: Service) -> dict[str, Any]:
        (action,) = service.actions({})
        return action

    assert one(Service("x")) == {"do": "service", "name": "x", "enabled": True}
    assert one(Service("x", starts=True))["start"] is True
    assert one(Service("x", running=False)) == {
        "do": "service",
        "name": "x",
        "enabled": False,
        "running": False,
    }


def test_a_tree_has_the_digest_that_the_machine_computes(tmp_path: Path) -> None:
    (tmp_path / "a" / "__pycache__").mkdir(parents=True)
    (tmp_path / "a" / "__pycache__" / "x.pyc").write_bytes(b"litter")
    (tmp_path / "a" / "text").write_text("ä\n", encoding="utf-8")
    (tmp_path / "run").write_text("#!/bin/sh\n")
    (tmp_path / "run").chmod(0o755)
    tree = Tree("/srv/x", tree_files(tmp_path))
    assert tree.digest == tree_digest(str(tmp_path))
    assert differences(tree, {"digest": tree.digest}) == {}
    (tmp_path / "run").chmod(0o644)
    assert tree_digest(str(tmp_path)) != tree.digest


# --- units and plans -----------------------------------------------------------------------------

CONFIG = File("/etc/x.conf", "new\n")
UNIT = Unit(
    "x",
    (CONFIG, Service("x.service")),
    service="x.service",
    activate="reload",
    validate=("x", "-t"),
    wait={"name": "x", "socket": "/s", "deadline": 5},
)
RIGHT = {
    "type": "file",
    "owner": "root",
    "group": "root",
    "mode": "0644",
    "digest": "",
    "content": "new\n",
}
RUNS = {"UnitFileState": "enabled", "ActiveState": "active"}


def answers(path: Mapping[str, Any], service: Mapping[str, Any], stamp: str) -> dict[str, Any]:
    return {"path": [path], "service": [service], "stamp": [{"fingerprint": stamp}]}


def one(path: Mapping[str, Any], service: Mapping[str, Any], stamp: str) -> UnitPlan:
    (found,) = plan("lb-01", [UNIT], answers(path, service, stamp)).units
    return found


def test_nothing_to_do() -> None:
    found = one(RIGHT, RUNS, UNIT.fingerprint)
    assert found.empty
    assert Plan("lb-01", (found,)).changes == 0


def test_a_changed_file_is_written_validated_and_loaded() -> None:
    found = one({**RIGHT, "content": "old\n"}, RUNS, "of the old file")
    assert [c.resource for c in found.changes] == [CONFIG]
    assert found.changes[0].differences == (Difference("content", "old\n", "new\n"),)
    request = found.request()
    assert [a["do"] for a in request["actions"]] == ["write"]
    assert request["validate"] == ["x", "-t"]
    assert request["due"] is True
    assert request["stamp"] == {"unit": "x", "fingerprint": UNIT.fingerprint}
    assert Plan("lb-01", (found,)).changes == 1


def test_a_file_that_was_written_and_never_loaded_is_due() -> None:
    found = one(RIGHT, RUNS, "of the old file")
    assert not found.empty
    assert found.due
    assert found.changes == ()
    assert found.request()["actions"] == []
    assert found.request()["validate"] == ["x", "-t"]
    assert Plan("lb-01", (found,)).changes == 1


def test_a_stopped_service_is_started_and_not_reloaded() -> None:
    found = one(RIGHT, {**RUNS, "ActiveState": "inactive"}, UNIT.fingerprint)
    request = found.request()
    assert [a["do"] for a in request["actions"]] == ["service"]
    assert request["due"] is False
    assert request["validate"] is None


def test_a_file_by_hand_that_was_mended_is_loaded_again() -> None:
    """Somebody may have reloaded the service with the file as it was by hand."""
    found = one({**RIGHT, "content": "by hand\n"}, RUNS, UNIT.fingerprint)
    assert found.request()["due"] is True


def test_the_fingerprint_is_of_all_that_the_process_loads_and_of_nothing_else() -> None:
    def of(*resources: Resource, also: str = "") -> str:
        return Unit("x", resources, also=also).fingerprint

    base = of(CONFIG)
    assert of(CONFIG, Service("x.service")) == base
    assert of(CONFIG, File("/page.html", "text", passive=True)) == base
    assert of(CONFIG, Directory("/d")) == base
    different = [
        of(dataclasses.replace(CONFIG, content="other")),
        of(dataclasses.replace(CONFIG, path="/other")),
        of(dataclasses.replace(CONFIG, mode="0600")),
        of(CONFIG, Link("/l", "t")),
        of(CONFIG, Gone("/l")),
        of(CONFIG, Tree("/t", ())),
        of(CONFIG, also="release 2"),
        of(),
    ]
    assert len({base, *different}) == len(different) + 1
    # A digest and nothing more: no secret can be read from the stamp.
    secret = of(File("/s", SECRET, secret=True))
    assert len(secret) == 64
    assert secret != of(File("/s", SECRET + "!", secret=True))


def test_a_unit_without_a_service_has_no_stamp() -> None:
    files = Unit("files", (CONFIG,))
    assert [kind for kind, _ in files.questions()] == ["path"]
    (found,) = plan("m", [files], {"path": [{"type": "absent"}]}).units
    assert found.request()["stamp"] is None
    assert found.request()["service"] == ""


def test_the_same_question_is_asked_once() -> None:
    same = dataclasses.replace(UNIT, name="y")
    asked = questions([UNIT, same, Unit("z", (Gone("/etc/x.conf"),))])
    assert len(asked.asked["path"]) == 1
    assert len(asked.asked["service"]) == 1
    assert asked.asked["stamp"] == [{"unit": "x"}, {"unit": "y"}]
    replies = {"stamp": [{"fingerprint": "of x"}, {"fingerprint": "of y"}]}
    assert asked.answer(replies, "stamp", {"unit": "y"}) == {"fingerprint": "of y"}


def test_values_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        UNIT.name = "other"  # type: ignore[misc]
