"""An application of the user's own: its options, its record, its process, its place in checks."""

from __future__ import annotations

import re
import shlex
import stat
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from provision.core.errors import LabError, UsageError
from provision.engine.context import Context
from provision.engine.plan import Unit
from provision.engine.resources import File
from provision.services.app import process, releases
from provision.services.app import role as app
from provision.services.app.agent.database_proxy import READ_PORT, WRITE_PORT
from provision.services.app.application import (
    Application,
    Record,
    load_record,
    own_application,
    parse_environment,
    record_path,
    save_record,
)
from provision.services.app.interface import application, record_database, uses_database
from tests.unit.samples import context

NASTY = 'he said "hi" $HOME `x` \\ % é\nsecond line'


def own(**options: str | bool) -> Application:
    values = {"wsgi": "app:app", "health": "/", "static": "", **options}
    return own_application(
        str(values["wsgi"]),
        str(values["health"]),
        str(values["static"]),
        {"GREETING": NASTY},
        database=bool(values.get("database")),
    )


@pytest.fixture
def flask(tmp_path: Path) -> Path:
    folder = tmp_path / "flask"
    (folder / "assets").mkdir(parents=True)
    (folder / "assets" / "a b.css").write_text("body {}")
    (folder / "app.py").write_text("def app(environ, start_response): ...")
    return folder


def deployed(
    tmp_path: Path, folder: Path, application: Application, topology: str = "distributed"
) -> Context:
    """A lab whose recorded release is this application."""
    lab = context(topology, root=tmp_path)
    lab.lab.directory.mkdir(parents=True, exist_ok=True)
    releases.store(lab, folder, "7", application)
    return replace(lab, state=replace(lab.state, release="7"))


@pytest.fixture
def lab(tmp_path: Path, flask: Path) -> Context:
    return deployed(tmp_path, flask, own(health="/health", static="assets", database=True))


def unit(lab: Context, machine: str, name: str) -> Unit:
    return next(u for u in lab.desired(lab.lab.machine(machine)) if u.name == name)


def file(lab: Context, machine: str, name: str, path: str) -> str:
    resources = unit(lab, machine, name).resources
    return next(r.content for r in resources if isinstance(r, File) and r.path == path)


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wsgi", ["app:app", "project.wsgi:application", "app", "a.b:create_app()", "app:x.y"]
)
def test_what_gunicorn_starts(wsgi: str) -> None:
    assert own(wsgi=wsgi).wsgi == wsgi


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("wsgi", "app:app; rm -rf /"),
        ("wsgi", "app:create('x')"),
        ("wsgi", "app.py"[:3] + "-x:app"),
        ("wsgi", "%d:app"),
        ("wsgi", "app:app\n"),
        ("health", "health"),
        ("health", "/a b"),
        ("health", "/a;}"),
        ("static", "../static"),
        ("static", "a/../b"),
        ("static", "a b"),
    ],
)
def test_an_invalid_option_is_refused(option: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"invalid --{option} "):
        own(**{option: value})


