"""The lab from a user's perspective: every check, and requests through the balancer."""

from __future__ import annotations

import re
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
import requests

from provision import checks, registry, topology
from provision.core.lab import ROOT, Lab
from provision.core.state import State
from tests.live.conftest import RunningLab, wait_until

pytestmark = pytest.mark.live

TOPOLOGY = topology.load(topology.find("distributed", ROOT))
CONTEXT = registry.context(Lab("t-any", ROOT, TOPOLOGY), State(primary=TOPOLOGY.primary))
NAMES = [check.name for check in checks.checks(CONTEXT)]
WEBS = ("web-01", "web-02")
TOOLS = "ss ip curl dig tcpdump strace lsof less vim nano ps journalctl mysql ping nc socat top"


@pytest.fixture(scope="module")
def results(lab: RunningLab) -> dict[str, dict[str, Any]]:
    """One run of lab.check, by the checks' names."""
    return {result["check"]: result for result in lab.json("lab.check", check=False)["checks"]}


@pytest.mark.parametrize("name", NAMES)
def test_check_passes(results: dict[str, dict[str, Any]], name: str) -> None:
    result = results[name]
    assert result["status"] == "ok", (
        f"{result['machine']}: {result['service']}: expected {result['expected']}, "
        f"got {result['got']}; next: {result['next']}"
    )


def test_the_list_of_checks_is_complete(results: dict[str, dict[str, Any]]) -> None:
    assert sorted(results) == sorted(NAMES)


# --- the user's requests -------------------------------------------------------------------------


def test_twenty_requests_alternate_strictly(lab: RunningLab) -> None:
    served = [lab.get().headers["X-Served-By"] for _ in range(20)]
    assert sorted(set(served)) == list(WEBS)
    assert all(a != b for a, b in pairwise(served)), served


def test_requests_of_one_connection_alternate_too(lab: RunningLab) -> None:
    with requests.Session() as http:
        http.trust_env = False
        served = [http.get(lab.url, timeout=10).headers["X-Served-By"] for _ in range(6)]
    assert all(a != b for a, b in pairwise(served)), served


def test_the_page_shows_the_path_of_this_request(lab: RunningLab) -> None:
    answer = lab.get()
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    for word in ("lb-01", answer.headers["X-Served-By"], answer.headers["X-Read-From"]):
        assert word in answer.text
    # Reads are local: from the database on the server that sent the response.
    assert answer.headers["X-Read-From"] == answer.headers["X-Served-By"]


def test_static_files_come_from_nginx_itself(lab: RunningLab) -> None:
    for _ in WEBS:
        answer = lab.get("/static/foobar.css")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/css")
        assert "X-App-Host" not in answer.headers
        assert answer.headers["X-Served-By"] in WEBS


def test_pages_that_do_not_exist(lab: RunningLab) -> None:
    by_nginx = lab.get("/static/none.css")
    assert by_nginx.status_code == 404
    assert "X-App-Host" not in by_nginx.headers
    assert "Back to the guest book" in by_nginx.text
    by_app = lab.get("/none")
    assert by_app.status_code == 404
    assert "Traceback" not in by_app.text
    as_json = lab.get("/api/none", headers={"Accept": "application/json"})
    assert as_json.status_code == 404
    assert as_json.json()["error"]


def test_nginx_status_is_not_public(lab: RunningLab) -> None:
    assert lab.get("/nginx-status").status_code in (403, 404)


def test_read_your_writes_on_every_server(lab: RunningLab) -> None:
    with requests.Session() as http:
        http.trust_env = False
        for _ in range(5):
            words = f"note {uuid.uuid4()}"
            page = http.get(lab.url + "/", timeout=10)
            form = re.search(r'name="id" value="([0-9a-f-]{36})"', page.text)
            assert form, page.text
            posted = http.post(
                lab.url + "/notes",
                data={"id": form.group(1), "author": "Ada", "text": words},
                timeout=10,
                allow_redirects=False,
            )
            assert posted.status_code == 303, posted.text
            assert posted.headers["X-Written-To"] == lab.session().state.primary
            served = set()
            for _ in range(4):  # at once, without waiting for a replica
                page = http.get(lab.url + "/", timeout=10)
                assert words in page.text, dict(page.headers)
                served.add(page.headers["X-Served-By"])
            assert served == set(WEBS)


