"""Failures of lab.up: each has one clear message, and the next lab.up repairs the lab."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision import registry, topology
from provision.core.lab import ROOT, Lab
from provision.core.state import State, lab_names
from provision.providers.image_recipe import load_recipe
from provision.providers.lxc import images, paths
from tests.live.conftest import RunningCommand, RunningLab, wait_until

pytestmark = pytest.mark.live

ROOT_WORDS = [] if os.geteuid() == 0 else ["sudo", "-n"]
NewLab = Callable[..., RunningLab]


def checks_pass(lab: RunningLab) -> None:
    """The lab is up, all its checks pass, and nothing is left to change."""
    lab.up()
    lab.invoke("lab.check")
    assert lab.invoke("lab.plan", "--detailed-exitcode").returncode == 0


# --- the host ------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder that every user of this host can reach."""
    folder = Path(tempfile.mkdtemp(prefix="lab-test-"))
    folder.chmod(0o755)
    yield folder
    subprocess.run([*ROOT_WORDS, "rm", "-rf", str(folder)], check=True)


def programs_without(folder: Path, name: str) -> Path:
    """A folder with links to this host's programs, except one."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    for place in ("/usr/bin", "/bin"):
        for program in Path(place).iterdir():
            link = bin_folder / program.name
            if program.name != name and not link.exists() and not link.is_symlink():
                link.symlink_to(program)
    return bin_folder


@pytest.mark.parametrize("script", ["up", "test"])
@pytest.mark.parametrize("sudo", ["absent", "refuses"])
def test_neither_root_nor_sudo(elsewhere: Path, script: str, sudo: str) -> None:
    for folder in ("scripts", "provision"):
        shutil.copytree(
            ROOT / folder,
            elsewhere / "checkout" / folder,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    path = programs_without(elsewhere, "sudo")
    if sudo == "refuses":
        (path / "sudo").write_text("#!/bin/sh\nexit 1\n")
        (path / "sudo").chmod(0o755)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    command += ["env", "-i", f"PATH={path}", f"HOME={elsewhere}", "LAB_PROVIDER=lxc"]
    result = subprocess.run(
        [*ROOT_WORDS, *command, str(elsewhere / "checkout" / "scripts" / script)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )
    assert result.returncode == 1
    why = "sudo is not installed" if sudo == "absent" else "sudo refuses access"
    assert result.stderr.splitlines()[0].startswith("error: creating machines requires root")
    assert why in result.stderr
    assert "next: run this as root, or: su -c '" in result.stderr


def test_not_enough_disk(other_lab: NewLab) -> None:
    lab = other_lab("disk", LAB_MIN_FREE_MIB="999999999")
    result = lab.invoke("lab.up", check=False)
    assert result.returncode == 1
    assert re.search(r"\d+ MiB are free in \S+, and a lab needs \d+", result.stderr)
    assert "fix: invoke lab.prune" in result.stderr
    assert "creating the container" not in result.stderr


def test_the_subnet_is_in_use_on_the_host(other_lab: NewLab) -> None:
    lab = other_lab("subnet")
    place = IPv4Network(FREE)
    bridge = "t-in-use"
    ip = [*ROOT_WORDS, "ip"]
    subprocess.run([*ip, "link", "add", "name", bridge, "type", "bridge"], check=True)
    try:
        address = f"{place.network_address + 1}/{place.prefixlen}"
        subprocess.run([*ip, "address", "add", address, "dev", bridge], check=True)
        subprocess.run([*ip, "link", "set", bridge, "up"], check=True)
        result = lab.invoke("lab.up", "--network", str(place), check=False)
        assert result.returncode == 1
        assert f"the network {place} is already in use on this host" in result.stderr
        assert bridge in result.stderr
        assert re.search(r"fix: --network \d+\.\d+\.\d+\.0/24", result.stderr)
        assert "creating the container" not in result.stderr
    finally:
        subprocess.run([*ip, "link", "delete", bridge], check=True)


FREE = "10.254.253.0/24"


def test_a_package_source_that_does_not_answer_the_image(
    other_lab: NewLab, elsewhere: Path
) -> None:
    lab = other_lab("mirror", LAB_MIRROR="http://127.0.0.1:9/debian", LAB_CACHE=str(elsewhere))
    result = lab.invoke("lab.up", check=False, timeout=120)
    assert result.returncode == 1
    expected = "the package source http://127.0.0.1:9/debian does not respond"
    assert expected in result.stderr
    assert "next: " in result.stderr


def test_a_package_source_that_does_not_answer_a_machine(
    repaired: RunningLab, elsewhere: Path
) -> None:
    sources = "/etc/apt/sources.list.d/debian.sources"
    repaired.out("lb-01", "sh", "-c", f"cp {sources} /root/kept; rm -rf /var/lib/apt/lists/*")
    repaired.out("lb-01", "sed", "-i", "s,^URIs:.*,URIs: http://127.0.0.1:9/debian,", sources)
    repaired.out("lb-01", "apt-get", "-qy", "purge", "haproxy")
    no_pool = {"LAB_POOL": str(elsewhere), "LAB_OFFLINE": "1"}
    try:
        started = time.monotonic()
        result = repaired.invoke("lab.up", check=False, env=no_pool)
        assert result.returncode == 1
        assert "lb-01: packages failed at step 'change'" in result.stderr
        assert "package source http://127.0.0.1:9 is unreachable" in result.stderr
        assert time.monotonic() - started < 90
        repaired.invoke("lab.up")  # through the pool, although its own source is dead
        assert "haproxy" in repaired.out("lb-01", "dpkg-query", "-W", "haproxy")
    finally:
        repaired.out("lb-01", "cp", "/root/kept", sources)
    checks_pass(repaired)


# --- lab.up is interrupted or killed -------------------------------------------------------------

STAGES = (
    "creating the container",
    "starting",
    "waiting for sshd",
    "reading its state",
    "configuring haproxy",
    "configuring mysql",
    "start mysql.service",
    "configuring mysql-replication",
    "configuring mysql-accounts",
    "configuring release",
    "configuring app",
    "configuring nginx",
)
"""Progress messages of a first lab.up, in approximate order."""

MINIMUM_STAGES = 6
"""Stages at which a run must at least be killed. What a killed run started may be complete before
the next run checks it, so some stages do not occur again.
"""


@pytest.mark.parametrize("way", ["SIGINT", "SIGKILL"])
def test_killed_at_every_stage(other_lab: NewLab, way: str) -> None:
    """Each run is killed at its first stage without a kill so far, until a run completes."""
    lab = other_lab(f"k-{way[-3:].lower()}")
    hit: list[str] = []
    while True:
        run = lab.start("lab.up")
        stage = next_stage(run, hit)
        if not stage:
            break
        hit.append(stage)
        if way == "SIGINT":
            run.signal(signal.SIGINT, group=True)
            assert run.wait() == 130, run.output
            assert "error: interrupted; run the same command again to continue" in run.output
        else:
            run.signal(signal.SIGKILL)
            run.wait()
    assert run.wait() == 0, run.output
    assert len(hit) >= MINIMUM_STAGES, hit
    checks_pass(lab)


def next_stage(run: RunningCommand, hit: list[str]) -> str:
    """Wait for a stage that is not in `hit`; empty if the command ends first."""
    while True:
        ended = run.process.poll() is not None
        for line in list(run.lines):
            for stage in STAGES:
                if stage not in hit and line.endswith(f" {stage}"):
                    return stage
        if ended:
            return ""
        time.sleep(0.002)


@pytest.mark.parametrize("way", ["SIGINT", "SIGKILL"])
def test_killed_while_a_layer_is_built(other_lab: NewLab, elsewhere: Path, way: str) -> None:
    """With a separate cache that has all of this host's images except the smallest layer."""
    read = topology.load(topology.find("distributed", ROOT))
    context = registry.context(Lab("any", ROOT, read), State(primary=read.primary))
    recipe = load_recipe()
    wanted = images.layer_key(recipe, context.packages(context.lab.machine("lb-01")))
    cache = elsewhere / "cache"
    for kind in ("images", "layers"):
        (cache / kind).mkdir(parents=True)
        for image in (paths.cache() / kind).glob("[!.]*"):
            if image.name != wanted:
                copy = ["cp", "-al", str(image), str(cache / kind)]
                if subprocess.run([*ROOT_WORDS, *copy], check=False).returncode:
                    pytest.skip(f"{cache} is on another file system than the images")
    lab = other_lab(f"b-{way[-3:].lower()}", LAB_CACHE=str(cache))
    run = lab.start("lab.up")
    run.wait_for_output(" for lb-01")
    run.signal(getattr(signal, way), group=way == "SIGINT")
    status = run.wait()
    assert status == (130 if way == "SIGINT" else -signal.SIGKILL), run.output
    checks_pass(lab)
    lab.destroy()


