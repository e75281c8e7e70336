"""On the machine: systemd units, system users, and programs that mend something themselves."""

from __future__ import annotations

import pwd
import time
from typing import Any

from provision.engine.agent.core import ACTIONS, PROBES, Failed, Job, Say, finish, run, start
from provision.engine.agent.files import Journal

SERVICE_KEYS = (
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "Result",
    "NRestarts",
    "NeedDaemonReload",
)


def service_probe(each: list[dict[str, Any]]) -> Job:
    """What systemd says of units: one ``systemctl show`` for all of them."""
    names = [one["name"] for one in each]
    process = start(["systemctl", "show", "--property=" + ",".join(SERVICE_KEYS), "--", *names])
    yield
    answers = []
    for block in finish(process).out.strip("\n").split("\n\n"):
        pairs = (line.partition("=") for line in block.splitlines())
        answers.append({key: value for key, _, value in pairs})
    if len(answers) != len(names):
        raise Failed(f"systemctl answered for {len(answers)} of {len(names)} units")
    return answers


PROBES["service"] = service_probe


def service(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Enable or disable a unit: ``name``, ``enabled``; a masked unit is unmasked.

    Whatever changes links lets systemd read all of its units anew: only what is needed is called.
    """
    name = args["name"]
    before = run(["systemctl", "is-enabled", name]).out.strip()
    if args["enabled"] and before.startswith("masked"):
        run(["systemctl", "unmask", name])
        run(["systemctl", "unmask", "--runtime", name])
    if before != "enabled" or not args["enabled"]:
        word = "enable" if args["enabled"] else "disable"
        done = run(["systemctl", word, name])
        if done.status != 0:
            raise Failed(f"systemctl could not {word} {name}", done.out + done.err)
    if args.get("running") is False:
        run(["systemctl", "stop", name], timeout=120)
    elif args.get("start"):
        # For what does not run it is a start; a socket whose service runs already, made before
        # the socket was, takes that service along instead of being refused.
        activate(name, "restart", say)


def activate(name: str, how: str, say: Say) -> None:
    """Start, reload or restart a unit and wait until systemd calls it active.

    Raises:
        Failed: with the last lines of its journal.
    """
    say(f"{how} {name}")
    run(["systemctl", "reset-failed", name])
    since = time.time()
    done = run(["systemctl", "daemon-reload"])
    done = run(["systemctl", how, name], timeout=180)
    state = run(["systemctl", "is-active", name]).out.strip()
    if done.status != 0 or state not in ("active", "reloading"):
        log = run(
            [
                "journalctl",
                "-u",
                name,
                "-n",
                "15",
                "-o",
                "cat",
                "--no-pager",
                f"--since=@{since - 1:.0f}",
            ]
        ).out
        raise Failed(f"systemctl {how} {name} failed: it is {state}", done.err + log)


def user_probe(each: list[dict[str, Any]]) -> Job:
    """Whether system users exist: ``name``; with ``home`` and ``shell``."""
    yield
    answers = []
    for one in each:
        try:
            entry = pwd.getpwnam(one["name"])
            answers.append({"home": entry.pw_dir, "shell": entry.pw_shell})
        except KeyError:
            answers.append({"home": "", "shell": ""})
    return answers


PROBES["user"] = user_probe


def user(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Make a system user without a login: ``name``, ``home``."""
    name, home = args["name"], args["home"]
    shell = "/usr/sbin/nologin"
    try:
        pwd.getpwnam(name)
        argv = ["usermod", "--home", home, "--shell", shell, name]
    except KeyError:
        argv = [
            "useradd",
            "--system",
            "--user-group",
            "--home-dir",
            home,
            "--no-create-home",
            "--shell",
            shell,
            name,
        ]
    done = run(argv)
    if done.status != 0:
        raise Failed(f"user {name} could not be made", done.err)


def command(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Run a program that must succeed: ``argv``, ``input``, ``timeout`` in seconds, ``say``."""
    if args.get("say"):
        say(args["say"])
    done = run(args["argv"], args.get("input", ""), args.get("timeout", 60.0))
    if done.status != 0:
        raise Failed(f"{' '.join(args['argv'])} ended with {done.status}", done.out + done.err)


ACTIONS.update(service=service, user=user, command=command)