def test_markup_in_a_note_is_escaped(lab: RunningLab) -> None:
    mark = uuid.uuid4().hex
    with requests.Session() as http:
        http.trust_env = False
        note = {"author": "<b>x</b>", "text": f"<script>alert('{mark}')</script>"}
        assert http.post(lab.url + "/api/notes", json=note, timeout=10).status_code == 201
        page = http.get(lab.url + "/", timeout=10).text
    assert f"&lt;script&gt;alert(&#39;{mark}&#39;)&lt;/script&gt;" in page
    assert f"<script>alert('{mark}" not in page


def test_the_json_api(lab: RunningLab) -> None:
    words = f"by a program {uuid.uuid4()}"
    with requests.Session() as http:
        http.trust_env = False
        made = http.post(lab.url + "/api/notes", json={"author": "Bob", "text": words}, timeout=10)
        assert made.status_code == 201
        assert made.json()["text"] == words
        assert made.json() in http.get(lab.url + "/api/notes", timeout=10).json()
        again = http.get(lab.url + made.headers["Location"], timeout=10)
        assert again.json() == made.json()
        wrong = http.post(lab.url + "/api/notes", json={"author": "", "text": ""}, timeout=10)
        assert wrong.status_code == 422
        assert wrong.json()["error"]
        large = http.post(lab.url + "/api/notes", data=b"x" * 100_000, timeout=10)
        assert large.status_code == 413


def test_forwarded_addresses_cannot_be_forged(lab: RunningLab) -> None:
    ours = str(lab.session().lab.gateway)
    for _ in WEBS:
        page = lab.get(headers={"X-Forwarded-For": "6.6.6.6", "X-Via-Web": "evil-web"}).text
        assert ours in page
        assert "6.6.6.6" not in page
        assert "evil-web" not in page
    # Forwarded addresses are ignored in direct requests to a web server too.
    direct = f"http://{lab.session().lab.machine('web-01').address}/"
    with requests.Session() as http:
        http.trust_env = False
        page = http.get(direct, headers={"X-Forwarded-For": "6.6.6.6"}, timeout=10).text
    assert "6.6.6.6" not in page


# --- a server dies -------------------------------------------------------------------------------


def test_a_request_in_flight_to_a_dying_server_is_retried_on_the_other(
    repaired: RunningLab,
) -> None:
    repaired.out("web-01", "systemctl", "kill", "--signal=STOP", "foobar.service")
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(repaired.get) for _ in range(2)]
        # One of the two requests waits for the stopped application, which is killed now.
        wait_until(lambda: any(response.done() for response in both), "one server to respond")
        repaired.out("web-01", "systemctl", "kill", "--signal=KILL", "foobar.service")
        answers = [response.result() for response in both]
    assert [a.status_code for a in answers] == [200, 200]


def test_a_write_in_flight_to_a_dying_server_is_never_retried(repaired: RunningLab) -> None:
    mark = uuid.uuid4().hex
    hold = "FLUSH TABLES foobar.notes WITH READ LOCK; DO SLEEP(4)"
    waiting = "SELECT COUNT(*) FROM information_schema.processlist WHERE state LIKE 'Waiting for%'"

    def post(number: int) -> int:
        with requests.Session() as http:
            http.trust_env = False
            note = {"author": mark, "text": f"{mark} {number}"}
            return http.post(f"{repaired.url}/api/notes?{mark}", json=note, timeout=60).status_code

    with ThreadPoolExecutor(7) as pool:
        lock = pool.submit(repaired.sql, "web-01", hold)
        wait_until(
            lambda: "SLEEP" in repaired.sql("web-01", "SHOW PROCESSLIST"), "the table is locked"
        )
        writes = [pool.submit(post, number) for number in range(6)]
        wait_until(lambda: int(repaired.sql("web-01", waiting)) >= 4, "writes wait for the lock", 4)
        repaired.out("web-02", "systemctl", "kill", "--signal=KILL", "foobar.service")
        lock.result()
        statuses = [write.result() for write in writes]
    query = f"SELECT text, COUNT(*) FROM foobar.notes WHERE author = '{mark}' GROUP BY text"
    rows = repaired.sql("web-01", query).splitlines()
    assert all(row.endswith("\t1") for row in rows), rows
    assert statuses.count(201) <= len(rows) <= 6
    assert any(status >= 500 for status in statuses), f"no write was interrupted: {statuses}"
    logged = [
        line
        for name in WEBS
        for line in repaired.out(name, "journalctl", "-q", "-o", "cat", "-u", "nginx").splitlines()
        if f"POST /api/notes?{mark}" in line and "[error]" not in line
    ]
    assert len(logged) == 6, logged


