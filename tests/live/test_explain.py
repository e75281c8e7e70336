"""Explain texts have the lab's values and existing commands; diagrams show its state."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from provision.checks.observe import observe
from provision.teaching.explain import TOPICS, commands, text
from tasks import namespace
from tests.live.conftest import RunningLab, wait_until

pytestmark = pytest.mark.live


def test_every_text_ends_with_commands_that_exist(lab: RunningLab) -> None:
    session = lab.session()
    with lab.fleet() as fleet:
        seen = observe(
            session.context, fleet, session.provider.state(session.lab), with_requests=False
        )
    living = [
        str(session.lab.address),
        str(session.lab.network),
        *(m.name for m in session.lab.machines),
    ]
    for topic in TOPICS:
        written = text(session.context, topic, seen)
        assert written.startswith("# ")
        assert "{{" not in written
        assert "None" not in written
        listed = commands(written)
        assert listed, topic
        assert written.rstrip().endswith(listed[-1])
        for command in listed:
            assert command.split()[1] in namespace.task_names, command
            assert f"--lab {lab.name}" in command
        assert any(value in written for value in living), topic


def test_a_text_shows_the_current_state(repaired: RunningLab) -> None:
    before = repaired.invoke("lab.explain", "replication").stdout
    assert "**web-01** is the primary" in before
    assert "| web-02 | replica | no | 0 s |" in before
    repaired.invoke("lb.algorithm", "leastconn")
    assert "uses **leastconn** for" in repaired.invoke("lab.explain", "algorithm").stdout
    repaired.invoke("lb.algorithm", "roundrobin")
    repaired.invoke("db.promote", "web-02")
    try:
        after = repaired.invoke("lab.explain", "replication").stdout
        assert "**web-02** is the primary" in after
    finally:
        repaired.invoke("db.promote", "web-01")


def test_topics_are_listed(lab: RunningLab) -> None:
    output = lab.invoke("lab.explain").stdout
    assert all(topic in output for topic in TOPICS)
    result = lab.invoke("lab.explain", "nothing", check=False)
    assert result.returncode == 2
    assert "unknown topic 'nothing'" in result.stderr


def test_diagrams(repaired: RunningLab, tmp_path: Path) -> None:
    definition = repaired.session().lab
    drawn = repaired.invoke("lab.diagram").stdout
    assert all(str(m.address) in drawn and m.name in drawn for m in definition.machines)
    path = tmp_path / "lab.svg"
    repaired.invoke("lab.diagram", "--svg", str(path))
    texts = [e.text for e in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]
    for machine in definition.machines:
        assert f"{machine.address} · running" in texts
    assert {definition.site, str(definition.address)} <= set(texts)
    shot = tmp_path / "lab.png"
    repaired.invoke("lab.diagram", "--png", str(shot))
    with Image.open(shot) as image:
        assert (image.format, image.width) == ("PNG", 1920)
    repaired.invoke("lab.kill", "web-02")
    repaired.out("web-01", "systemctl", "stop", "nginx")
    picture = repaired.json("lab.diagram")
    boxes = {b["machine"]: b for layer in picture["layers"] for b in layer["boxes"]}
    assert boxes["web-02"]["state"] == "killed"
    assert {"service": "Nginx", "state": "inactive", "ok": False} in boxes["web-01"]["programs"]
    repaired.invoke("lab.start", "web-02")
    wait_until(lambda: repaired.run("web-02", "true").ok, "web-02 to accept connections")


def test_invalid_diagram_files(lab: RunningLab, tmp_path: Path) -> None:
    result = lab.invoke("lab.diagram", "--svg", str(tmp_path / "a.png"), check=False)
    assert (result.returncode, "name must end in .svg" in result.stderr) == (2, True)
    result = lab.invoke("lab.diagram", "--svg", str(tmp_path / "no" / "a.svg"), check=False)
    assert (result.returncode, "No such file" in result.stderr) == (1, True)
