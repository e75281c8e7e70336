"""Monitoring without machines: roles, alert rules, parsing of Prometheus, charts and the page."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from provision import checks
from provision.checks.monitoring import ALERTS, TARGETS, probes
from provision.checks.observation import Observation
from provision.commands import charts, monitor_screen
from provision.core.errors import LabError
from provision.core.lab import ROOT
from provision.core.thresholds import DISK_USED_PERCENT, REPLICATION_LAG_SECONDS
from provision.engine.agent.http import HttpResponse
from provision.engine.agent.protocol import Results
from provision.engine.context import Context
from provision.engine.plan import Unit
from provision.engine.resources import File, NoFile, Service
from provision.engine.resources.removal import NoDirectory, NoService
from provision.monitoring import exporters
from provision.monitoring import prometheus as metrics
from provision.monitoring import role as monitoring
from provision.monitoring.agent import alerts, facts, page, queries
from provision.monitoring.agent.prometheus import Series, View, parse_alerts, parse_series
from provision.monitoring.scrape import jobs
from tests.unit.samples import PASSWORD, context

TOPOLOGY = """
domain: foobar.com
network: 192.168.56.0/24
primary: web-01
machines:
  lb-01: {address: 192.168.56.10, roles: [haproxy, exporters, monitoring]}
  web-01: {address: 192.168.56.11, roles: [nginx, app, mysql, exporters]}
  web-02: {address: 192.168.56.12, roles: [nginx, app, mysql, exporters]}
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A lab with monitoring."""
    path = tmp_path_factory.mktemp("topology") / "watched.yml"
    path.write_text(TOPOLOGY, encoding="utf-8")
    return context(str(path), provider="lxc")


def units(found: Context, machine: str) -> dict[str, Unit]:
    return {u.name: u for u in found.desired(found.lab.machine(machine))}


def text_of(unit: Unit, ending: str) -> str:
    (content,) = [
        r.content for r in unit.resources if isinstance(r, File) and r.path.endswith(ending)
    ]
    return content


# --- roles ---------------------------------------------------------------------------------------


def test_exporters_follow_the_roles_of_a_machine(watched: Context) -> None:
    assert {n for n in units(watched, "lb-01") if n.startswith("exporter")} == {"exporter-node"}
    assert {n for n in units(watched, "web-02") if n.startswith("exporter")} == {
        "exporter-node",
        "exporter-nginx",
        "exporter-mysql",
    }


def test_exporters_listen_on_the_machines_address_alone(watched: Context) -> None:
    for name, unit in units(watched, "web-01").items():
        if name.startswith("exporter-"):
            listens = re.findall(r"--web.listen-address=(\S+):\d+", text_of(unit, "/lab.conf"))
            assert listens == ["192.168.56.11"]


def test_containers_run_without_the_collectors_of_virtual_machines(watched: Context) -> None:
    assert "--collector.meminfo" not in text_of(
        units(watched, "lb-01")["exporter-node"], "/lab.conf"
    )
    whole = replace(watched, state=replace(watched.state, provider="vagrant"))
    assert "--collector.meminfo" in text_of(units(whole, "lb-01")["exporter-node"], "/lab.conf")


def test_the_password_is_in_one_secret_file_alone(watched: Context) -> None:
    password = PASSWORD.format("mysql-check")
    holders = [
        (r.path, r.secret, r.mode)
        for u in units(watched, "web-01").values()
        if u.name.startswith("exporter")
        for r in u.resources
        if isinstance(r, File) and password in r.content
    ]
    assert holders == [(exporters.CNF, True, "0640")]


def test_the_firewall_admits_only_monitoring(watched: Context) -> None:
    opened = exporters.ports(watched, watched.lab.machine("web-01"))
    assert {a.port for a in opened} == {9100, 9104, 9113}
    assert {a.sources for a in opened} == {("192.168.56.10",)}
    at_the_balancer = exporters.ports(watched, watched.lab.machine("lb-01"))
    assert {a.port for a in at_the_balancer} == {9100, 8404}
    # the page is reached through the balancer on the same machine
    assert monitoring.ports(watched, watched.lab.machine("lb-01")) == ()


@pytest.mark.parametrize(("machine", "role"), [("lb-01", monitoring), ("web-01", exporters)])
def test_absent_removes_everything_that_the_role_adds(
    watched: Context, machine: str, role: Any
) -> None:
    here = watched.lab.machine(machine)
    added = [r for u in role.units(watched, here) for r in u.resources]
    removals = [r for u in role.absent(watched, here) for r in u.resources]
    gone = {r.marker for r in removals if isinstance(r, NoFile | NoService)}
    folders = tuple(f"{r.path}/" for r in removals if isinstance(r, NoDirectory))
    stopped = {r.unit for r in removals if isinstance(r, Service) and not r.running}
    stopped |= {r.unit for r in removals if isinstance(r, NoService)}
    for resource in added:
        if isinstance(resource, File):
            assert resource.path in gone or resource.path.startswith(folders), resource.path
        else:
            assert isinstance(resource, Service)
            assert resource.unit in stopped


def test_absent_reloads_nothing(watched: Context) -> None:
    for role in (exporters, monitoring):
        for unit in role.absent(watched, watched.lab.machine("web-01")):
            assert not unit.service


def test_prometheus_scrapes_every_exporter_of_the_topology(watched: Context) -> None:
    config = yaml.safe_load(text_of(units(watched, "lb-01")["prometheus"], "/lab.yml"))
    targets = {
        (job["job_name"], static["labels"]["machine"], static["targets"][0])
        for job in config["scrape_configs"]
        for static in job["static_configs"]
    }
    assert targets == {
        ("haproxy", "lb-01", "192.168.56.10:8404"),
        ("mysql", "web-01", "192.168.56.11:9104"),
        ("mysql", "web-02", "192.168.56.12:9104"),
        ("nginx", "web-01", "192.168.56.11:9113"),
        ("nginx", "web-02", "192.168.56.12:9113"),
        ("node", "lb-01", "192.168.56.10:9100"),
        ("node", "web-01", "192.168.56.11:9100"),
        ("node", "web-02", "192.168.56.12:9100"),
    }


def test_every_queried_metric_is_kept(watched: Context) -> None:
    keep = [re.compile(job.keep) for job in jobs(watched.lab)]
    expressions = [*queries.SERIES.values(), *queries.CURRENT.values()]
    expressions += [r["expr"] for r in rules(watched)]
    names = {
        n for q in expressions for n in re.findall(r"\b(?:haproxy|mysql|node|nginx|lab)_\w+", q)
    }
    assert len(names) > 10
    for name in names - {"mysql_slave_status_replica_"}:
        assert any(pattern.fullmatch(name) for pattern in keep), name


# --- rules ---------------------------------------------------------------------------------------


def rules(found: Context) -> list[dict[str, Any]]:
    text = monitoring.rules(found, found.lab.machine("lb-01"))
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def test_alerts_name_existing_checks(watched: Context) -> None:
    names = [check.name for check in checks.checks(watched)]
    mirrored = set()
    for rule in rules(watched):
        mirrored_check = rule["annotations"].get("check")
        if mirrored_check is None:
            assert rule["alert"] in (
                "CertificateExpiring",
                "BackupOverdue",
                "ErrantTransactionsSaved",
            )
            continue
        pattern = re.sub(r"\\\{\\\{.*?\\\}\\\}", "[^/]+", re.escape(mirrored_check))
        matching = [name for name in names if re.fullmatch(pattern, name)]
        assert matching, f"{rule['alert']} names a check that does not exist: {mirrored_check}"
        mirrored |= {name.split("/")[0] for name in matching}
    assert {"machine", "service", "balancer", "site", "disk", "database", "replication"} <= mirrored


def test_alerts_use_the_thresholds_of_checks(watched: Context) -> None:
    by_name = {rule["alert"]: rule["expr"] for rule in rules(watched)}
    assert by_name["ReplicationLag"].endswith(f"> {REPLICATION_LAG_SECONDS}")
    assert by_name["DiskAlmostFull"].strip().endswith(f"> {DISK_USED_PERCENT / 100}")


def test_alerts_fire_within_seconds(watched: Context) -> None:
    for rule in rules(watched):
        assert rule["for"] in ("5s", "10s")
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["next"].startswith("invoke ")


def test_commands_in_alerts_name_the_lab(watched: Context) -> None:
    other = replace(watched, lab=replace(watched.lab, name="two"))
    assert all("--lab two" in rule["annotations"]["next"] for rule in rules(other))
    assert not any("--lab" in rule["annotations"]["next"] for rule in rules(watched))


def test_a_lab_without_replicas_has_no_alert_about_them(tmp_path: Path) -> None:
    path = tmp_path / "one.yml"
    path.write_text(
        "domain: foobar.com\nnetwork: 192.168.56.0/24\nprimary: web-01\nmachines:\n"
        "  lb-01: {address: 192.168.56.10, roles: [haproxy, exporters, monitoring]}\n"
        "  web-01: {address: 192.168.56.11, roles: [nginx, app, mysql, exporters]}\n"
    )
    names = {rule["alert"] for rule in rules(context(str(path)))}
    assert "MySQLDown" in names
    assert not names & {"ReplicationNotRunning", "ReplicationLag", "SemiSyncOff"}


# --- alerts in the journal -----------------------------------------------------------------------


def alert(status: str = "firing", **more: Any) -> dict[str, Any]:
    return {
        "status": status,
        "startsAt": "2026-01-01T00:00:00Z",
        "labels": {"alertname": "MachineDown", "machine": "web-02", "severity": "critical"},
        "annotations": {
            "summary": "the machine does not answer",
            "check": "machine/web-02",
            "next": "invoke lab.status",
        },
        **more,
    }


def test_a_journal_line_has_alert_machine_and_next_command() -> None:
    assert alerts.line(alert()) == (
        "FIRING MachineDown web-02: the machine does not answer (check machine/web-02); "
        "next: invoke lab.status"
    )
    assert alerts.line(alert("resolved")) == (
        "RESOLVED MachineDown web-02: the machine does not answer"
    )


def test_control_characters_never_reach_the_journal() -> None:
    odd = alert(annotations={"summary": "a\nb\x1b[31m\t" + "x" * 1000})
    output = alerts.line(odd)
    assert "\n" not in output
    assert "\x1b" not in output
    assert len(output) < 400


def test_priorities_are_those_of_the_journal() -> None:
    assert alerts.priority(alert()) == 2
    assert alerts.priority(alert(labels={"severity": "warning"})) == 4
    assert alerts.priority(alert("resolved")) == 5


def test_repeated_notifications_are_logged_once() -> None:
    log = alerts.AlertLog()
    assert len(log.changes({"alerts": [alert()]})) == 1
    assert log.changes({"alerts": [alert()]}) == []
    assert len(log.changes({"alerts": [alert("resolved")]})) == 1
    assert len(log.changes({"alerts": [alert(startsAt="2026-01-01T01:00:00Z")]})) == 1


@pytest.fixture
def receiver() -> Iterator[int]:
    """The port of a running receiver."""
    yield from serving(alerts.handler(alerts.AlertLog()))


def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def request(port: int, method: str, path: str, body: bytes = b"") -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def test_the_receiver_prints_one_line_per_alert(
    receiver: int, capfd: pytest.CaptureFixture[str]
) -> None:
    body = json.dumps({"alerts": [alert(), alert()]}).encode()
    assert request(receiver, "POST", "/", body)[0] == 200
    assert capfd.readouterr().out == f"<2>{alerts.line(alert())}\n"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"alerts": [1]}', b'{"alerts": 3}'])
def test_the_receiver_survives_invalid_notifications(
    receiver: int, body: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    assert request(receiver, "POST", "/", body)[0] == 400
    assert capfd.readouterr().out.startswith("<4>invalid notification")
    assert request(receiver, "GET", "/ready")[0] == 200


# --- facts ---------------------------------------------------------------------------------------


def test_the_date_of_openssl_is_parsed() -> None:
    assert facts.not_after("notAfter=Jan  2 03:04:05 2027 GMT\n") == 1798859045
    with pytest.raises(ValueError, match="no expiry date"):
        facts.not_after("unable to load certificate")


def test_facts_are_written_as_metrics(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    target = tmp_path / "lab.prom"
    facts.main([str(target), f"backups={folder}", f"certificate={tmp_path}/*.pem"])
    born = re.findall(r"^lab_backup_last_timestamp_seconds\{.*\} (\d+)$", target.read_text(), re.M)
    assert abs(int(born[0]) - time.time()) < 60, "before the first backup, the folder's own age"
    (folder / "foobar-1.tar").write_bytes(b"")
    facts.main([str(target), f"backups={folder}"])
    assert f'lab_backup_files{{folder="{folder}"}} 1' in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in tmp_path.glob("*.new")] == []


def test_a_missing_backup_folder_has_no_metrics() -> None:
    assert facts.backups("/nonexistent") == (0, 0.0)
    assert "timestamp" not in facts.metrics({}, {"/nonexistent": (0, 0.0)})


def test_labels_are_escaped() -> None:
    assert '{path="/a\\"b\\\\c"} 5' in facts.metrics({'/a"b\\c': 5.0}, {})


# --- responses of Prometheus ---------------------------------------------------------------------

MATRIX = json.dumps(
    {
        "status": "success",
        "data": {
            "resultType": "matrix",
            "result": [
                {
                    "metric": {"server": "web-01"},
                    "values": [[100, "1"], [105, "2.5"], [115, "4"]],
                },
                {"metric": {"server": "web-02"}, "values": [[110, "1"], [115, "NaN"]]},
            ],
        },
    }
)


def view(**more: Any) -> View:
    found: dict[str, Any] = {"series": {"requests": parse_series(MATRIX)}, **more}
    return View(117.0, 20, 5, **found)


def test_a_line_has_one_value_per_step() -> None:
    assert view().line("requests", server="web-01") == [1.0, 2.5, None, 4.0]
    assert view().line("requests", server="web-02") == [None, None, 1.0, None]
    assert view().line("requests", server="web-09") == [None] * 4
    assert view().line("nothing") == [None] * 4


def test_current_values() -> None:
    current = {"total": (Series({}, ((1.0, 3.0),)),), "lag": (Series({}, ((1.0, float("nan")),)),)}
    assert view(current=current).value("total") == 3.0
    assert view(current=current).value("lag") is None
    assert view(current=current).value("none") is None


@pytest.mark.parametrize("body", ["", "{", "[]", '{"status":"error","error":"bad query"}'])
def test_an_error_response_is_rejected(body: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_series(body)
    with pytest.raises(ValueError, match=r".*"):
        parse_alerts(body)


def alerts_response(*entries: tuple[str, str, str]) -> str:
    alerts = [
        {
            "labels": {"alertname": name, "machine": "web-02", "severity": severity},
            "annotations": {"summary": "s", "check": "site", "next": "invoke lab.check"},
            "state": state,
            "activeAt": "2026-01-01T00:00:00Z",
        }
        for name, state, severity in entries
    ]
    return json.dumps({"status": "success", "data": {"alerts": alerts}})


def test_firing_alerts_come_first() -> None:
    alerts = parse_alerts(
        alerts_response(
            ("B", "pending", "critical"), ("C", "firing", "warning"), ("D", "firing", "critical")
        )
    )
    assert [a.name for a in alerts] == ["D", "C", "B"]
    assert [a.name for a in view(alerts=alerts).firing] == ["D", "C"]


def test_a_lab_without_monitoring() -> None:
    with pytest.raises(LabError, match="lab default has no monitoring") as caught:
        metrics.monitoring_machine(context("distributed").lab)
    assert caught.value.hint == "invoke lab.up --topology secured"


@pytest.mark.parametrize(("seconds", "step"), [(60, 5), (300, 5), (900, 10), (21600, 180)])
def test_steps_are_multiples_of_a_scrape(seconds: int, step: int) -> None:
    assert queries.step_for(seconds) == step


# --- checks --------------------------------------------------------------------------------------


def observe(watched: Context, bodies: Mapping[str, str] = {}) -> Observation:
    """An observation of a monitoring machine whose Prometheus responds with these bodies."""
    ups = [
        {"metric": {"job": j.name, "machine": m}, "value": [1, "1"]}
        for j in jobs(watched.lab)
        for m, _ in j.targets
    ]
    up = json.dumps({"status": "success", "data": {"result": ups}})
    by_probe = {TARGETS.name: up, ALERTS.name: alerts_response()} | dict(bodies)
    values = {
        probe.name: HttpResponse(200, body=by_probe.get(probe.name, ""))
        for probe in probes(watched, watched.lab.machine("lb-01"))
    }
    return Observation({}, {"lb-01": Results.of("lb-01", values)})


def judged(watched: Context, observed: Observation) -> dict[str, checks.Verdict]:
    own = [
        c
        for c in checks.checks(watched)
        if c.name.split("/")[0] in ("monitoring", "targets", "alerts")
    ]
    assert len(own) == 3
    return {c.name.split("/")[0]: c.judge(observed) for c in own}


def test_checks_pass_when_monitoring_works(watched: Context) -> None:
    assert all(v.ok for v in judged(watched, observe(watched)).values())


def test_checks_fail_without_results(watched: Context) -> None:
    assert not any(v.ok for v in judged(watched, Observation({})).values())


def test_an_unreachable_target_is_named(watched: Context) -> None:
    body = json.dumps(
        {
            "status": "success",
            "data": {
                "result": [{"metric": {"job": "node", "machine": "web-01"}, "value": [1, "0"]}]
            },
        }
    )
    verdict = judged(watched, observe(watched, {TARGETS.name: body}))["targets"]
    assert not verdict.ok
    assert "node on web-01" in verdict.got


def test_an_alert_that_mirrors_a_check_does_not_fail_twice(watched: Context) -> None:
    body = alerts_response(("HighErrorRate", "firing", "critical"))
    assert judged(watched, observe(watched, {ALERTS.name: body}))["alerts"].ok
    unknown = body.replace('"check": "site"', '"check": ""')
    verdict = judged(watched, observe(watched, {ALERTS.name: unknown}))["alerts"]
    assert not verdict.ok
    assert "HighErrorRate web-02" in verdict.got


def test_an_alert_about_a_target_of_the_former_topology_is_no_fault(watched: Context) -> None:
    """Prometheus keeps the last result of a removed target for two scrape intervals."""
    body = alerts_response(("TargetDown", "firing", "warning"))
    for own in ("targets/lb-01", "monitoring/lb-01"):
        mirrored = body.replace('"check": "site"', f'"check": "{own}"')
        assert judged(watched, observe(watched, {ALERTS.name: mirrored}))["alerts"].ok


# --- drawing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "top"),
    [([], 1), ([None], 1), ([0.3], 1), ([1.1], 2), ([7.0], 10), ([99.0], 100), ([101.0], 200)],
)
def test_ceilings_are_round(values: list[float | None], top: float) -> None:
    assert charts.ceiling(values) == top


def test_sparks_distinguish_gaps_zero_and_values() -> None:
    assert charts.spark([None, 0.0, 5.0, 10.0]) == " ▁▄█"
    assert charts.spark([0.0, 0.0]) == "▁▁"
    assert charts.spark([]) == ""


def test_bars_are_as_high_as_their_values() -> None:
    drawn = charts.bars([0.0, None, 10.0, 5.0, 0.001], 2, 10.0)
    assert drawn == ["  █  ", "  ██▁"]


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.0, "0"), (0.25, "0.2"), (12.34, "12.3"), (1234.5, "1234")]
)
def test_numbers(value: float | None, text: str) -> None:
    assert charts.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.003, "3 ms"), (0.9999, "1.0 s"), (2.34, "2.3 s")]
)
def test_durations(value: float | None, text: str) -> None:
    assert charts.seconds(value) == text


def drawn(what: Any) -> str:
    console = Console(width=160, highlight=False, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    with console.file:
        console.print(what)
        return console.export_text()


def test_the_screen_shows_faults(watched: Context) -> None:
    def one(value: float, **labels: str) -> Series:
        return Series(labels, ((115.0, value),))

    current = {
        "targets": (one(1, job="node", machine="web-01"), one(0, job="node", machine="web-02")),
        "state": (one(1, server="web-01", state="UP"), one(1, server="web-02", state="DOWN")),
        "total": (one(8),),
        "failed": (one(2),),
        "read_only": (one(0, machine="web-01"), one(1, machine="web-02")),
        "semi_sync": (one(0, machine="web-01"),),
        "receiving": (one(0, machine="web-02"),),
        "applying": (one(1, machine="web-02"),),
    }
    parsed = parse_alerts(alerts_response(("MachineDown", "firing", "critical")))
    text = drawn(monitor_screen.screen(watched, view(current=current, alerts=parsed)))
    assert "1 of 2 targets up  1 alert" in text
    assert "8.0 requests/s  25.0% errors" in text
    assert re.search(r"web-02 +down", text)
    assert re.search(r"web-01 +primary .*asynchronous", text)
    assert re.search(r"web-02 +replica .*not receiving, applying", text)
    assert "MachineDown" in text
    values = monitor_screen.values(watched, view(current=current, alerts=parsed))
    assert values["databases"][1]["receiving"] is False
    assert values["servers"][0]["requests_per_second"] == 4.0
    assert json.loads(json.dumps(values)) == values


def test_the_screen_of_a_lab_that_was_just_started(watched: Context) -> None:
    text = drawn(monitor_screen.screen(watched, View(1.0, 300, 5)))
    assert "0 of 0 targets up  no alert" in text
    assert "unreachable" in text


def test_the_rate_is_drawn_for_all_servers_and_for_one(watched: Context) -> None:
    text = drawn(monitor_screen.rate(watched, view()))
    assert "requests per second, www.foobar.com: 4.0" in text
    assert re.search(r"web-01 +4\.0", text)
    assert "web-02" not in drawn(monitor_screen.rate(watched, view(), "web-01"))


# --- the page ------------------------------------------------------------------------------------


class Prometheus(BaseHTTPRequestHandler):
    """A Prometheus that returns the same series for every query."""

    def do_GET(self) -> None:
        body = (
            MATRIX
            if "query=%28" in self.path
            else MATRIX.replace('"result": [', '"result": [], "x": [')
        )
        if "/alerts" in self.path:
            body = alerts_response(("A", "firing", "critical"), ("B", "pending", "critical"))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[int, bytes, Any]]]:
    """Sends requests to a page with a working Prometheus."""
    for prometheus in serving(Prometheus):
        monkeypatch.setattr(page, "PROMETHEUS", ("127.0.0.1", prometheus))
        for port in serving(
            page.handler(
                page.PageData(
                    {
                        "lab": "mon",
                        "site": "www.foobar.com",
                        "topology": "secured",
                        "limits": {"lag": 5, "errors": 0.05},
                    }
                )
            )
        ):
            yield lambda path, method="GET", port=port: request(port, method, path)


def test_the_page_serves_its_files_and_no_others(
    served: Callable[..., tuple[int, bytes, Any]],
) -> None:
    status, body, headers = served("/_monitor/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for name in re.findall(rb'(?:src|href)="([^"]+)"', body):
        if name != b"chart.js":
            assert served(f"/_monitor/{name.decode()}")[0] == 200
    for path in ("/", "/_monitor/../page.py", "/_monitor/%2e%2e/page.py", "/_monitor//etc/passwd"):
        assert served(path)[0] == 404
    assert served("/_monitor")[0] == 301
    assert served("/_monitor/", "HEAD")[1] == b""
    assert served("/_monitor/data", "POST")[0] == 501


def test_the_page_data_are_the_named_queries(
    served: Callable[..., tuple[int, bytes, Any]],
) -> None:
    status, body, _ = served("/_monitor/data?minutes=5")
    data = json.loads(body)
    assert status == 200
    assert (data["lab"], data["minutes"], data["step"]) == ("mon", 5, 5)
    assert set(data["series"]) == set(queries.SERIES)
    assert set(data["current"]) == set(queries.CURRENT)
    assert data["series"]["requests"][1]["points"][-1] == [115, None], "NaN is no JSON"
    assert [a["name"] for a in data["alerts"]] == ["A"]


@pytest.mark.parametrize("query", ["minutes=7", "minutes=", "minutes=5%20or%201", "query=up"])
def test_a_browser_cannot_send_other_queries(
    served: Callable[..., tuple[int, bytes, Any]], query: str
) -> None:
    status, body, _ = served(f"/_monitor/data?{query}")
    if query == "query=up":
        assert json.loads(body)["minutes"] == 15, "unknown parameters are ignored"
    else:
        assert status == 400 or json.loads(body)["minutes"] == 15


def test_an_unreachable_prometheus_is_reported(
    served: Callable[..., tuple[int, bytes, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "PROMETHEUS", ("127.0.0.1", 1))
    status, body, _ = served("/_monitor/data?minutes=5")
    assert status == 503
    assert "Prometheus does not respond" in json.loads(body)["error"]


def test_the_page_loads_nothing_from_other_hosts() -> None:
    for path in (ROOT / "provision" / "monitoring" / "agent" / "static").iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//[a-z]", text.replace("// ", "")), path.name
        assert "innerHTML" not in text
