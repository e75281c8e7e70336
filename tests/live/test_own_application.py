"""Applications of a user's own on real machines: deployed, rolled back, refused, interrupted."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from provision.services.app import releases
from provision.services.app import role as app
from tests.live import applications
from tests.live.conftest import RunningLab

pytestmark = [pytest.mark.live, pytest.mark.topologies]

GUEST_BOOK = app.version_of(app.SOURCE)
GREETING = 'he said "hi" $HOME `x` \\ % é'
OPTIONS = ("--wsgi", "app:app", "--health", "/health", "--static", "assets", "--database")
ROTATION = ("web-01", "web-02")


@pytest.fixture
def guest_book(lab: RunningLab) -> Iterator[RunningLab]:
    """The session's lab; afterwards it runs the guest book again."""
    yield lab
    lab.up()
    if releases.current(lab.session().context) != GUEST_BOOK:
        lab.invoke("app.rollback", "--version", GUEST_BOOK)


@contextmanager
def visitors(lab: RunningLab, path: str) -> Iterator[list[int]]:
    """Request a path without pause during the body; the statuses of failed requests."""
    failed: list[int] = []
    stop = threading.Event()

    def request() -> None:
        while not stop.wait(0.05):
            status = lab.get(path).status_code
            if status != 200:
                failed.append(status)

    thread = threading.Thread(target=request)
    thread.start()
    try:
        yield failed
    finally:
        stop.set()
        thread.join()


def by_host(lab: RunningLab, path: str) -> dict[str, dict[str, str]]:
    """What each server responds, as JSON; one that has just returned gets fewer requests."""
    pages: dict[str, dict[str, str]] = {}
    for _ in range(60):
        response = lab.get(path)
        assert response.status_code == 200
        pages[response.json()["host"]] = response.json()
        if pages.keys() == set(ROTATION):
            break
    return pages


def checks(lab: RunningLab) -> dict[str, dict[str, str]]:
    """The results of lab.check by name; all have passed or were skipped."""
    data = json.loads(lab.invoke("lab.check", "--json").stdout)["data"]
    return {check["check"]: check for check in data["checks"]}


def remains(lab: RunningLab, version: str) -> list[str]:
    """Paths on the controller and on machines whose names contain a version."""
    folder = lab.session().lab.directory / "releases"
    found = [str(path) for path in folder.rglob("*") if version in path.name]
    for machine in ROTATION:
        output = lab.out(machine, "find", app.HOME, "-maxdepth", "2", "-name", f"*{version}*")
        found += output.split()
    return found


def test_flask_with_database_static_files_and_requirements(
    guest_book: RunningLab, tmp_path: Path
) -> None:
    lab, folder = guest_book, applications.flask(tmp_path / "flask")
    options = (*OPTIONS, "--env", f"GREETING={GREETING}")
    lab.invoke("app.deploy", str(folder), "--version", "71.1", *options)
    pages = by_host(lab, "/")
    assert set(pages) == set(ROTATION)
    for page in pages.values():
        assert page["greeting"] == GREETING
        assert page["requests"].startswith(f"{app.ENVIRONMENTS}/71.1/")
    assert {host: page["database"] for host, page in by_host(lab, "/replica").items()} == {
        name: name for name in ROTATION
    }
    style = lab.get("/static/style.css")
    assert (style.status_code, style.text) == (200, "body { margin: 0 }\n")
    assert "x-app-host" not in style.headers
    statuses = checks(lab)
    assert statuses["site"]["status"] == statuses["static"]["status"] == "ok"
    assert statuses["write"]["status"] == "skipped"
    assert "only the guest book" in statuses["write"]["got"]
    assert "no changes" in lab.invoke("lab.plan", "--detailed-exitcode").stdout
    assert "2 of 2 paths reach the application" in lab.invoke("lab.doctor").stdout

    # A second version and back, without a failed request; then the guest book, and back.
    (folder / "VERSION").write_text("71.2\n")
    with visitors(lab, "/health") as failed:
        lab.invoke("app.deploy", str(folder), *options)
        assert by_host(lab, "/")["web-02"]["release"] == "71.2"
        lab.invoke("app.rollback")
        assert by_host(lab, "/")["web-01"]["release"] == "71.1"
    assert failed == []
    with visitors(lab, "/") as failed:
        lab.invoke("app.rollback", "--version", GUEST_BOOK)
        assert lab.get("/version").json()["version"] == GUEST_BOOK
        assert {check["status"] for check in checks(lab).values()} <= {"ok", "warning"}
        lab.invoke("app.deploy", "--version", "71.1")
    assert failed == []
    listed = json.loads(lab.invoke("app.releases", "--json").stdout)["data"]["releases"]
    running = next(release for release in listed if release["current"])
    assert (running["release"], running["application"]) == ("71.1", "app:app")
    assert running["machines"] == list(ROTATION)


def test_its_database_follows_a_promotion_at_once(guest_book: RunningLab, tmp_path: Path) -> None:
    lab, folder = guest_book, applications.flask(tmp_path / "flask")
    before = lab.session().context.state.primary
    other = next(name for name in ROTATION if name != before)
    options = (*OPTIONS, "--env", "GREETING=hi")
    lab.invoke("app.deploy", str(folder), "--version", "76.1", *options)
    count = lab.get("/").json()["visits"]
    try:
        with visitors(lab, "/health") as failed:
            lab.invoke("db.promote", other)
            pages = [lab.get("/") for _ in range(6)]
        assert [page.status_code for page in pages] == [200] * 6
        assert pages[-1].json()["visits"] == count + 6, "every server writes to the new primary"
        assert failed == []
        assert "no changes" in lab.invoke("lab.plan", "--detailed-exitcode").stdout
    finally:
        lab.invoke("db.promote", before)


