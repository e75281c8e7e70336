"""Values of a machine that its provider or image set once, and that no file of the lab holds.

The host name, links, routes, kernel parameters, firewall tables, accounts. They are recorded when
the lab has configured the machine for the first time; what differs since then is restored.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from provision.engine.agent.atomic import write_atomically
from provision.engine.agent.files import Journal
from provision.engine.agent.filesystem import read_text
from provision.engine.agent.process import AgentError, Log, must, run
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, action, collector

RECORD = "/var/lib/foobar-lab/machine-state.json"
SYSCTLS = (
    "net/core/*",
    "net/ipv4/*",
    "net/ipv4/conf/*/*",
    "net/ipv6/conf/*/disable_ipv6",
    "net/unix/*",
    "vm/swappiness",
    "vm/overcommit_memory",
    "vm/overcommit_ratio",
    "vm/max_map_count",
    "vm/dirty_ratio",
    "vm/dirty_background_ratio",
    "fs/file-max",
    "fs/nr_open",
)
"""Below ``/proc/sys``; those that this machine may not write belong to its host."""

CHANGING = (
    # the role hardening owns these
    "accept_redirects",
    "send_redirects",
    "accept_source_route",
    "rp_filter",
    "tcp_syncookies",
    "tcp_rfc1337",
    "icmp_echo_ignore_broadcasts",
    "icmp_ignore_bogus_error_responses",
    # the kernel or the lab changes these
    "arp_ignore",
    "arp_announce",
    "tcp_fastopen_key",
    "rps_default_mask",
    "_mem",
    "forwarding",
    "ip_forward",
    "netdev_rss_key",
    "tcp_max_orphans",
    "tcp_max_tw_buckets",
    "tcp_max_syn_backlog",
    "tcp_ehash_entries",
    "udp_hash_entries",
)
"""Ends of names that the lab or the kernel changes, or whose value follows from the memory."""

OPTIONAL = ("sysctl ", "mtu ", "qdisc ", "table ")
"""Starts of names that are compared only when they are present: their subject may be gone."""

DYNAMIC_USERS = range(61184, 65520)
"""systemd allocates these while a service runs (systemd.exec(5), DynamicUser=)."""

LAB_TABLES = ("inet lab", "ip lab_handover")


@dataclass(frozen=True)
class MachineState:
    """The recorded values that differ, and the present ones.

    Args:
        recorded: whether there is a record. Accounts that appear later are not part of it: packages
            and deployments create some.
        original: by name such as ``sysctl net.core.somaxconn`` or ``mtu eth0``.
        present: the same names; empty text for what no longer exists.
    """

    recorded: bool
    original: Mapping[str, str] = field(default_factory=dict)
    present: Mapping[str, str] = field(default_factory=dict)


def machine_state_probe() -> Probe[MachineState]:
    """What differs from the recorded state of the machine."""
    return Probe("machine-state", "machine state", {}, MachineState)


@collector("machine-state")
def collect_machine_state(args: Args) -> MachineState:
    """See `machine_state_probe`."""
    recorded, present = load(), read_state()
    names = differing(recorded, present)
    if not recorded:
        return MachineState(False)
    return MachineState(
        True,
        {name: recorded.get(name, "") for name in names},
        {name: present.get(name, "") for name in names},
    )


def differing(recorded: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """The names whose recorded value has to be restored, and unrecorded firewall tables."""
    names = [
        name
        for name, value in recorded.items()
        if name in present or not name.startswith(OPTIONAL)
        if present.get(name, "") != value
    ]
    return names + [name for name in present if name.startswith("table ") and name not in recorded]


def load() -> dict[str, str]:
    """The record; empty when there is none."""
    try:
        values = json.loads(read_text(RECORD) or "{}")
        return without_temporary({str(name): str(value) for name, value in values.items()})
    except ValueError:
        return {}


def without_temporary(values: Mapping[str, str]) -> dict[str, str]:
    """Values without leased routes, dynamic users and `CHANGING`, which older records contain."""
    kept = {
        name: value
        for name, value in values.items()
        if not (name.startswith("account ") and int(value.split(":")[0]) in DYNAMIC_USERS)
        and not (name.startswith("sysctl ") and name.endswith(CHANGING))
    }
    if "routes" in kept:
        kept["routes"] = parse_routes(kept["routes"])
    return kept


def read_state() -> dict[str, str]:
    """The present values."""
    return {
        "host name": os.uname().nodename,
        **_links(),
        **_routes(),
        **_sysctls(),
        **_tables(),
        **_accounts(),
    }


def _links() -> dict[str, str]:
    return parse_links(run(["ip", "-oneline", "link", "show"]).stdout)


def parse_links(text: str) -> dict[str, str]:
    """MTU and queueing discipline by link, from ``ip -oneline link``."""
    state = {}
    for line in text.splitlines():
        words = line.split()
        name = words[1].rstrip(":").partition("@")[0]
        values = dict(zip(words[3::2], words[4::2], strict=False))
        state[f"mtu {name}"] = values.get("mtu", "")
        state[f"qdisc {name}"] = values.get("qdisc", "")
    return state


def _routes() -> dict[str, str]:
    routes = run(["ip", "-4", "route", "show"]).stdout
    rules = run(["ip", "-4", "rule", "show"]).stdout
    return {"routes": parse_routes(routes), "routing rules": parse_routes(rules)}


def parse_routes(text: str) -> str:
    """Routes or rules, one per line, sorted, without states and leased routes: they come and go."""
    lines = (
        " ".join(word for word in line.split() if word != "linkdown")
        for line in text.splitlines()
        if " proto dhcp" not in line
    )
    return "\n".join(sorted(line for line in lines if line))


def _sysctls() -> dict[str, str]:
    values = {}
    for pattern in SYSCTLS:
        for path in glob.glob(f"/proc/sys/{pattern}"):
            if path.endswith(CHANGING) or not os.path.isfile(path) or not os.access(path, os.W_OK):
                continue
            with contextlib.suppress(OSError, UnicodeDecodeError), open(path) as file:
                name = path.removeprefix("/proc/sys/").replace("/", ".")
                values[f"sysctl {name}"] = file.read().strip()
    return values


def _tables() -> dict[str, str]:
    if not os.path.exists("/usr/sbin/nft"):
        return {}
    names = (
        line.removeprefix("table ").strip()
        for line in run(["nft", "list", "tables"]).stdout.splitlines()
    )
    return {f"table {name}": "present" for name in names if name not in LAB_TABLES}


def _accounts() -> dict[str, str]:
    import pwd

    return {
        f"account {entry.pw_name}": ":".join(map(str, entry[2:]))
        for entry in pwd.getpwall()
        if entry.pw_uid != 65534 and entry.pw_uid not in DYNAMIC_USERS
    }


@action("machine-state")
def restore_machine_state(args: Args, journal: Journal, log: Log) -> None:
    """Restore values: ``restore`` by name; with ``record``, record what is not recorded yet."""
    for name, value in args["restore"].items():
        log(f"restoring {name}")
        _restore(name, value)
    if args["record"]:
        recorded = load()
        present = read_state()
        if recorded:
            present = {n: v for n, v in present.items() if n.startswith("account ")}
        os.makedirs(os.path.dirname(RECORD), exist_ok=True)
        merged = {**present, **recorded}
        write_atomically(RECORD, json.dumps(merged).encode(), 0o600)


def _restore(name: str, value: str) -> None:
    kind, _, subject = name.partition(" ")
    if name == "host name":
        must(["hostname", value])
    elif kind == "mtu":
        must(["ip", "link", "set", "dev", subject, "mtu", value])
    elif kind == "qdisc":
        if not run(["tc", "qdisc", "del", "dev", subject, "root"]).ok:
            must(["tc", "qdisc", "replace", "dev", subject, "root", value])
    elif name in ("routes", "routing rules"):
        _restore_routes("route" if name == "routes" else "rule", value)
    elif kind == "sysctl":
        with open(f"/proc/sys/{subject.replace('.', '/')}", "w") as file:
            file.write(value)
    elif kind == "table":
        family, table = subject.split()
        must(["nft", "delete", "table", family, table])
    elif kind == "account":
        _restore_account(subject, value)
    else:
        raise AgentError(f"unknown value {name!r}")


def _restore_routes(kind: str, value: str) -> None:
    wanted = value.splitlines()
    present = parse_routes(run(["ip", "-4", kind, "show"]).stdout).splitlines()
    for line in wanted:
        if line not in present:
            must(
                ["ip", "-4", kind, *_arguments(kind, "replace" if kind == "route" else "add", line)]
            )
    present = parse_routes(run(["ip", "-4", kind, "show"]).stdout).splitlines()
    for line in present:
        if line not in wanted:
            must(["ip", "-4", kind, *_arguments(kind, "del", line)])


def _arguments(kind: str, verb: str, line: str) -> list[str]:
    if kind == "route":
        return [verb, *line.split()]
    preference, _, selector = line.partition(":")
    return [verb, *selector.split(), "preference", preference]


def _restore_account(name: str, value: str) -> None:
    """Create a removed account with its number, since it owns files; or restore its values."""
    import grp
    import pwd

    uid, gid, comment, home, shell = value.split(":", 4)
    try:
        pwd.getpwnam(name)
    except KeyError:
        try:
            grp.getgrgid(int(gid))
        except KeyError:
            must(["groupadd", "--system", "--gid", gid, name])
        options = ["--uid", uid, "--gid", gid, "--comment", comment, "--home-dir", home]
        must(["useradd", "--system", "--no-create-home", *options, "--shell", shell, name])
        return
    options = ["--uid", uid, "--gid", gid, "--comment", comment, "--home", home, "--shell", shell]
    must(["usermod", *options, name])
