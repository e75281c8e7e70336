"""The texts hold what the running lab really is, their commands exist; pictures are pictures."""

from __future__ import annotations

import json
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
    now = lab.session()
    with lab.fleet() as fleet:
        seen = observe(now.context, fleet, now.provider.state(now.lab), requests_too=False)
    living = [str(now.lab.address), str(now.lab.network), *(m.name for m in now.lab.machines)]
    for topic in TOPICS:
        written = text(now.context, topic, seen)
        assert written.startswith("# ")
        assert "{{" not in written
        assert "None" not in written
        told = commands(written)
        assert told, topic
        assert written.rstrip().endswith(told[-1])
        for command in told:
            assert command.split()[1] in namespace.task_names, command
            assert f"--lab {lab.name}" in command
        assert any(value in written for value in living), topic


def test_a_text_follows_the_lab(mended: RunningLab) -> None:
    before = mended.invoke("lab.explain", "replication").stdout
    assert "**web-01** is the primary" in before
    assert "| web-02 | replica | no | 0 s |" in before
    mended.invoke("lb.algorithm", "leastconn")
    assert "uses **leastconn** now" in mended.invoke("lab.explain", "algorithm").stdout
    mended.invoke("lb.algorithm", "roundrobin")
    mended.invoke("db.promote", "web-02")
    try:
        after = mended.invoke("lab.explain", "replication").stdout
        assert "**web-02** is the primary" in after
    finally:
        mended.invoke("db.promote", "web-01")


def test_what_there_is_to_ask(lab: RunningLab) -> None:
    said = lab.invoke("lab.explain").stdout
    assert all(topic in said for topic in TOPICS)
    done = lab.invoke("lab.explain", "nothing", check=False)
    assert done.returncode == 2
    assert "there is no text on 'nothing'" in done.stderr


def test_the_pictures(mended: RunningLab, tmp_path: Path) -> None:
    now = mended.session().lab
    drawn = mended.invoke("lab.diagram").stdout
    assert all(str(m.address) in drawn and m.name in drawn for m in now.machines)
    path = tmp_path / "lab.svg"
    mended.invoke("lab.diagram", "--svg", str(path))
    texts = [e.text for e in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]
    for machine in now.machines:
        assert f"{machine.address} · running" in texts
    assert {now.site, str(now.address)} <= set(texts)
    shot = tmp_path / "lab.png"
    mended.invoke("lab.diagram", "--png", str(shot))
    with Image.open(shot) as image:
        assert (image.format, image.width) == ("PNG", 1920)
    mended.invoke("lab.kill", "web-02")
    mended.out("web-01", "systemctl", "stop", "nginx")
    picture = json.loads(mended.invoke("lab.diagram", "--json").stdout)
    boxes = {b["name"]: b for layer in picture["layers"] for b in layer["boxes"]}
    assert boxes["web-02"]["state"] == "halted"
    assert {"name": "Nginx", "state": "inactive"} in boxes["web-01"]["programs"]
    mended.invoke("lab.start", "web-02")
    wait_until(lambda: mended.run("web-02", "true").ok, "web-02 answers")


def test_a_picture_that_cannot_be_made(lab: RunningLab, tmp_path: Path) -> None:
    done = lab.invoke("lab.diagram", "--svg", str(tmp_path / "a.png"), check=False)
    assert (done.returncode, "name ends in .svg" in done.stderr) == (2, True)
    done = lab.invoke("lab.diagram", "--svg", str(tmp_path / "no" / "a.svg"), check=False)
    assert (done.returncode, "No such file" in done.stderr) == (1, True)
