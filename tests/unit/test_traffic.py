"""Parsing HAProxy's statistics, runtime commands, and when a reload is needed instead."""

from __future__ import annotations

from typing import Any

import pytest

from provision.core.errors import UsageError
from provision.services.haproxy import role as haproxy
from provision.services.haproxy import statistics, traffic
from provision.services.haproxy.runtime_state import parse_server_states, state_commands
from provision.services.haproxy.statistics import server_rows
from tests.unit.samples import context

COLUMNS = (
    "# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,"
    "wredis,status,weight,act,bck,chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,sid,throttle,"
    "lbtot,tracked,type,rate,rate_lim,rate_max,check_status"
)
STAT = f"""{COLUMNS}
www,FRONTEND,,,3,4,4000,17,0,0,0,0,0,,,,,OPEN,,,,,,,,,1,2,0,,,,0,3,0,4,
web,web-01,0,0,0,1,,850,0,0,,0,,1,1,100,8,UP,100,1,0,2,1,23,23,,1,3,1,,850,,2,0,,4,L7OK
web,web-02,0,0,2,2,,767,0,0,,0,,0,0,0,0,UP 1/2,200,1,0,1,1,23,23,,1,3,2,,767,,2,5,,9,* L7OK
web,BACKEND,0,0,2,3,400,1617,0,0,0,0,,1,1,100,8,UP,300,2,0,,1,23,23,,1,3,0,,1617,,1,5,,9,
stats,FRONTEND,,,0,0,4000,0,0,0,0,0,0,,,,,OPEN,,,,,,,,,1,4,0,,,,0,0,0,0,
"""
"""``show stat`` of HAProxy 3.0.11, the columns after the check's result cut off."""

NAMES = (
    "be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health"
)
PROCESSES = """\
#<PID>          <type>          <reloads>       <uptime>        <version>      
44              master          2 [failed: 0]   0d00h01m57s     3.0.11-1+deb13u3
# workers
451             worker          0               0d00h00m00s     3.0.11-1+deb13u3
# old workers
416             worker          1               0d00h00m13s     3.0.11-1+deb13u3
398             worker          2               0d00h00m20s     3.0.11-1+deb13u3
# programs

"""  # noqa: W291 (as HAProxy prints it)


def test_servers_are_parsed_from_show_stat() -> None:
    first, second = statistics.parse_servers(STAT)
    assert (first.name, first.status, first.check, first.weight) == ("web-01", "UP", "L7OK", 100)
    assert (first.total, first.errors, first.retries, first.backup) == (850, 2, 108, False)
    assert (second.status, second.check, second.sessions, second.rate) == ("UP 1/2", "L7OK", 2, 5)
    assert first.up
    assert second.up


def test_in_active_passive_all_servers_but_the_first_are_backups() -> None:
    assert [view.backup for view in statistics.parse_servers(STAT, active_passive=True)] == [
        False,
        True,
    ]


def test_a_server_of_weight_zero_is_drained() -> None:
    rows = server_rows(STAT.replace("UP 1/2,200,", "UP,0,"))
    assert (rows["web-01"]["status"], rows["web-02"]["status"]) == ("UP", "DRAIN")


def test_sessions_of_a_frontend() -> None:
    assert statistics.frontend_sessions(STAT, "www") == 3
    assert statistics.frontend_sessions(STAT, "none") == 0


def test_old_workers_are_parsed_from_show_proc() -> None:
    assert statistics.parse_old_workers(PROCESSES) == (416, 398)
    assert statistics.parse_old_workers(PROCESSES.replace("# old workers", "# workers")) == ()
    assert statistics.parse_old_workers("!timed out") == ()