def test_packages_over_ssh_survive_a_killed_controller(other_lab: NewLab) -> None:
    """Without layers, as on virtual machines: the first run is killed while apt installs."""
    lab = other_lab("plain", LAB_LAYERS="0", LAB_TOPOLOGY="simple")
    run = lab.start("lab.up")
    run.wait_for_output("installing ")
    run.signal(signal.SIGKILL)
    run.wait()
    again = lab.start("lab.up")
    assert again.wait(400) == 0, again.output
    lab.invoke("lab.check")


@pytest.fixture
def slow_reload(repaired: RunningLab) -> Iterator[RunningLab]:
    """A lab whose HAProxy reloads slowly, and whose configuration was changed.

    The drop-in is named like those of LXC, which are no drift.
    """
    folder = "/run/systemd/system/haproxy.service.d"
    unit = "[Service]\nExecReload=\nExecReload=/bin/sleep 8\n"
    script = f"mkdir -p {folder}; cat > {folder}/zzz-lxc-slow.conf; systemctl daemon-reload"
    repaired.out("lb-01", "sh", "-c", script, input=unit)
    repaired.out("lb-01", "sh", "-c", "echo '# by hand' >> /etc/haproxy/haproxy.cfg")
    maintenance = "echo 'set server web/web-02 state maint' | socat - /run/haproxy/admin.sock"
    repaired.out("lb-01", "sh", "-c", maintenance)
    yield repaired
    repaired.out("lb-01", "sh", "-c", f"rm {folder}/zzz-lxc-slow.conf; systemctl daemon-reload")


