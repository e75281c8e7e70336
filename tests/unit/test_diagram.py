"""Diagrams of labs: content, layout without overlaps, SVG and PNG."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Network
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image, ImageColor

from provision import topology
from provision.checks.balancer import address_probe
from provision.checks.observation import Observation
from provision.commands.diagram import _picture as picture_of
from provision.core.errors import LabError
from provision.core.lab import ROOT
from provision.database.agent.server_status import ServerStatus
from provision.engine.agent.process import ProcessResult
from provision.engine.agent.protocol import ProbeResponse, Results
from provision.engine.agent.services import ServiceState, service_probe
from provision.engine.context import Context
from provision.engine.resources.files import File
from provision.teaching.diagram import (
    Diagram,
    Layer,
    MachineBox,
    ProgramState,
    diagram,
    planned_diagram,
)
from provision.teaching.drawing import Arrow, Drawing, Rectangle, Words
from provision.teaching.drawing.layout import COLORS, drawing
from provision.teaching.drawing.png import png
from provision.teaching.drawing.svg import svg
from provision.topology import labs, networks
from tests.unit import samples

INVOKE = str(Path(sys.executable).with_name("invoke"))


def healthy(context: Context) -> Observation:
    """All machines and services are up; the first machine holds the virtual address."""
    lab = context.lab
    results = {}
    for machine in lab.machines:
        values: dict[str, Any] = {
            service_probe(name).name: ServiceState("active", "enabled")
            for name in context.services(machine)
        }
        if machine == lab.machines[0]:
            line = f" {lab.topology.virtual_address}/24"
            values[address_probe(context).name] = ProcessResult(0, line, "")
        results[machine.name] = Results.of(machine.name, values)
    return Observation({m.name: "running" for m in lab.machines}, results)


def broken(name: str = "scaled") -> Diagram:
    """One machine is off, one has a failed service."""
    context = samples.context(name)
    observed = healthy(context)
    first, second = context.lab.machines[:2]
    service = service_probe(context.services(first)[0]).name
    failed = {
        **observed.results[first.name].responses,
        service: ProbeResponse(ServiceState("failed", "enabled")),
    }
    results = {**observed.results, first.name: Results(first.name, failed)}
    del results[second.name]
    states = {**observed.states, second.name: "halted"}
    return diagram(context, replace(observed, states=states, results=results))


def boxes(picture: Diagram) -> dict[str, MachineBox]:
    return {box.name: box for layer in picture.layers for box in layer.boxes}


def three() -> Diagram:
    """Cases that no topology has: a distant replica, long names, a machine without a tier."""
    long = ProgramState("prometheus-mysqld-exporter", "activating")
    webs = tuple(
        MachineBox(f"web-{n:02}", f"192.168.156.{100 + n}", "running", (long,), "primary, holds it")
        for n in range(3)
    )
    lone = Layer("", "others", (MachineBox("monitor", "192.168.156.200", "halted", ()),))
    return Diagram(
        "Lab a-very-long-name: three, on 192.168.156.0/24",
        "www.foobar.com = 192.168.156.10",
        (Layer("nginx", "web server", webs, "HTTPS, verified"), lone),
        (("web-00", "web-01"), ("web-00", "web-02"), ("web-02", "monitor"), ("web-00", "gone")),
    )


PICTURES = {
    **{f"{name}, healthy": diagram(samples.context(name), healthy(samples.context(name)))
       for name in topology.names()},
    **{f"{name}, planned": planned_diagram(samples.context(name)) for name in topology.names()},
    "distributed, broken": broken("distributed"),
    "scaled, broken": broken(),
    "scaled, second is primary": diagram(
        samples.context("scaled", primary="db-02"), healthy(samples.context("scaled"))
    ),
    "three": three(),
}  # fmt: skip
each = pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES.keys())


# --- content -------------------------------------------------------------------------------------


def test_the_color_shows_the_state() -> None:
    shown = boxes(broken())
    assert (shown["lb-01"].color, shown["lb-02"].color) == ("orange", "red")
    assert {box.color for name, box in shown.items() if name not in ("lb-01", "lb-02")} == {"green"}
    assert any(program.bad for program in shown["lb-01"].programs)
    assert "holds 192.168.56.100" in shown["lb-01"].note


def test_a_planned_topology() -> None:
    picture = planned_diagram(samples.context("scaled"))
    assert {box.color for box in boxes(picture).values()} == {"grey"}
    assert picture.title == "Topology scaled, on 192.168.56.0/24"
    assert picture.replication == (("db-01", "db-02"),)
    assert boxes(picture)["db-01"].note == "primary"


def test_connections_match_the_configuration() -> None:
    connections = {
        layer.role: layer.connection for layer in planned_diagram(samples.context("scaled")).layers
    }
    assert connections == {
        "haproxy": "HTTPS, port 443",
        "nginx": "HTTPS, verified",
        "app": "HTTPS to gunicorn",
        "mysql": "MySQL over TLS, port 3306",
    }
    context = samples.context("scaled")
    site = context.lab.machine("web-01")
    files = [r for u in context.desired(site) for r in u.resources if isinstance(r, File)]
    assert any("proxy_pass https://app" in str(file.content) for file in files)
    plain = planned_diagram(samples.context("distributed")).layers
    assert {layer.connection for layer in plain} == {"HTTP, port 80"}


def test_replication_needs_two_databases_that_run() -> None:
    context = samples.context("distributed")
    observed = healthy(context)
    assert diagram(context, observed).replication == (("web-01", "web-02"),)
    for name in ("web-01", "web-02"):
        halted = replace(observed, states={**observed.states, name: "halted"})
        assert diagram(context, halted).replication == ()
        stopped = {
            **observed.results[name].responses,
            service_probe("mysql.service").name: ProbeResponse(ServiceState("failed", "enabled")),
        }
        results = {**observed.results, name: Results(name, stopped)}
        assert diagram(context, replace(observed, results=results)).replication == ()


def test_a_read_only_primary_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    context = samples.context("distributed")
    for writable, note in ((True, "primary"), (False, "primary, read-only")):
        status = ServerStatus(up=True, writable=writable)
        monkeypatch.setattr("provision.teaching.diagram.server_status", lambda *_, s=status: s)
        shown = boxes(diagram(context, healthy(context)))
        assert shown["web-01"].note == note
        assert shown["web-02"].note == "replica"


def test_exporters_and_ssh_are_shown_on_request_or_when_they_fail() -> None:
    context = samples.context("secured")
    observed = healthy(context)

    def names(picture: Diagram) -> set[str]:
        return {p.name for box in boxes(picture).values() for p in box.programs}

    few, many = (
        names(diagram(context, observed)),
        names(diagram(context, observed, everything=True)),
    )
    assert few == {"HAProxy", "Nginx", "gunicorn, Flask", "MySQL"}
    assert {"ssh", "prometheus-node-exporter"} <= many - few
    failed = {
        **observed.results["web-01"].responses,
        service_probe("ssh.service").name: ProbeResponse(ServiceState("failed", "enabled")),
    }
    results = {**observed.results, "web-01": Results("web-01", failed)}
    assert "ssh" in names(diagram(context, replace(observed, results=results)))


# --- layout --------------------------------------------------------------------------------------


def frames(shapes: Drawing) -> list[Rectangle]:
    """The boxes of machines and of clients, without what is inside."""
    strong = {COLORS[name][0] for name in COLORS}
    return [
        s
        for s in shapes.shapes
        if isinstance(s, Rectangle) and s.width > 20 and (s.fill in strong or s.border)
    ]


def left(words: Words) -> float:
    return words.x if words.left else 2 * words.x - words.right


def inside(point: tuple[float, float], frame: Rectangle) -> bool:
    x, y = point
    return frame.x < x < frame.right and frame.y < y < frame.y + frame.height


@each
def test_everything_is_inside_the_canvas(picture: Diagram) -> None:
    shapes = drawing(picture)
    for shape in shapes.shapes:
        assert shape.right <= shapes.width
        if isinstance(shape, Words):
            assert left(shape) >= 0
            assert shape.size < shape.y < shapes.height
        elif isinstance(shape, Arrow):
            assert all(x > 0 and 0 < y < shapes.height for x, y in shape.points)
        else:
            assert shape.x > 0
            assert shape.y + shape.height < shapes.height


@each
def test_a_drawing_fills_a_slide_and_has_titles_in_title_case(picture: Diagram) -> None:
    shapes = drawing(picture)
    assert shapes.width * 9 == shapes.height * 16  # 1920 pixels are 1080 high
    assert picture.title[0].isupper()
    texts = {s.text for s in shapes.shapes if isinstance(s, Words)}
    assert {layer.title.title() for layer in picture.layers} | {"Clients"} <= texts


@each
def test_boxes_do_not_overlap(picture: Diagram) -> None:
    rectangles = frames(drawing(picture))
    assert len(rectangles) == 1 + len(boxes(picture))
    for one, other in combinations(rectangles, 2):
        beside = one.right < other.x or other.right < one.x
        below = one.y + one.height < other.y or other.y + other.height < one.y
        assert beside or below


@each
def test_texts_do_not_overlap_and_stay_in_their_box(picture: Diagram) -> None:
    shapes = drawing(picture)
    texts = [s for s in shapes.shapes if isinstance(s, Words)]
    for one, other in combinations(texts, 2):
        beside = one.right <= left(other) or other.right <= left(one)
        assert beside or abs(one.y - other.y) >= 15, (one.text, other.text)
    for words in texts:
        for frame in frames(shapes):
            if inside((words.x, words.y), frame):
                assert left(words) > frame.x
                assert words.right < frame.right


@each
def test_arrows_cross_neither_boxes_nor_words(picture: Diagram) -> None:
    shapes = drawing(picture)
    rectangles = frames(shapes)
    texts = [s for s in shapes.shapes if isinstance(s, Words)]
    ends: Counter[tuple[float, float]] = Counter()
    for arrow in (s for s in shapes.shapes if isinstance(s, Arrow)):
        ends.update([arrow.points[0], arrow.points[-1]])
        for (x1, y1), (x2, y2) in pairwise(arrow.points):
            for part in range(101):
                point = x1 + (x2 - x1) * part / 100, y1 + (y2 - y1) * part / 100
                assert not any(inside(point, frame) for frame in rectangles)
                for words in texts:
                    over = left(words) < point[0] < words.right
                    assert not (over and words.y - words.size * 0.8 < point[1] < words.y)
    assert set(ends.values()) == {1}, "arrows that meet in one point"


# --- files ---------------------------------------------------------------------------------------


@each
def test_svg_is_well_formed_and_has_every_text(picture: Diagram) -> None:
    shapes = drawing(picture)
    top = ElementTree.fromstring(svg(shapes))
    space = "{http://www.w3.org/2000/svg}"
    written = [e.text for e in top.iter(f"{space}text")]
    assert written == [s.text for s in shapes.shapes if isinstance(s, Words)]
    for box in boxes(picture).values():
        assert {box.name, f"{box.address} · {box.state}"} <= set(written)
    heads = {e.get("id") for e in top.iter(f"{space}marker")}
    lines = list(top.iter(f"{space}polyline"))
    assert len(lines) == sum(isinstance(s, Arrow) for s in shapes.shapes)
    for line in lines:
        assert line.get("marker-end", "").removeprefix("url(#").removesuffix(")") in heads


GOLDEN = ROOT / "tests" / "golden" / "diagrams"


@each
def test_golden_drawings(picture: Diagram, request: pytest.FixtureRequest) -> None:
    """REGENERATE=1 writes the files."""
    name = request.node.callspec.id.replace(", ", "-").replace(" ", "-")
    file = GOLDEN / f"{name}.svg"
    if os.environ.get("REGENERATE"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(svg(drawing(picture)), encoding="utf-8")
    assert svg(drawing(picture)) == file.read_text(encoding="utf-8")


def opened(picture: Diagram, width: int = 1280) -> Image.Image:
    content = png(drawing(picture), width)
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    image = Image.open(io.BytesIO(content))
    image.load()
    assert image.format == "PNG"
    return image


def colors(image: Image.Image) -> dict[object, int]:
    """Number of pixels by color."""
    return {color: count for count, color in image.getcolors(image.width * image.height) or []}


def test_a_png_has_the_requested_size() -> None:
    shapes = drawing(broken())
    for width in (640, 1920):
        image = opened(broken(), width)
        assert image.width == width
        assert image.height == pytest.approx(width * shapes.height / shapes.width, abs=1)


def test_a_png_shows_the_states() -> None:
    counts = colors(opened(broken()))
    for name in ("green", "orange", "red"):
        strong, pale, _ = COLORS[name]
        assert counts[ImageColor.getrgb(strong)] > 1000, name
        assert counts[ImageColor.getrgb(pale)] > 1000, name
    assert ImageColor.getrgb(COLORS["grey"][0]) not in counts
    planned = colors(opened(planned_diagram(samples.context("simple"))))
    assert planned[ImageColor.getrgb(COLORS["grey"][0])] > 1000
    assert not {ImageColor.getrgb(COLORS[n][0]) for n in ("green", "orange", "red")} & set(planned)


def test_a_png_has_letters_arrows_and_margins() -> None:
    shapes = drawing(broken())
    image = opened(broken(), 2 * shapes.width)
    white = ImageColor.getrgb("#ffffff")
    for shape in shapes.shapes:
        if isinstance(shape, Words):
            place = (left(shape), shape.y - shape.size, shape.right, shape.y)
            letters = image.crop(tuple(round(2 * n) for n in place))  # type: ignore[arg-type]
            wanted = ImageColor.getrgb(shape.color)
            assert colors(letters).get(wanted, 0) > len(shape.text), shape.text
        elif isinstance(shape, Arrow):
            (x1, y1), (x2, y2) = shape.points[0], shape.points[-1]
            for part in (0.01, 0.99):  # its start and its head
                point = [round(2 * (a + (b - a) * part)) for a, b in ((x1, x2), (y1, y2))]
                near = image.crop((point[0] - 2, point[1] - 2, point[0] + 3, point[1] + 3))
                assert ImageColor.getrgb(shape.color) in colors(near)
    edge = [image.getpixel((x, y)) for x in range(image.width) for y in (0, image.height - 1)]
    assert set(edge) == {white}


# --- the task ------------------------------------------------------------------------------------


def run(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run lab.diagram for a lab that was never up."""
    return subprocess.run(
        [INVOKE, "lab.diagram", "--lab", "t-never-up", *words],
        cwd=ROOT, text=True, capture_output=True, check=False,
    )  # fmt: skip


