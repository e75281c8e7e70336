"""`scripts/bench consistency`: random faults, and an independent history checker."""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping

from tests.live.conftest import RunningLab, wait_until
from tests.live.consistency.clients import Clients
from tests.live.consistency.history import overlaps, violations
from tests.live.consistency.rounds import AFTER_SECONDS, BEFORE_SECONDS, disturb

SAMPLE_SECONDS = 0.05
SAMPLER = f"""
import sys, time
sys.path.insert(0, "/usr/local/lib/foobar-lab/mysql")
from provision.database.agent.session import MysqlError, connect_local
session = None
with open("/var/tmp/t-writable", "a") as file:
    while True:
        try:
            session = session or connect_local(1.0)
            if session.value("SELECT @@global.read_only + @@global.super_read_only") == "0":
                file.write(f"{{time.time():.4f}}\\n")
                file.flush()
        except MysqlError:
            session = None
        time.sleep({SAMPLE_SECONDS})
"""
"""Records when a machine's database is writable; all machines have the host's clock."""


def start_samplers(lab: RunningLab) -> None:
    """Record on every database machine when it is writable; again after a reboot."""
    for machine in lab.session().lab.with_role("mysql"):
        argv = ["systemd-run", "--collect", "--unit=t-writable", "python3", "-c", SAMPLER]
        lab.run(machine.name, *argv)  # it runs already, unless the machine was restarted


def sampled(lab: RunningLab) -> Mapping[str, list[float]]:
    """When each database was writable."""
    times = {}
    for machine in lab.session().lab.with_role("mysql"):
        lines = lab.out(machine.name, "cat", "/var/tmp/t-writable").splitlines()
        times[machine.name] = [float(line) for line in lines if len(line) > 14]
    return times


def stored(lab: RunningLab, author: str) -> Mapping[str, list[str]]:
    """The notes of the clients on every database, in their order."""
    statement = f"SELECT id FROM foobar.notes WHERE author = '{author}' ORDER BY seq"
    return {
        m.name: lab.sql(m.name, statement).split() for m in lab.session().lab.with_role("mysql")
    }


def heal(lab: RunningLab) -> str:
    """Let lab.up repair what is left; returns its error when two runs do not suffice."""
    for _ in range(2):
        result = lab.invoke("lab.up", check=False)
        if result.returncode == 0:
            return ""
    return f"lab.up does not repair the lab: {result.stderr.strip()}"


def run_rounds(lab: RunningLab, seed: int, rounds: int) -> list[str]:
    """Disturb a running lab under load; returns all broken promises, after the first bad round."""
    choose = random.Random(seed)
    clients = Clients(lab, seed)
    for number in range(1, rounds + 1):
        start_samplers(lab)
        started = time.monotonic()
        clients.start()
        try:
            time.sleep(BEFORE_SECONDS)
            what = disturb(lab, choose, number)
            time.sleep(AFTER_SECONDS)
        finally:
            clients.stop()
        broken = [line for line in [heal(lab)] if line]
        if not broken:
            broken = judge(lab, clients)
        counts = Counter(attempt.result for attempt in clients.history.attempts)
        figures = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        seconds = time.monotonic() - started
        print(f"round {number} ({seconds:.0f} s): {what}", flush=True)
        print(f"  so far: {figures}, {len(clients.history.reads)} reads", flush=True)
        for line in broken:
            print(f"  {line}", flush=True)
        if broken:
            return broken
    return []


def judge(lab: RunningLab, clients: Clients) -> list[str]:
    """Every broken promise so far, after the replica has caught up."""

    def caught_up() -> bool:
        databases = list(stored(lab, clients.author).values())
        return all(rows == databases[0] for rows in databases)

    with contextlib.suppress(AssertionError):  # the judgment says how they differ
        wait_until(caught_up, "the databases are equal", 30)
    databases = stored(lab, clients.author)
    return [*violations(clients.history, databases), *overlaps(sampled(lab), 1.0)]


def main(words: Iterable[str]) -> int:
    """Run the rounds and print each; returns 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="scripts/bench consistency")
    parser.add_argument("--seed", type=int, default=0, help="of the random choices (random)")
    parser.add_argument("--rounds", type=int, default=20, help="number of rounds (20)")
    parser.add_argument("--topology", default="distributed", help="distributed, secured or scaled")
    parser.add_argument("--lab", default="", help="use this running lab instead of a new one")
    options = parser.parse_args(list(words))
    if not 1 <= options.rounds <= 1000:
        parser.error("--rounds: 1 to 1000")
    seed = options.seed or random.SystemRandom().randrange(1, 10**6)
    lab = RunningLab(options.lab or "bench-consist")
    print(f"seed {seed}", flush=True)
    try:
        if not options.lab:
            lab.up("--topology", options.topology, "--yes")
        lab.invoke("db.autopromote", "on")
        broken = run_rounds(lab, seed, options.rounds)
    finally:
        if not options.lab:
            lab.destroy()
    print("no promise was broken" if not broken else f"{len(broken)} promises were broken")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
