"""Hosts without a network for the tests of bundles: this one in namespaces, and minimal ones."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SECONDS = 500.0

LEFT_OUT = re.compile(r"(?i)pip_|.*_proxy|lab_|virtual_env|pythonpath|pytest_")
"""Variables of this host's environment that would help a bundle: indexes, proxies, caches."""


@dataclass(frozen=True)
class OfflineHost:
    """The host of the tests, without a network.

    Args:
        pid: of a process in its namespaces.
        folder: for its files.
    """

    pid: int
    folder: Path

    def run(
        self, *argv: str, cwd: Path | None = None, check: bool = True, seconds: float = SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a program there; with `check`, a failure fails the test."""
        environ = {k: v for k, v in os.environ.items() if not LEFT_OUT.fullmatch(k)}
        environ |= {
            "LAB_CACHE": str(self.folder / "cache"),
            "PIP_CONFIG_FILE": os.devnull,
            "HOME": str(self.folder / "home"),
        }
        words = [
            "nsenter",
            f"--target={self.pid}",
            "--net",
            "--mount",
            f"--wd={cwd or self.folder}",
        ]
        result = subprocess.run(
            [*words, *argv],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )
        output = result.stdout + result.stderr
        assert "Traceback" not in output, output
        if check:
            assert result.returncode == 0, f"{' '.join(argv)}: {result.returncode}\n{output}"
        return result

    def attempts(self) -> dict[str, int]:
        """How many packets tried to leave, by counter; each is 0 as long as nothing tries."""
        rules = self.run("nft", "list", "table", "inet", "proof").stdout
        found = [int(number) for number in re.findall(r"packets (\d+)", rules)]
        text = self.run("cat", "/proc/net/snmp", "/proc/net/netstat").stdout
        lines = text.splitlines()
        values: dict[str, int] = {}
        for names, numbers in zip(lines[::2], lines[1::2], strict=True):
            head = names.split(":")[0]
            pairs = zip(names.split()[1:], numbers.split()[1:], strict=True)
            values |= {f"{head}{name}": int(number) for name, number in pairs}
        return {
            "leaving": found[0],
            "forwarded": found[1],
            "without a route, from this host": values["IpOutNoRoutes"],
            "without a route, from machines": values["IpExtInNoRoutes"],
        }


@contextmanager
def offline_host(folder: Path) -> Iterator[OfflineHost]:
    """The host of the tests, with new network and mount namespaces; they end with the body."""
    (folder / "home").mkdir(parents=True)
    unshare = ["unshare", "--net", "--mount", "--propagation", "private"]
    process = subprocess.Popen(
        [*unshare, "sh", str(HERE / "no_network.sh"), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield OfflineHost(process.pid, folder)
    finally:
        process.communicate(timeout=20)


def build_root(folder: Path, release: str, mirror: str, settings: list[str]) -> None:
    """A minimal Debian with Python, as its own installer leaves it; needs a network."""
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", "--include=python3"]
    argv += [f"--aptopt={setting}" for setting in settings]
    subprocess.run(
        [*argv, release, str(folder), f"deb {mirror} {release} main"],
        check=True,
        capture_output=True,
        timeout=SECONDS,
    )
    (folder / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (folder / "usr/sbin/policy-rc.d").chmod(0o755)
    (folder / "etc/apt/sources.list").write_text("")


def run_in_root(root: Path, folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a root file system without a network; `folder` is its /media."""
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
    words = [*unshare, "sh", str(HERE / "minimal_root.sh"), str(root), str(folder), *argv]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=SECONDS)