@pytest.mark.parametrize(
    ("admin", "weight", "state"),
    [
        (0, 100, "weight 100"),
        (0, 7, "weight 7"),
        (0, 0, "drain"),
        (8, 100, "drain"),
        (1, 100, "maint"),
        (4, 100, "maint"),
        (9, 100, "maint"),
    ],
)
def test_server_states_are_parsed_from_show_servers_state(
    admin: int, weight: int, state: str
) -> None:
    text = f"1\n# {NAMES}\n3 web 1 web-01 192.168.59.11 2 {admin} {weight} 100 13 15 3 3\n"
    other = "4 other 1 web-09 192.168.59.19 2 0 100 100 13 15 3 3\n"
    assert parse_server_states(text + other, "web") == {"web-01": state}


def test_runtime_commands_of_a_state() -> None:
    assert state_commands("web", "web-01", "drain") == ["set server web/web-01 state drain"]
    assert state_commands("web", "web-01", "weight 7") == [
        "set server web/web-01 weight 7",
        "set server web/web-01 state ready",
    ]


def test_server_lines_have_the_recorded_settings() -> None:
    lab = context(weights={"web-01": 40}, admin={"web-02": "drain"})
    assert [(s.name, s.weight, s.options) for s in haproxy.backend_servers(lab)] == [
        ("web-01", 40, ""),
        ("web-02", 0, ""),
    ]
    assert haproxy.server_states(lab) == (("web-01", "weight 40"), ("web-02", "drain"))
    out = context(admin={"web-02": "maint"})
    assert [s.options for s in haproxy.backend_servers(out)] == ["", " disabled"]


def test_active_passive_uses_the_first_server_that_is_up() -> None:
    assert haproxy.balance_keyword(context()) == "roundrobin"
    assert haproxy.balance_keyword(context(algorithm="leastconn")) == "leastconn"
    assert haproxy.balance_keyword(context(algorithm="leastconn", mode="active-passive")) == "first"


@pytest.mark.parametrize(
    ("before", "after", "at_runtime"),
    [
        ({}, {"weights": {"web-01": 7}}, True),
        ({}, {"admin": {"web-01": "drain"}}, True),
        ({}, {"mode": "active-passive"}, False),
        ({}, {"algorithm": "source"}, False),
        ({"algorithm": "source"}, {"algorithm": "source", "weights": {"web-01": 7}}, True),
        ({"algorithm": "static-rr"}, {"algorithm": "static-rr", "weights": {"web-01": 7}}, False),
        (
            {"algorithm": "static-rr"},
            {"algorithm": "static-rr", "admin": {"web-01": "drain"}},
            True,
        ),
        (
            {"algorithm": "static-rr", "admin": {"web-01": "drain"}},
            {"algorithm": "static-rr"},
            False,
        ),
    ],
)
def test_haproxy_is_reloaded_only_if_runtime_commands_are_not_enough(
    before: dict[str, Any], after: dict[str, Any], at_runtime: bool
) -> None:
    assert traffic.applies_at_runtime(context(**before), context(**after)) is at_runtime


def test_settings_that_differ_from_the_topology_are_listed() -> None:
    assert traffic.overrides(context()) == ()
    assert traffic.overrides(context(mode="active-active", algorithm="roundrobin")) == ()
    lab = context(
        weights={"web-01": 7, "gone": 9},
        admin={"web-02": "drain"},
        mode="active-passive",
        algorithm="source",
    )
    assert traffic.overrides(lab) == (
        "web-02: drain",
        "web-01: weight 7 instead of 1",
        "mode active-passive instead of active-active",
        "algorithm source instead of roundrobin",
    )


def test_an_unknown_server_is_refused_with_the_valid_names() -> None:
    with pytest.raises(UsageError, match="choose from web-01, web-02"):
        traffic.require_server(context(), "lb-01")


def test_a_server_in_slow_start_is_told_from_one_that_a_reload_has_brought() -> None:
    in_slow_start = STAT.replace("23,23,,1,3,1,,850", "1,23,,1,3,1,35,850")
    reloaded = STAT.replace("23,23,,1,3,1,,850", "0,0,,1,3,1,,850")
    assert [server.starting for server in statistics.parse_servers(in_slow_start)] == [True, False]
    assert not any(server.starting for server in statistics.parse_servers(reloaded))