def test_a_lab_that_was_never_up_is_drawn_as_its_topology(tmp_path: Path) -> None:
    result = run(tmp_path, "--json")
    assert result.returncode == 0, result.stderr
    assert "lab t-never-up does not exist yet; this is its topology" in result.stderr
    picture = json.loads(result.stdout)["data"]
    assert picture["title"].startswith("Topology distributed, on ")
    assert {box["color"] for layer in picture["layers"] for box in layer["boxes"]} == {"grey"}
    result = run(tmp_path, "--topology", "scaled")
    assert (result.returncode, result.stderr) == (0, "")
    assert "app-02" in result.stdout
    arrows = {line.index("▼") for line in result.stdout.splitlines() if line.strip() == "▼"}
    assert len(arrows) == 1, "all arrows are in the middle"


def test_both_files_in_one_run(tmp_path: Path) -> None:
    vector, pixels = tmp_path / "a.svg", tmp_path / "a.PNG"
    result = run(tmp_path, "--svg", str(vector), "--png", str(pixels), "--width", "800")
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert ElementTree.parse(vector).getroot().tag.endswith("svg")
    with Image.open(pixels) as image:
        assert image.width == 800


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (
            ["--png", "a.jpg"],
            2,
            "--png a.jpg: the file name must end in .png\nnext: --png a.png",
        ),
        (["--svg", "a.png"], 2, "--svg a.png: the file name must end in .svg"),
        (["--png", "lab"], 2, "next: --png lab.png"),
        (["--png", "/nowhere/a.png"], 1, "/nowhere/a.png cannot be written: No such file"),
        (["--width", "800"], 2, "--width applies to --png only"),
        (["--png", "a.png", "--width", "9"], 2, "a number from 320 to 4096"),
        (["--png", "a.png", "--width", "wide"], 2, "invalid --width 'wide'"),
    ],
)
def test_invalid_options(tmp_path: Path, words: list[str], status: int, message: str) -> None:
    result = run(tmp_path, *words)
    assert result.returncode == status
    assert message in result.stderr
    assert result.stderr.count("error:") == 1
    assert not (ROOT / "a.png").exists()


def test_other_tasks_do_not_import_pillow() -> None:
    code = "import sys; sys.argv[1:] = ['--list']; import tasks; print('PIL' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_a_lab_that_was_never_up_needs_no_free_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "POOL", IPv4Network("192.168.56.0/24"))
    with pytest.raises(LabError, match="is free for another lab"):
        labs.open_lab("never-up")
    picture = picture_of("never-up", "")
    assert picture.layers[0].boxes[0].address == "192.168.56.10"
