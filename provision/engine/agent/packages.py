"""On the machine: Debian packages, and the archive that they come from."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any

from provision.engine.agent.core import ACTIONS, PROBES, Done, Failed, Job, Say, finish, run, start
from provision.engine.agent.files import Journal, place_file


def package_probe(each: list[dict[str, Any]]) -> Job:
    """Which of the named packages are installed, and in which version."""
    names = sorted({name for one in each for name in one["names"]})
    form = "${Package}\t${db:Status-Status}\t${Version}\n"
    process = start(["dpkg-query", "-W", "-f", form, *names])
    yield
    found = {}
    for line in finish(process).out.splitlines():
        name, status, version = line.split("\t")
        if status == "installed":
            found[name] = version
    return [{name: found.get(name, "") for name in one["names"]} for one in each]


PROBES["package"] = package_probe

APT = [
    "apt-get",
    "-q",
    "-y",
    "-o",
    "DPkg::Lock::Timeout=120",
    "-o",
    "Dpkg::Use-Pty=0",
    "-o",
    "Dpkg::Options::=--force-confold",
    "-o",
    "Acquire::Retries=2",
    "-o",
    "Acquire::http::Timeout=20",
    "-o",
    "Acquire::https::Timeout=20",
]
POLICY = "/usr/sbin/policy-rc.d"


def _apt(arguments: list[str], timeout: float) -> Done:
    """Run apt-get; what it could not fetch becomes a message that names the source."""
    done = run([*APT, *arguments], timeout=timeout)
    text = done.out + done.err
    bad = [line for line in text.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    unreachable = re.search(
        r"(Could not (resolve|connect)|Connection (failed|timed out)"
        r"|Unable to connect|Temporary failure|404 +Not Found|Failed to fetch)",
        text,
    )
    if done.status != 0 or (arguments[0] == "update" and unreachable):
        sources = sorted(set(re.findall(r"https?://[^/\s']+", "\n".join(bad))))
        if unreachable and sources:
            raise Failed(f"the package source {', '.join(sources)} does not answer", "\n".join(bad))
        raise Failed(f"apt-get {arguments[0]} ended with {done.status}", "\n".join(bad) or text)
    return done


def packages(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Install packages: ``names``. Services do not start until they are configured."""
    names: list[str] = args["names"]
    if run(["dpkg", "--audit"]).out.strip():
        say("finishing an interrupted installation")
        run(["dpkg", "--configure", "-a"], timeout=600)
    with open(POLICY, "w") as file:
        file.write("#!/bin/sh\nexit 101\n")
    os.chmod(POLICY, 0o755)
    try:
        say("reading package lists")
        _apt(["update"], 180)
        say(f"installing {len(names)} packages")
        for attempt in (1, 2):
            try:
                _apt(["install", "--no-install-recommends", *names], 900)
                break
            except Failed:
                # Seen once in some 25 installations of mysql-server; a second try mends it.
                if attempt == 2:
                    raise
                say("installing once more")
                run(["dpkg", "--configure", "-a"], timeout=600)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(POLICY)


def own_mirror() -> str:
    """The archive that this machine's own apt configuration names for its release.

    Raises:
        Failed: when it names none.
    """
    with open("/etc/os-release") as file:
        codename = re.search(r"^VERSION_CODENAME=(\S+)", file.read(), re.MULTILINE)
    release = codename.group(1) if codename else ""
    # "update --print-uris" reads the configuration in all its forms and fetches nothing.
    out = run(["apt-get", "update", "--print-uris"]).out
    found = re.search(rf"'(\S+)/dists/{re.escape(release)}/InRelease'", out)
    if found:
        return found.group(1)
    raise Failed(f"apt has no source for {release} main on this machine")


def sid_source(args: dict[str, Any], journal: Journal, say: Say) -> None:
    """Write a source list: ``path``, ``list`` with ``@MIRROR@`` for this machine's mirror."""
    journal.keep(args["path"])
    text = args["list"].replace("@MIRROR@", own_mirror())
    place_file(args["path"], text.encode(), 0, 0, 0o644)


ACTIONS.update(packages=packages, sid_source=sid_source)