def test_a_dead_machine_is_out_of_rotation_in_three_seconds(repaired: RunningLab) -> None:
    session = repaired.session()
    died = time.time()
    session.provider.kill(session.lab, "web-02")
    argv = ["journalctl", "-u", "haproxy", "-o", "short-unix", f"--since=@{int(died)}"]

    def down_times() -> list[float]:
        """When HAProxy reports the server DOWN, by the clock of the host."""
        output = repaired.out("lb-01", *argv).splitlines()
        return [float(s.split()[0]) for s in output if "Server web/web-02 is DOWN" in s]

    wait_until(lambda: bool(down_times()), "HAProxy to report that web-02 is down")
    assert down_times()[0] - died < 3.0
    assert {repaired.get().headers["X-Served-By"] for _ in range(6)} == {"web-01"}
    failed = repaired.invoke("lab.check", check=False)
    assert failed.returncode == 1
    assert "FAIL  machine/web-02" in failed.stdout
    assert f"next      invoke lab.up --lab {repaired.name}" in failed.stdout
    assert "web-02" in repaired.invoke("lab.status").stdout


# --- what a person finds on the machines ---------------------------------------------------------


def test_plain_ssh_with_the_written_configuration(lab: RunningLab) -> None:
    config = str(lab.session().lab.directory / "ssh_config")
    for machine in TOPOLOGY.machines:
        done = subprocess.run(
            ["ssh", "-F", config, machine.name, "hostname"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, machine.name + "\n", "")


def test_lab_ssh_returns_the_exit_status(lab: RunningLab) -> None:
    assert lab.invoke("lab.ssh", "web-02", "--", "hostname").stdout == "web-02\n"
    assert lab.invoke("lab.ssh", "web-02", "--", "exit 7", check=False).returncode == 7


@pytest.mark.parametrize("machine", ["lb-01", "web-01"])
def test_diagnostic_tools_are_installed(lab: RunningLab, machine: str) -> None:
    wanted = [tool for tool in TOOLS.split() if tool != "mysql" or machine != "lb-01"]
    script = "for tool; do command -v $tool >/dev/null || echo $tool; done"
    assert lab.out(machine, "sh", "-c", script, "sh", *wanted) == ""
    assert lab.out(machine, "sh", "-c", "ls -d /var/log/journal/*/system.journal | wc -l") == "1\n"


def test_machines_resolve_each_others_names(lab: RunningLab) -> None:
    for machine in TOPOLOGY.machines:
        for other in TOPOLOGY.machines:
            address = lab.session().lab.machine(other.name).address
            resolved = lab.out(machine.name, "getent", "ahostsv4", other.name).split()[0]
            assert resolved == str(address), (machine.name, other.name)


def test_requests_are_in_the_balancers_journal(lab: RunningLab) -> None:
    mark = uuid.uuid4().hex
    served = lab.get(f"/?{mark}").headers["X-Served-By"]

    def lines() -> list[str]:
        output = lab.invoke("lab.logs", "lb-01", "--service", "haproxy").stdout.splitlines()
        return [line for line in output if mark in line]

    wait_until(lambda: bool(lines()), "the request is in the journal of lb-01")
    assert f"web/{served}" in lines()[0]


def test_statistics_page_metrics_and_runtime_api(lab: RunningLab) -> None:
    session = lab.session()
    assert session.provider.network_problem(session.lab) == ""
    base = f"http://{session.lab.front.address}:8404"
    with requests.Session() as http:
        http.trust_env = False
        assert "web-01" in http.get(base + "/", timeout=10).text
        assert "haproxy_server_status" in http.get(base + "/metrics", timeout=10).text
    info = lab.out("lb-01", "socat", "-", "/run/haproxy/admin.sock", input="show info\n")
    assert "Name: HAProxy" in info


def test_the_application_runs_with_least_privilege(lab: RunningLab) -> None:
    output = lab.out("web-01", "systemd-analyze", "security", "--no-pager", "foobar.service")
    score = re.search(r"Overall exposure level for foobar.service: ([0-9.]+)", output)
    assert score, output
    assert float(score.group(1)) <= 2.0
    assert lab.out("web-01", "ps", "-o", "user=", "-C", "gunicorn").split()[0] == "foobar"
    assert lab.out("web-01", "readlink", "/srv/foobar/current") == "releases/1.0.0\n"


# --- the databases -------------------------------------------------------------------------------


def test_mysql_root_logs_in_only_through_the_local_socket(lab: RunningLab) -> None:
    for name in WEBS:
        who = lab.sql(name, "SELECT CURRENT_USER()")
        assert who == "root@localhost"
        accounts = lab.sql(name, "SELECT host, plugin FROM mysql.user WHERE user = 'root'")
        assert accounts == "localhost\tauth_socket"
        by_network = lab.run(name, "mysql", "--protocol=tcp", "--host=127.0.0.1", "--user=root")
        assert not by_network.ok
        other_user = lab.run(name, "runuser", "-u", "foobar", "--", "mysql", "--user=root")
        assert "Access denied" in other_user.stderr


def app_client(lab: RunningLab, *options: str) -> list[str]:
    """MySQL's client as the application logs in; the password comes from its own file."""
    primary = str(lab.session().lab.machine("web-01").address)
    script = (
        '. /etc/foobar/app.env && MYSQL_PWD="$FOOBAR_DB_PASSWORD" exec mysql --batch --user='
        'foobar_app --ssl-ca=/etc/foobar/ca.pem "$@"'
    )
    return ["sh", "-c", script, "sh", f"--host={primary}", *options]


def test_tls_is_required(lab: RunningLab) -> None:
    allowed = lab.run(
        "web-02", *app_client(lab, "--ssl-mode=VERIFY_CA"), input="SHOW STATUS LIKE 'Ssl_version'"
    )
    assert "TLSv1." in allowed.stdout, allowed.stderr
    plain = lab.run("web-02", *app_client(lab, "--ssl-mode=DISABLED"), input="SELECT 1")
    assert not plain.ok
    assert "Access denied" in plain.stderr or "insecure transport" in plain.stderr, plain.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE foobar.forbidden (id INT)",
        "DROP TABLE foobar.notes",
        "ALTER TABLE foobar.notes ADD forbidden INT",
        "CREATE USER forbidden",
        "SET GLOBAL super_read_only = OFF",
        "SELECT * FROM mysql.user",
    ],
)
def test_the_application_account_has_least_privilege(lab: RunningLab, statement: str) -> None:
    done = lab.run("web-01", *app_client(lab, "--ssl-mode=VERIFY_CA"), input=statement)
    assert not done.ok
    assert "denied" in done.stderr, done.stderr