def test_ctrl_c_ends_the_step_and_begins_no_other(slow_reload: RunningLab) -> None:
    run = slow_reload.start("lab.up")
    run.wait_for_output("reload haproxy.service")
    run.signal(signal.SIGINT)
    assert run.wait() == 130
    assert "finishing its step, then stopping" in run.output
    assert "configuring haproxy-servers" not in run.output
    assert "by hand" not in slow_reload.out("lb-01", "cat", "/etc/haproxy/haproxy.cfg")
    output = slow_reload.invoke("lab.plan").stdout
    assert "configuration not loaded" not in output
    assert "web-02: maint → weight 1" in output


def test_a_second_ctrl_c_ends_at_once(slow_reload: RunningLab) -> None:
    run = slow_reload.start("lab.up")
    run.wait_for_output("reload haproxy.service")
    run.signal(signal.SIGINT)
    run.wait_for_output("finishing its step")
    run.signal(signal.SIGINT)
    started = time.monotonic()
    assert run.wait() == 130
    assert time.monotonic() - started < 5


# --- a machine is killed -------------------------------------------------------------------------


def kill_machine_during(lab: RunningLab, machine: str, words: str) -> None:
    """Kill a machine when lab.up prints `words`: a clear error in bounded time, then repair."""
    run = lab.start("lab.up")
    run.wait_for_output(words)
    session = lab.session()
    session.provider.kill(session.lab, machine)
    started = time.monotonic()
    assert run.wait(120) == 1, run.output
    assert time.monotonic() - started < 60
    # A dying systemd may have answered that its last job failed.
    pattern = (
        rf"^(error: )?{machine}: (the machine stopped responding|\w+ failed at step 'activate')"
    )
    assert re.search(pattern, run.output, re.M), run.output
    assert f"next: invoke lab.status --lab {lab.name}" in run.output or "next: fix" in run.output
    checks_pass(lab)


def test_a_machine_is_killed_while_packages_are_installed(repaired: RunningLab) -> None:
    repaired.out("lb-01", "apt-get", "-qy", "purge", "haproxy")
    kill_machine_during(repaired, "lb-01", "installing 1 packages")


def test_a_machine_is_killed_while_mysql_is_configured(repaired: RunningLab) -> None:
    repaired.out("web-02", "sh", "-c", "echo '# by hand' >> /etc/mysql/mysql.conf.d/zz-lab.cnf")
    kill_machine_during(repaired, "web-02", "restart mysql.service")


def test_the_machine_of_the_primary_is_killed_while_mysql_is_configured(
    repaired: RunningLab,
) -> None:
    repaired.out("web-01", "sh", "-c", "echo '# by hand' >> /etc/mysql/mysql.conf.d/zz-lab.cnf")
    kill_machine_during(repaired, "web-01", "restart mysql.service")


# --- more than one, and not the right one --------------------------------------------------------


def test_two_runs_at_once_on_one_lab(lab: RunningLab) -> None:
    first = lab.start("lab.up")
    try:
        first.wait_for_output("reading its state")
        first.signal(signal.SIGSTOP)
        started = time.monotonic()
        second = lab.invoke("lab.up", check=False)
        assert time.monotonic() - started < 10
        assert second.returncode == 1
        assert f"lab {lab.name} is in use by another command: invoke lab.up" in second.stderr
        assert f"(pid {first.process.pid})" in second.stderr
        assert f"end it: kill {first.process.pid}" in second.stderr
        for read_only in ("lab.status", "lab.check", "lab.plan"):
            lab.invoke(read_only)
    finally:
        first.signal(signal.SIGCONT)
    assert first.wait() == 0, first.output


