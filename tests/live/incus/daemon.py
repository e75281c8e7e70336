"""The real Incus daemon, one or several members, without systemd and without a change of the host.

Each member runs in namespaces of its own, with the lab's base image and a layer with the packages
``incus-base`` and ``incus-client`` as its root. Its processes end with the process that started it.
The host gets one bridge for the members' links and one folder; `Members.close` removes both.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provision.core.errors import LabError
from provision.core.package_set import PackageSet
from provision.core.waiting import wait_until
from provision.providers.image_recipe import load_recipe
from provision.providers.incus.client import IncusClient
from provision.providers.incus.remote import Remote
from provision.providers.lxc import images

SCRIPT = Path(__file__).with_name("member.sh")
PACKAGES = PackageSet(("dnsmasq-base", "incus-base", "incus-client"))
CGROUPS = Path("/sys/fs/cgroup")
GROUP = "lab-test-incus"
"""What the names of members' control groups begin with."""

START_SECONDS = 60.0
SECONDS = 1800
"""After which a member ends in any case."""


def root_file_systems() -> tuple[str, str]:
    """The roots of a member, the uppermost first.

    Raises:
        LabError: in one line, when the packages cannot be had.
    """

    def silent(_machine: str, _message: str) -> None: ...

    recipe = load_recipe()
    base = images.base_image(recipe, silent)
    layer = images.layer_image(recipe, PACKAGES, silent, "Incus")
    if layer is None:
        raise LabError("Debian's packages of Incus cannot be installed into a layer")
    return str(layer), str(base)


