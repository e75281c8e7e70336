"""Refusing a configuration of sshd that would lock out the controller."""

from __future__ import annotations

import os

from provision.engine.agent.files import Journal
from provision.engine.agent.process import AgentError, Log, must
from provision.engine.agent.registry import Args, action


@action("check-sshd-login")
def check_sshd_login(args: Args, journal: Journal, log: Log) -> None:
    """Check that sshd's present files let this agent's user log in with a key.

    Raises:
        AgentError: when they do not.
    """
    user = os.environ.get("SUDO_USER", "root")
    argv = ["sshd", "-T", "-C", f"user={user},host=localhost,addr=127.0.0.1"]
    options: dict[str, list[str]] = {}
    for line in must(argv).stdout.splitlines():
        key, _, value = line.partition(" ")
        options.setdefault(key, []).extend(value.split())
    users = options.get("allowusers")
    if (users and user not in users) or user in options.get("denyusers", []):
        allowed = f"only {', '.join(users)}" if users else "other users"
        raise AgentError(
            f"sshd would lock out the controller: it logs in as {user}, and sshd would admit "
            + allowed
        )
    if options.get("pubkeyauthentication") != ["yes"]:
        raise AgentError("sshd would lock out the controller: it would not accept keys")