def test_a_changed_host_key_is_refused(lab: RunningLab) -> None:
    config = str(lab.session().lab.directory / "ssh_config")
    trusting = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]

    def by_hand(script: str) -> None:
        argv = ["ssh", "-F", config, *trusting, "web-02", f"sudo sh -c '{script}'"]
        subprocess.run(argv, check=True, timeout=30)

    key = "/etc/ssh/ssh_host_ed25519_key"
    new_key = f'rm -f /tmp/k /tmp/k.pub; ssh-keygen -q -t ed25519 -N "" -f /tmp/k; mv /tmp/k {key}'
    by_hand(f"cp -p {key} /root/kept; {new_key}; systemctl restart ssh")
    try:
        result = lab.invoke("lab.up", check=False)
        assert result.returncode == 1
        assert "web-02: the machine at" in result.stderr
        assert "presents another host key" in result.stderr
        assert result.stderr.count("ssh-ed25519 SHA256:") == 2
        assert "lb-01: the machine" not in result.stderr
        plain = subprocess.run(
            ["ssh", "-F", config, "web-02", "true"], capture_output=True, timeout=30, check=False
        )
        assert plain.returncode == 255
        failed = lab.invoke("lab.check", check=False)
        assert "FAIL  machine/web-02" in failed.stdout
    finally:
        by_hand(f"cp -p /root/kept {key}; systemctl restart ssh")
    wait_until(lambda: lab.invoke("lab.plan", check=False).returncode == 0, "web-02 is itself")


@pytest.mark.parametrize(
    ("words", "status", "output"),
    [
        (["lab.ssh", "web-09"], 2, "unknown machine 'web-09' in lab"),
        (["lab.logs", "web-09"], 2, "choose from lb-01, web-01, web-02"),
        (["lab.halt", "web-09"], 2, "unknown machine 'web-09' in lab"),
        (["lab.kill", "web-09"], 2, "unknown machine 'web-09' in lab"),
        (["lab.start", "web-09"], 2, "unknown machine 'web-09' in lab"),
        (["lb.drain", "lb-01"], 2, "the balancer has no server 'lb-01'"),
        (["lab.logs", "lb-01", "--lines", "many"], 2, "invalid --lines 'many'"),
        (["lab.check", "--only", "nothing"], 2, "no check has 'nothing' in its name"),
        (["lab.up", "--topology", "nothing"], 2, "unknown topology 'nothing'"),
        (["lab.up", "--network", "10.1.2.0/24"], 2, "its machines cannot move to 10.1.2.0/24"),
        (["lab.up", "--network", "nonsense"], 2, "--network"),
        (["lab.up", "--provider", "nonsense"], 2, "nonsense"),
        (["lab.nonsense"], 2, "unknown task 'lab.nonsense'"),
        (["lab.up", "--nonsense"], 2, "lab.up has no option --nonsense"),
        (["lab.ssh"], 2, "lab.ssh: MACHINE is missing"),
        (["lab.destroy"], 2, "pass --yes to confirm"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_arguments(lab: RunningLab, words: list[str], status: int, output: str) -> None:
    result = lab.invoke(*words, check=False)
    assert output in result.stdout + result.stderr
    assert result.returncode == status, result.stdout + result.stderr


@pytest.mark.parametrize(
    "task", ["lab.plan", "lab.check", "lab.status", "lab.halt", "lab.logs lb-01", "lb.status"]
)
def test_a_lab_that_was_never_up(task: str) -> None:
    result = RunningLab("never-up").invoke(*task.split(), check=False)
    assert result.returncode == 2
    assert "error: there is no lab never-up yet" in result.stderr
    assert "next: invoke lab.up --lab never-up" in result.stderr
    assert "never-up" not in lab_names()


def test_an_invalid_lab_name_is_refused() -> None:
    result = RunningLab("../evil").invoke("lab.up", check=False)
    assert result.returncode == 2
    assert "invalid lab name '../evil'" in result.stderr


def test_secrets_are_private_to_the_owner(lab: RunningLab) -> None:
    folder = lab.session().lab.directory / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.rglob("*"):
        open_to_others = stat.S_IMODE(path.stat().st_mode) & 0o077
        assert path.is_dir() or path.suffix == ".pub" or not open_to_others, path


def test_machines_of_a_deleted_record_are_named_and_can_be_removed(
    other_lab: NewLab,
) -> None:
    """As after a checkout was deleted and cloned again."""
    lab = other_lab("deleted")
    lab.up("--topology", "simple")
    directory = ROOT / ".lab" / lab.name
    shutil.rmtree(directory)
    refused = lab.invoke("lab.up", check=False)
    assert refused.returncode == 2
    assert "web-01 of an earlier one in this folder still exist" in refused.stderr
    assert f"invoke lab.destroy --lab {lab.name} --yes" in refused.stderr
    assert not (directory / "state.json").exists()
    lab.invoke("lab.destroy", "--yes")
    again = lab.invoke("lab.destroy", "--yes")
    assert "nothing to do" in again.stdout