def test_a_release_that_does_not_start_is_quoted_and_leaves_nothing(
    guest_book: RunningLab, tmp_path: Path
) -> None:
    lab, folder = (
        guest_book,
        applications.write(tmp_path / "flask", app_py="import requests\n\n\ndef app(*_): ...\n"),
    )
    with visitors(lab, "/") as failed:
        refused = lab.invoke(
            "app.deploy", str(folder), "--version", "72.1", "--wsgi", "app:app", check=False
        )
    assert refused.returncode == 1
    message = "crashes at every start: ModuleNotFoundError: No module named 'requests'"
    assert message in refused.stderr
    assert "import requests" in refused.stderr
    assert f"every server runs {GUEST_BOOK} again; nothing was recorded" in refused.stderr
    assert failed == []
    assert remains(lab, "72.1") == []
    assert "72.1" not in lab.invoke("app.releases").stdout
    # The same version again, with what was missing; then a requirement that does not exist.
    applications.write(folder, app_py=applications.FLASK, requirements_txt="absent-xyz==9\n")
    refused = lab.invoke(
        "app.deploy", str(folder), "--version", "72.1", "--wsgi", "app:app", check=False
    )
    assert refused.returncode == 1
    assert "no wheel of absent-xyz==9 for Python 3." in refused.stderr
    assert "no server was updated, and nothing was recorded" in refused.stderr
    assert remains(lab, "72.1") == []
    assert "no changes" in lab.invoke("lab.plan", "--detailed-exitcode").stdout


def test_django(guest_book: RunningLab, tmp_path: Path) -> None:
    lab, folder = guest_book, applications.site(tmp_path / "site")
    (folder / ".env").write_text("SECRET_KEY='a b'\n")
    deployed = lab.invoke(
        *("app.deploy", str(folder), "--version", "73.1", "--wsgi", "mysite.wsgi:application"),
        *("--env-file", str(folder / ".env")),
    )
    assert ".env (may hold secrets" in deployed.stdout
    pages = by_host(lab, "/")
    assert set(pages) == set(ROTATION)
    assert all(int(page["django"].split(".")[0]) >= 5 for page in pages.values())
    lab.invoke("lab.check")
    # A changed environment is drift, and is built again from the wheels that are kept here.
    path = f"{app.ENVIRONMENTS}/73.1/bin/python"
    lab.out("web-02", "rm", path)
    assert "changed since the installation" in lab.invoke("lab.plan").stdout
    lab.up()
    assert lab.out("web-02", path, "-c", "import django; print(django.__file__)").startswith(
        f"{app.ENVIRONMENTS}/73.1/"
    )


def test_the_contents_of_a_release(guest_book: RunningLab, tmp_path: Path) -> None:
    lab, folder = guest_book, tmp_path / "release"
    text = (
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'x']\n"
    )
    applications.write(folder, app_py=text, static__a_txt="a", jquery__file_js="b")
    (folder / "jquery").rename(folder / "jquery.pycharm")
    (folder / "assets").symlink_to("static")
    os.mkfifo(folder / "queue")
    for name in (b"latin-\xe9", b"line\nfeed", b"-rf"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text("")
    options = ("--version", "74.1", "--wsgi", "app")
    (folder / "app.py").write_text(text + "\n\napplication = app\n")
    deployed = lab.invoke("app.deploy", str(folder), *options)
    assert "queue (a fifo)" in deployed.stdout
    listed = lab.out("web-01", "find", f"{app.HOME}/current/", "-printf", "%P %y\\n")
    for line in ("jquery.pycharm/file.js f", "assets l", "-rf f", "line\nfeed f"):
        assert line in listed
    assert "queue" not in listed
    assert "no changes" in lab.invoke("lab.plan", "--detailed-exitcode").stdout
    (folder / "outside").symlink_to("/etc/passwd")
    refused = lab.invoke("app.deploy", str(folder), "--version", "74.2", *options[2:], check=False)
    assert refused.returncode == 2
    assert "links that leave it: outside -> /etc/passwd" in refused.stderr
    assert remains(lab, "74.2") == []


@pytest.mark.parametrize("step", ["unpacking", "draining", "switching to", "waiting for the"])
def test_an_interrupted_deploy_is_undone(guest_book: RunningLab, tmp_path: Path, step: str) -> None:
    lab, folder = (
        guest_book,
        applications.write(
            tmp_path / "release",
            app_py="def app(environ, start):\n    start('200 OK', [])\n    return [b'x']\n",
        ),
    )
    with visitors(lab, "/") as failed:
        child = lab.start("app.deploy", str(folder), "--version", "75.1", "--wsgi", "app:app")
        child.wait_for_output(step)
        other = lab.invoke("app.deploy", "--version", GUEST_BOOK, check=False)
        child.signal(signal.SIGINT)
        assert child.wait() == 130
    assert other.returncode != 0  # two deployments at once
    assert failed == []
    assert lab.get("/version").json()["version"] == GUEST_BOOK
    assert remains(lab, "75.1") == []
    assert "no changes" in lab.invoke("lab.plan", "--detailed-exitcode").stdout
