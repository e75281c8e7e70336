"""Debian packages of a machine, and the archive that they come from."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from provision.engine.agent.atomic import write_atomically
from provision.engine.agent.files import Journal
from provision.engine.agent.package_relay import RECORD
from provision.engine.agent.process import AgentError, Log, ProcessResult, must, run
from provision.engine.agent.protocol import Probe
from provision.engine.agent.registry import Args, action, batch_collector, collector

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
RESTORE = ["-o", "Dpkg::Options::=--force-confmiss"]
"""Missing configuration files are installed again (dpkg(1), --force-confmiss)."""

HELD = "--allow-change-held-packages"
"""The lab itself installs the packages that it holds."""

POLICY = "/usr/sbin/policy-rc.d"
UNREACHABLE = re.compile(
    r"Could not (resolve|connect)|Connection (failed|timed out)|Unable to connect"
    r"|Temporary failure|404 +Not Found|Failed to fetch"
)


@dataclass(frozen=True)
class PackageVersions:
    """Installed packages.

    Args:
        versions: by name; empty for a package that is not installed.
        damaged: by name, which packages of it and of its direct dependencies lack files or have
            changed configuration files, each with the first of these files.
    """

    versions: Mapping[str, str]
    damaged: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)


def packages_probe(
    names: Sequence[str], configured: Sequence[str] = (), *, conffiles: bool = True
) -> Probe[PackageVersions]:
    """Which of some packages are installed and complete.

    Args:
        configured: paths whose content may differ from the package's, or that may be missing.
        conffiles: whether other configuration files that were changed count as damage.
    """
    args = {"names": list(names), "configured": list(configured), "conffiles": conffiles}
    return Probe("packages", f"packages {' '.join(names)}", args, PackageVersions)


@dataclass(frozen=True)
class HeldFacts:
    """Which of some packages are installed and held."""

    held: tuple[str, ...]


def held_probe(names: Sequence[str]) -> Probe[HeldFacts]:
    """Which of some packages are held."""
    return Probe("held-packages", "held packages", {"names": list(names)}, HeldFacts)


@collector("held-packages")
def collect_held(args: Args) -> HeldFacts:
    """See `held_probe`."""
    form = "${Package}\t${db:Status-Want}\t${db:Status-Status}\n"
    lines = run(["dpkg-query", "-W", "-f", form, *args["names"]]).stdout.splitlines()
    rows = [line.split("\t") for line in lines]
    return HeldFacts(
        tuple(n for n, want, status in rows if (want, status) == ("hold", "installed"))
    )


@action("hold-packages")
def hold_packages(args: Args, journal: Journal, log: Log) -> None:
    """Hold installed packages: ``names``."""
    must(["apt-mark", "hold", *args["names"]])


@batch_collector("packages")
def collect_packages(batch: Sequence[Args]) -> list[PackageVersions]:
    """See `packages_probe`; one dpkg-query for all probes."""
    from provision.engine.agent.package_files import damage

    installed = installed_packages(sorted({name for args in batch for name in args["names"]}))
    return [
        PackageVersions(
            {name: installed.get(name, "") for name in args["names"]},
            damage(
                [name for name in args["names"] if name in installed],
                args.get("configured", ()),
                conffiles=args.get("conffiles", True),
            ),
        )
        for args in batch
    ]


def installed_packages(names: Sequence[str] = ()) -> dict[str, str]:
    """Versions of the installed packages among ``names``, or of all."""
    form = "${Package}\t${db:Status-Status}\t${Version}\n"
    # Its status is 1 when a package is unknown.
    lines = run(["dpkg-query", "-W", "-f", form, *names]).stdout.splitlines()
    rows = [line.split("\t") for line in lines]
    return {name: version for name, status, version in rows if status == "installed"}


def relay_options() -> list[str]:
    """Options of apt-get for the controller's package pool; none when it is not connected."""
    try:
        with open(RECORD) as file:
            port, *settings = file.read().split()
        socket.create_connection(("127.0.0.1", int(port)), 2).close()
    except (OSError, ValueError):
        return []
    # The controller sends a file when it has all of it; lists are complete or unchanged.
    options = [f"Acquire::http::Proxy=http://127.0.0.1:{port}", "Acquire::http::Timeout=600"]
    return [
        word
        for setting in (*options, *settings, "Acquire::PDiffs=false")
        for word in ("-o", setting)
    ]