def test_primary_and_replica_are_configured(lab: RunningLab) -> None:
    question = (
        "SELECT @@read_only, @@super_read_only, @@gtid_mode, @@binlog_format,"
        " @@require_secure_transport"
    )
    assert lab.sql("web-01", question) == "0\t0\tON\tROW\t1"
    assert lab.sql("web-02", question) == "1\t1\tON\tROW\t1"
    uuids = {lab.sql(name, "SELECT @@server_uuid") for name in WEBS}
    assert len(uuids) == 2
    semi_sync = lab.sql(
        "web-01",
        "SHOW STATUS WHERE variable_name IN"
        " ('Rpl_semi_sync_source_status', 'Rpl_semi_sync_source_clients')",
    )
    assert sorted(semi_sync.split()[1::2]) == ["1", "ON"]
    assert lab.sql("web-01", "SELECT @@rpl_semi_sync_source_wait_point") == "AFTER_SYNC"
    refused = lab.run("web-02", "mysql", input="CREATE DATABASE forbidden")
    assert "super-read-only" in refused.stderr
    replica = lab.out("web-02", "mysql", "-E", input="SHOW REPLICA STATUS")
    assert re.search(r"Auto_Position: 1", replica)
    assert re.search(r"Source_SSL_Allowed: Yes", replica)


def test_super_read_only_is_in_every_configuration(lab: RunningLab) -> None:
    for name in WEBS:
        printed = lab.out(name, "my_print_defaults", "mysqld").lower()
        assert re.search(r"--super[_-]read[_-]only(=on|=1)?$", printed, re.MULTILINE), printed