class Member:
    """One daemon.

    Args:
        folder: on a file system that can hold the upper layer of an overlay.
    """

    def __init__(self, name: str, folder: Path, address: str, bridge: str) -> None:
        self.name = name
        self.folder = folder
        self.address = address
        self.bridge = bridge
        self.group = f"{GROUP}-{folder.parent.name}-{name}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """The daemon's Unix socket."""
        return self.folder / "incus" / "unix.socket"

    @property
    def log(self) -> Path:
        """What the daemon prints."""
        return self.folder / "log"

    def start(self, prefixlen: int) -> None:
        """Start it, and wait until its socket accepts connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        groups = self._make_groups()
        join = "".join(f"echo $$ >{group}/cgroup.procs; " for group in groups)
        kinds = ("--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup")
        lower = ":".join(root_file_systems())
        argv = ["unshare", *kinds, "--fork", "--kill-child", "--propagation=private"]
        argv += ["sh", str(SCRIPT), lower, str(self.folder), self.group]
        argv += [f"{self.address}/{prefixlen}"]
        limit = f"setpriv --pdeathsig TERM timeout -k 5 {SECONDS}"
        command = f"{join}exec {limit} {shlex.join(argv)}"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        pid = self._wait_for_namespace()
        veth = f"ti-{self.folder.parent.name[-6:]}-{self.name}"
        run("ip", "link", "add", veth, "type", "veth", "peer", "name", "uplink", "netns", str(pid))
        run("ip", "link", "set", veth, "master", self.bridge, "up")
        deadline = time.monotonic() + START_SECONDS
        while not self.socket.exists():
            assert self._process.poll() is None, self.log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, self.log.read_text(errors="replace")[-2000:]
            time.sleep(0.1)

    def _wait_for_namespace(self) -> int:
        """The first process in the member's namespaces."""
        assert self._process is not None
        own = Path("/proc/self/ns/net").readlink()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for pid in descendants(self._process.pid):
                try:
                    if Path(f"/proc/{pid}/ns/net").readlink() != own:
                        return pid
                except OSError:
                    continue
            time.sleep(0.02)
        raise AssertionError(self.log.read_text(errors="replace")[-2000:])

    def _make_groups(self) -> list[Path]:
        if (CGROUPS / "cgroup.controllers").exists():
            folder = CGROUPS / self.group
            (folder / "daemon").mkdir(parents=True, exist_ok=True)
            return [folder]
        folders = []
        for hierarchy in sorted(CGROUPS.iterdir()):
            if (hierarchy / "cgroup.procs").exists():
                folder = hierarchy / self.group
                folder.mkdir(exist_ok=True)
                for name in ("cpuset.cpus", "cpuset.mems"):
                    if (folder / name).exists():
                        (folder / name).write_text((hierarchy / name).read_text())
                folders.append(folder)
        return folders

    def kill(self) -> None:
        """End the daemon and everything in its PID namespace at once, as a power failure does."""
        if self._process is None:
            return
        for pid in descendants(self._process.pid):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        self._process.kill()
        self._process.wait(20)
        self._process = None
        wait_until(self._remove_groups, 20, f"the control groups of {self.name} to be unused")

    def _remove_groups(self) -> bool:
        """Remove the member's control groups; False while a process is in one."""
        folders = [*CGROUPS.glob(f"*/{self.group}"), *CGROUPS.glob(self.group)]
        for folder in folders:
            subprocess.run(
                ["find", folder, "-depth", "-type", "d", "-delete"],
                capture_output=True,
                check=False,
            )
        return not any(folder.exists() for folder in folders)

    def exec(self, *words: str, stdin: str = "") -> str:
        """Run the client ``incus`` of the packages against this member."""
        result = subprocess.run(
            [f"{root_file_systems()[0]}/usr/bin/incus", *words],
            input=stdin,
            env={**os.environ, "INCUS_SOCKET": str(self.socket), "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, f"{words}: {result.stdout}{result.stderr}"
        return result.stdout


def descendants(pid: int) -> list[int]:
    """The processes below a process, the outermost first."""
    children = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += [int(word) for word in task.read_text().split()]
        except OSError:
            continue
    return [*children, *(grandchild for child in children for grandchild in descendants(child))]


def run(*argv: str) -> None:
    """Run a program as root."""
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{argv}: {result.stdout}{result.stderr}"


class Members:
    """Several members on one network.

    Args:
        folder: for their data; it is removed at the end.
        network: of the members' links; its first address is the host's.
    """

    def __init__(self, folder: Path, network: IPv4Network) -> None:
        self.folder = folder
        self.network = network
        self.bridge = f"ti-{folder.name[-6:]}"
        self.members: list[Member] = []

    def __enter__(self) -> Members:
        self.folder.mkdir(parents=True)
        address = f"{self.network.network_address + 1}/{self.network.prefixlen}"
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "address", "add", address, "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def start(self, name: str) -> Member:
        """Start another member."""
        address = str(self.network.network_address + 2 + len(self.members))
        member = Member(name, self.folder / name, address, self.bridge)
        self.members.append(member)
        member.start(self.network.prefixlen)
        return member

    def close(self) -> None:
        """Remove everything."""
        for member in self.members:
            member.kill()
        subprocess.run(["ip", "link", "delete", self.bridge], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def trust(member: Member, name: str, folder: Path) -> None:
    """Let a new client certificate use a member over HTTPS, as ``incus remote add`` does.

    Args:
        name: of the remote.
        folder: for the client's configuration (INCUS_CONF).
    """
    client = IncusClient(Remote("", str(member.socket)))
    if not client.get("/cluster").get("enabled"):
        client.patch("", {"config": {"core.https_address": f"{member.address}:8443"}})
    certificate, key = client_certificate()
    (folder / "servercerts").mkdir(parents=True, exist_ok=True)
    (folder / "client.crt").write_text(certificate)
    (folder / "client.key").write_text(key)
    server = client.get("")["environment"]["certificate"]
    (folder / "servercerts" / f"{name}.crt").write_text(server)
    address = f"https://{member.address}:8443"
    remotes = {name: {"addr": address, "protocol": "incus", "project": "default"}}
    (folder / "config.yml").write_text(yaml.safe_dump({"remotes": remotes}))
    der = "".join(certificate.splitlines()[1:-1])
    client.post("/certificates", {"type": "client", "name": "tests", "certificate": der})


def client_certificate() -> tuple[str, str]:
    """A self-signed certificate and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1)
    )
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = builder.add_extension(usage, critical=False).sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM).decode(), private.decode()


def form_cluster(first: Member, others: Sequence[Member]) -> None:
    """Make the first member, which has its storage pool, the cluster that the others join."""
    client = IncusClient(Remote("", str(first.socket)))
    client.patch("", {"config": {"core.https_address": f"{first.address}:8443"}})
    client.put("/cluster", {"server_name": first.name, "enabled": True})
    client.patch("", {"config": {"cluster.offline_threshold": "11"}})
    for other in others:
        token = first.exec("cluster", "add", other.name, "--quiet").strip().splitlines()[-1]
        cluster = {
            "enabled": True,
            "server_name": other.name,
            "server_address": f"{other.address}:8443",
            "cluster_token": token,
        }
        other.exec("admin", "init", "--preseed", stdin=yaml.safe_dump({"cluster": cluster}))