def _problems(result: ProcessResult) -> str:
    """What apt-get complains of, line by line."""
    lines = result.output.splitlines()
    return "\n".join(line for line in lines if line.startswith(("E:", "W:", "Err:")))


def _apt(arguments: Sequence[str], timeout: float) -> ProcessResult:
    """Run apt-get, through the controller's package pool if that has the files.

    Raises:
        AgentError: naming the package source that could not be reached.
    """
    relayed, problems = relay_options(), ""
    if relayed:
        result = run([*APT, *relayed, *arguments], timeout=timeout)
        if result.ok and not (arguments[0] == "update" and UNREACHABLE.search(result.output)):
            return result
        problems = "through the controller:\n" + _problems(result) + "\nfrom this machine:\n"
    result = run([*APT, *arguments], timeout=timeout)
    own = _problems(result)
    problems += own
    unreachable = UNREACHABLE.search(result.output)
    if not result.ok or (arguments[0] == "update" and unreachable):
        sources = sorted(set(re.findall(r"https?://[^/\s']+", own)))
        if unreachable and sources:
            raise AgentError(f"package source {', '.join(sources)} is unreachable", problems)
        what = f"apt-get {arguments[0]} exited with {result.status}"
        raise AgentError(what, problems or result.output)
    return result


@action("packages")
def install(args: Args, journal: Journal, log: Log) -> None:
    """Install packages: ``names``, and ``reinstall`` with the configuration files they lack.

    With ``conffiles``, their changed configuration files are restored too, except ``configured``
    ones; copies are kept. Services do not start before they are configured.
    """
    names: list[str] = args["names"]
    damaged: list[str] = args["reinstall"]
    if run(["dpkg", "--audit"]).stdout.strip():
        log("completing an interrupted installation")
        run(["dpkg", "--configure", "-a"], timeout=600)
    write_atomically(POLICY, b"#!/bin/sh\nexit 101\n", 0o755)
    try:
        log("reading package lists")
        _apt(["update"], 180)
        if damaged:
            from provision.engine.agent.package_files import changed_conffiles, obstructions

            log(f"reinstalling {', '.join(damaged)}")
            paths = obstructions(damaged)
            if args["conffiles"]:  # dpkg keeps changed ones, and restores missing ones
                paths += changed_conffiles(damaged, args["configured"])
            for path in paths:
                journal.keep(path)
                journal.copies.keep(path)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            _apt(
                ["install", "--reinstall", HELD, *RESTORE, "--no-install-recommends", *damaged], 900
            )
        if not names:
            return
        log(f"installing {len(names)} packages")
        install_names = ["install", HELD, "--no-install-recommends", *RESTORE, *names]
        try:
            _apt(install_names, 900)
        except AgentError:
            # mysql-server's installation failed once in some 25; a retry succeeds.
            log("retrying the installation")
            run(["dpkg", "--configure", "-a"], timeout=600)
            _apt(["update"], 180)  # the archive may have newer versions meanwhile
            _apt(install_names, 900)
    finally:
        run(["apt-get", "clean"])
        with contextlib.suppress(FileNotFoundError):
            os.unlink(POLICY)


def own_mirror() -> str:
    """The archive that this machine's apt configuration names for its release.

    Raises:
        AgentError: when it names none.
    """
    with open("/etc/os-release") as file:
        codename = re.search(r"^VERSION_CODENAME=(\S+)", file.read(), re.MULTILINE)
    release = codename.group(1) if codename else ""
    # "update --print-uris" reads the configuration in all its forms and fetches nothing.
    uris = run(["apt-get", "update", "--print-uris"]).stdout
    match = re.search(rf"'(\S+)/dists/{re.escape(release)}/InRelease'", uris)
    if match is None:
        raise AgentError(f"apt on this machine has no source for {release} main")
    return match.group(1)


@action("sid-source")
def write_sid_source(args: Args, journal: Journal, log: Log) -> None:
    """Write a source list: ``path``, ``list`` with ``@MIRROR@`` for this machine's mirror."""
    journal.keep(args["path"])
    text = args["list"].replace("@MIRROR@", own_mirror())
    write_atomically(args["path"], text.encode(), 0o644)