def test_variables_from_options_and_a_file(tmp_path: Path) -> None:
    path = tmp_path / "values"
    path.write_bytes(b"\xef\xbb\xbf# comment\r\n\r\nexport A='1 2'\r\nB = x=y\r\nC=\"\"\r\n")
    assert parse_environment(("B=2",), str(path)) == {"A": "1 2", "B": "2", "C": ""}
    assert parse_environment(("A= spaces ",)) == {"A": " spaces "}
    with pytest.raises(UsageError, match="--env: not an assignment"):
        parse_environment(("SECRET",))
    path.write_text("A=1\nmy secret\n")
    with pytest.raises(UsageError, match=r"line 2 of .*: not an assignment") as caught:
        parse_environment((), str(path))
    assert "my secret" not in str(caught.value)
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="does not exist or is a folder"):
            parse_environment((), str(missing))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("A-B", "1", "invalid name of an environment variable"),
        ("LAB_HOST", "x", "LAB_HOST is set by the lab"),
        ("LISTEN_FDS", "x", "LISTEN_FDS is set by the lab or by systemd"),
        ("A", "\x00", "control characters"),
        ("A", "\udce9", "is not UTF-8"),
        ("DATABASE_URL", "x", "DATABASE_URL is set by --database"),
    ],
)
def test_an_invalid_variable_is_refused(name: str, value: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        own_application("app:app", "/", "", {name: value}, database=True)


# --- records -------------------------------------------------------------------------------------


def test_a_record_is_private_and_complete(lab: Context) -> None:
    path = record_path(lab.lab.directory, "7")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_record(lab.lab.directory, "7") == Record(application(lab))
    assert application(lab).environment == {"GREETING": NASTY}
    assert load_record(lab.lab.directory, "8") is None
    path.write_text("{")
    with pytest.raises(LabError, match="is damaged"):
        load_record(lab.lab.directory, "7")


def test_a_release_that_was_never_deployed_is_replaced_and_forgotten(
    lab: Context, flask: Path
) -> None:
    here = replace(lab, state=replace(lab.state, release=""))
    (flask / "app.py").write_text("app = None")
    releases.store(here, flask, "7", own())
    assert (app.stored_release(here, "7") / "app.py").read_text() == "app = None"
    assert "7" not in releases.deployed_versions(here)
    releases.discard(here, "7")
    remaining = [p.name for p in (here.lab.directory / "releases").rglob("*") if p.is_file()]
    assert remaining == []


def test_the_same_files_with_other_options_are_another_release(lab: Context, flask: Path) -> None:
    save_record(lab.lab.directory, "7", Record(application(lab), deployed=True))
    releases.store(lab, flask, "7", application(lab))
    with pytest.raises(UsageError, match="a different release is already stored as 7"):
        releases.store(lab, flask, "7", own())


def test_a_changed_copy_of_the_bundled_release_leaves_nothing_behind(
    tmp_path: Path, flask: Path
) -> None:
    here = context(root=tmp_path)
    here.lab.directory.mkdir(parents=True)
    with pytest.raises(UsageError, match="a different release is already stored as"):
        releases.store(here, flask, releases.current(here), own())
    assert app.release_folder(here) == app.SOURCE
    assert not app.stored_release(here, releases.current(here)).exists()


@pytest.mark.parametrize(
    ("files", "options", "message", "hint"),
    [
        (["wsgi.txt"], {}, "has no module app,", "add app.py"),
        (["mysite/wsgi.py"], {"wsgi": "site:app"}, "has no module", "mysite.wsgi:application"),
        (["app.py", "requirements.txt"], {"wsgi": "app.x:a"}, "has no module app.x", "app:app"),
        (["app.py"], {"static": "public"}, "has no files in public/", "--static"),
    ],
)
def test_a_folder_without_what_the_options_name_is_refused(
    tmp_path: Path, files: list[str], options: dict[str, str], message: str, hint: str
) -> None:
    folder = tmp_path / "folder"
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    here = context(root=tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        releases.store(here, folder, "7", own(**options))
    assert hint in caught.value.hint
    assert not (here.lab.directory / "releases").exists()


def test_another_folder_suggests_how_to_deploy_it(tmp_path: Path, flask: Path) -> None:
    with pytest.raises(UsageError, match="is not a release of the guest book") as caught:
        releases.store(context(root=tmp_path), flask, "7")
    assert "--wsgi app:app" in caught.value.hint


# --- on machines ---------------------------------------------------------------------------------


def test_the_service_runs_the_application(lab: Context) -> None:
    service = file(lab, "web-01", "app", "/etc/systemd/system/foobar.service")
    (line,) = re.findall(r"ExecStart=(.*)", service)
    assert shlex.split(line)[0] == process.GUNICORN
    assert shlex.split(line)[-1] == "app:app"
    assert "Application of www.foobar.com" in service


def test_a_gunicorn_configuration_and_requirements_are_used(tmp_path: Path, flask: Path) -> None:
    (flask / "gunicorn.conf.py").write_text("workers = 3")
    (flask / "requirements.txt").write_text("flask")
    here = deployed(tmp_path, flask, own())
    wheels = here.lab.directory / "releases" / ".wheels" / "7"
    wheels.mkdir(parents=True)
    for name in ("pip-26.0-py3-none-any.whl", "flask-3.1.3-py3-none-any.whl"):
        (wheels / name).write_bytes(b"PK")
    service = file(here, "web-01", "app", "/etc/systemd/system/foobar.service")
    python = "/srv/foobar/environments/7/bin/python"
    start = f"{python} -m gunicorn -c {process.CODE}/gunicorn.conf.py --workers 3 --threads 1"
    assert f"ExecStart={start} app:app\n" in service
    environment = app.virtual_environment(here)
    assert environment
    before = unit(here, "web-01", "app").fingerprint
    (wheels / "flask-3.1.3-py3-none-any.whl").write_bytes(b"PK2")
    assert unit(replace(here), "web-01", "app").fingerprint != before
    (action,) = environment.actions(environment.probe().result())
    assert action.args["installer"] == "pip-26.0-py3-none-any.whl"
    assert environment.path in unit(here, "web-01", "app").reads


def unquoted(text: str) -> dict[str, str]:
    """An EnvironmentFile= as systemd reads it (systemd.exec(5))."""
    variables = re.findall(r'^([A-Z_]+)="((?:[^"\\]|\\.)*)"$', text, re.MULTILINE | re.DOTALL)
    return {name: re.sub(r"\\(.)", r"\1", value) for name, value in variables}


def test_variables_reach_the_process_unchanged(lab: Context) -> None:
    text = file(lab, "web-02", "app", "/etc/foobar/app.env")
    variables = unquoted(text)
    assert variables["GREETING"] == NASTY
    assert variables["LAB_HOST"] == "web-02"
    assert variables["LAB_SITE"] == "www.foobar.com"
    assert variables["LAB_RELEASE"] == "7"
    primary, replica = (urlsplit(variables[n]) for n in ("DATABASE_URL", "DATABASE_REPLICA_URL"))
    assert (primary.hostname, primary.port) == ("127.0.0.1", WRITE_PORT)
    assert (replica.hostname, replica.port) == ("127.0.0.1", READ_PORT)
    assert unquote(primary.password or "") == lab.secrets.password("mysql-own-app")
    assert parse_qs(primary.query) == {"ssl_ca": ["/etc/foobar/ca.pem"]}


def test_a_schema_of_its_own_stays_for_a_rollback(lab: Context) -> None:
    def names(here: Context) -> set[str]:
        return {r.name for r in unit(here, here.state.primary, "mysql-accounts").resources}

    guest_book = replace(lab, state=replace(lab.state, release=""))
    assert {"schema app", f"account app@{lab.lab.network}"} <= names(lab)
    assert not uses_database(guest_book)
    assert "schema app" not in names(guest_book)
    record_database(guest_book)
    assert "schema app" in names(replace(guest_book))


def test_nginx_serves_its_folder_and_translates_the_health_check(lab: Context) -> None:
    site = file(lab, "web-01", "nginx", "/etc/nginx/sites-available/www")
    assert "alias /srv/foobar/current/assets/;" in site
    health = site.partition("location ~ ^/healthz(/write)?$ {")[2].partition("}")[0]
    assert "rewrite ^ /health break;" in health
    assert "proxy_pass http://$health;" in health
    assert "default-src" not in site  # its pages may need any script
    assert "favicon" not in site
    guest_book = replace(lab, state=replace(lab.state, release=""))
    site = file(guest_book, "web-01", "nginx", "/etc/nginx/sites-available/www")
    assert "rewrite" not in site
    assert "alias /srv/foobar/current/foobar/static/;" in site


def haproxy(lab: Context) -> str:
    return file(lab, "lb-01", "haproxy", "/etc/haproxy/haproxy.cfg")


def test_an_equally_large_application_needs_no_other_configuration_of_the_balancer(
    lab: Context, tmp_path: Path, flask: Path
) -> None:
    guest_book = replace(lab, state=replace(lab.state, release=""))
    without_static = deployed(tmp_path / "second", flask, own())
    assert len({haproxy(here) for here in (guest_book, lab, without_static)}) == 1


def test_a_database_machine_gets_no_files_of_it(tmp_path: Path, flask: Path) -> None:
    here = deployed(tmp_path, flask, own(), "scaled")
    names = [u.name for u in here.desired(here.lab.machine(here.state.primary))]
    assert "release" not in names
    assert "schema" not in names
