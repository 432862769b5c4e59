import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from importlib.resources import files

import pytest

from search.cli import main
from search.figures import figure
from search.report import picture, render
from search.report.names import place_names
from search.report.page import page_data
from search.report.scale import Scale
from search.verification import Verification

PI = "raspberry-pi-5/onnxruntime"

HOSTILE = '</script><script>alert(1)</script><!-- "quoted" & <img src=x onerror=alert(1)> /*DATA*/'


def embedded(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_needs_no_network(study, random_records):
    page = render(study(random_records))
    outside = [url for url in re.findall(r'(?:https?:)?//[\w.-]+\.[a-z]{2,}[^\s"\'<]*', page) if "www.w3.org" not in url]
    assert outside == []
    assert not re.search(r"<(?:link|iframe|img)\b|\bsrc=|@import|url\(", page)
    assert "default-src 'none'" in page


def test_the_page_holds_every_trial_with_recipe_and_widths(study):
    data = embedded(render(study()))
    assert [p["id"] for p in data["points"]] == [r.id for r in study().records]
    first = data["points"][0]
    assert first["widths"] == [["conv1", 16, 9], ["conv2", 32, 12]]
    assert first["recipe"].startswith("- prune:\n")
    assert {p["id"]: p["reason"] for p in data["points"]}["0005"] == "the loss was NaN at step 3"
    assert data["order"][: sum(p["onFront"] for p in data["points"])] == study().front()["id"].tolist()
    assert data["metrics"][0]["name"] == "accuracy"
    assert "latency_ms@pixel-7/onnxruntime" in first["metrics"]


def test_a_demoted_point_is_shown_with_its_reason_and_is_not_on_the_front(study):
    import dataclasses

    broken = Verification("regressed", "onnxruntime", "", {"accuracy": 0.62}, ("accuracy: promised 94.0 %, found 62.0 %",))
    results = dataclasses.replace(study(), verified={"0001": broken, "0002": Verification("kept", "onnxruntime", "", {"accuracy": 0.9})})
    points = {p["id"]: p for p in page_data(results)["points"]}
    assert points["0001"]["verification"] == {
        "verdict": "regressed",
        "reasons": list(broken.reasons),
        "runtime": "onnxruntime",
        "found": {"accuracy": 0.62},
        "demoted": True,
    }
    assert not points["0001"]["onFront"]
    assert points["0002"]["verification"]["demoted"] is False
    assert points["0000"]["verification"] is None
    assert "0001" in page_data(results)["order"]
    titles = [node.text for node in ET.fromstring(picture(results)).iter("{http://www.w3.org/2000/svg}title")]
    assert next(t for t in titles if t.startswith("0001:")).endswith("does not count: regressed")


def test_what_a_study_names_cannot_become_markup(study):
    import dataclasses

    records = [dataclasses.replace(r, reason=HOSTILE, recipe=[{HOSTILE: {"x": HOSTILE}}], widths={HOSTILE: (2, 1)}) for r in study().records]
    results = dataclasses.replace(study(), records=tuple(records))
    page = render(results)
    assert page.count("</script>") == 2
    assert "<img src=x" not in page
    assert embedded(page)["points"][0]["reason"] == HOSTILE
    assert embedded(page)["points"][0]["widths"][0][0] == HOSTILE


def test_the_page_says_what_bounds_a_point_on_each_device(study):
    import dataclasses

    kernels = [{"name": "conv2d", "module": HOSTILE, "bound": "memory", "ms": 1.25, "share": 0.7}]
    bounds = {PI: {"bound_by": {"memory": 0.7, "compute": 0.3}, "kernels": kernels}}
    records = [dataclasses.replace(r, bounds=bounds) if r.id == "0001" else r for r in study().records]
    page = render(dataclasses.replace(study(), records=tuple(records)))
    points = {p["id"]: p for p in embedded(page)["points"]}
    assert points["0001"]["bounds"] == bounds
    assert points["0002"]["bounds"] == {}, "a record of an older study has none"
    assert "<img src=x" not in page


def test_a_page_before_any_trial_has_ended(study):
    assert embedded(render(study([])))["points"] == []


def test_the_picture_is_svg_with_a_mark_for_every_point(study):
    results = study()
    root = ET.fromstring(picture(results))
    titles = [node.text for node in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 1 + len(results.front(baselines=True))
    assert any(t.startswith("0001: 94.0 %") for t in titles)


def test_report_command_writes_page_or_picture(study, tmp_path, capsys):
    folder = str(study().folder)
    assert main(["report", folder]) == 0
    assert (study().folder / "report.html").read_text().startswith("<!doctype html>")
    assert main(["report", folder, "-o", str(tmp_path / "front.svg")]) == 0
    assert (tmp_path / "front.svg").read_text().startswith("<svg")
    capsys.readouterr()
    assert main(["report", folder, "-o", str(tmp_path / "missing" / "front.svg")]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert main(["report", folder, "-o", "front.pdf"]) == 2
    assert "accepted: a file that ends in .html or .svg" in capsys.readouterr().err


def test_a_picture_of_nothing_is_refused(study, tmp_path, capsys):
    assert main(["report", str(study([]).folder), "-o", str(tmp_path / "front.svg")]) == 2
    assert "no point with both" in capsys.readouterr().err


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (3.2e-6, 3.3e-6), (12.0, 98000.0), (5.0, 5.0)])
def test_ticks_are_round_and_within_the_axis(low, high):
    scale = Scale.over([low, high], 10, 200)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 8
    assert all(9.9 <= scale(t) <= 200.1 for t in ticks)


needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")


def script(*names):
    return "\n".join((files("search.report") / name).read_text() for name in names)


@needs_node
def test_the_script_parses(tmp_path):
    path = tmp_path / "page.js"
    path.write_text(script("figures.js", "plot.js", "page.js"))
    assert subprocess.run(["node", "--check", str(path)], capture_output=True, check=False).returncode == 0


@needs_node
def test_page_and_terminal_write_figures_alike(study, tmp_path):
    results = study()
    data = {"metrics": page_data(results)["metrics"], "devices": [], "split": "report"}
    names = ["accuracy", "loss", "size_bytes", "parameters", "latency_ms"]
    values = [0.0513, 0.98, 1.0, 5540.0, 263_168.0]
    lines = [f"const document = {{getElementById: () => ({{textContent: {json.dumps(json.dumps(data))}}})}};", script("figures.js")]
    lines.append(f"console.log(JSON.stringify({json.dumps(names)}.map((n) => {json.dumps(values)}.map((v) => figure(metrics.get(n), v)))));")
    (tmp_path / "figures.js").write_text("\n".join(lines).replace('"use strict";', ""))
    shown = json.loads(subprocess.run(["node", str(tmp_path / "figures.js")], capture_output=True, check=True, text=True).stdout)
    metrics = {name: results.experiment.names.resolve("latency_ms@raspberry-pi-5" if name == "latency_ms" else name)[1] for name in names}
    assert shown == [[figure(metrics[name], value) for value in values] for name in names]


ANCHORS = [
    (x, y, name)
    for x, y, name in zip(range(90, 700, 55), [60, 65, 300, 62, 58, 200, 66, 64, 390, 70, 61, 60], ["int8", "prune-25-int8", "fp16"] * 4, strict=False)
]
FRAME = (70.0, 46.0, 760.0, 400.0)


def test_names_cover_neither_each_other_nor_another_named_mark():
    placed = place_names(ANCHORS, [(x, y) for x, y, _ in ANCHORS], FRAME)
    assert len(placed) >= len(ANCHORS) - 2
    boxes = [(n.x, n.y - 10, n.x + 6.3 * len(n.text), n.y + 3) for n in placed]
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :] if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]]
    assert all(box[0] >= FRAME[0] and box[2] <= FRAME[2] for box in boxes)


def test_a_name_without_a_place_is_left_out():
    crowd = [(100.0 + i, 100.0 + j, "prune-25-int8") for i in range(0, 30, 6) for j in range(0, 30, 6)]
    assert len(place_names(crowd, [], FRAME)) < len(crowd)


@needs_node
def test_page_and_picture_place_names_alike(tmp_path):
    marks = [(x + 12, y + 4) for x, y, _ in ANCHORS]
    call = f"placeNames({json.dumps(ANCHORS)}, {json.dumps(marks)}, {json.dumps(FRAME)})"
    run = f"console.log(JSON.stringify({call}.filter(Boolean).map((n) => [n.text, n.x.toFixed(6), n.y.toFixed(6)])));"
    (tmp_path / "plot.js").write_text(script("plot.js") + run)
    shown = json.loads(subprocess.run(["node", str(tmp_path / "plot.js")], capture_output=True, check=True, text=True).stdout)
    assert shown == [[name.text, f"{name.x:.6f}", f"{name.y:.6f}"] for name in place_names(ANCHORS, marks, FRAME)]
