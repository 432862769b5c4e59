import dataclasses
import re

import pytest

from search.front_table import explain, front_lines, verified_lines
from search.verification import Verification


def shown(study, records, width, *metrics):
    results = study(records)
    return [line.plain for line in front_lines(results, results.front(*metrics, baselines=True), width)]


def test_eighty_columns_hold_a_front_with_three_objectives(study, random_records):
    lines = shown(study, random_records, 80)
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("    prune ") for line in lines), "recipes stand below the figures"


def test_a_wide_terminal_has_one_line_a_point(study, random_records):
    front = study(random_records).front(baselines=True)
    lines = shown(study, random_records, 200)
    assert lines[0].split()[-1] == "recipe"
    assert len(lines) == 4 + len(front), "three lines of heading and a rule"
    assert all("quantize" in line for line in lines if line[:4].isdigit())


def test_intervals_move_below_where_five_metrics_fill_the_line(study, random_records):
    lines = shown(study, random_records, 80, "accuracy", "loss", "size_bytes", "latency_ms@raspberry-pi-5", "energy_mj@raspberry-pi-5")
    assert max(map(len, lines)) <= 100
    row = next(i for i, line in enumerate(lines) if line.startswith("int8"))
    assert "97.1 %" in lines[row]
    assert "95.1-99.1" in lines[row + 1]


def test_a_long_recipe_is_wrapped(study, random_records):
    lines = shown(study, random_records, 46)
    assert max(len(line) for line in lines if line.startswith("    ") and "prune" in line) <= 46


@pytest.mark.parametrize("width", [20, 80, 200])
def test_nothing_to_show_is_a_heading(study, width):
    lines = shown(study, [], width)
    assert lines[0].startswith("id")
    assert len(lines) <= 4


def test_a_picked_point_shows_the_widths_of_its_layers(study, random_records):
    widths = {"conv1": (16, 9), "layers.0.fc1": (64, 30), "layers.1.fc1": (64, 30), "layers.2.fc1": (64, 31)}
    results = study([dataclasses.replace(record, widths=widths) for record in random_records])
    frame = results.front()
    lines = explain(results, frame, picked=results.pick("knee"))
    shown = lines[lines.index("widths:") + 1 :]
    assert [line.split() for line in shown] == [
        ["conv1", "16", "->", "9"],
        ["layers.*.fc1", "(2)", "64", "->", "30"],
        ["layers.2.fc1", "64", "->", "31"],
    ]
    assert "widths:" not in explain(results, frame), "of one point only"


def test_what_was_found_stands_beside_what_was_promised(study):
    found = Verification("kept", "onnxruntime", "", {"accuracy": 0.938, "size_bytes": 20_100.0})
    results = dataclasses.replace(study(), verified={"0001": found})
    lines = [line.plain for line in front_lines(results, results.front("accuracy", "size_bytes", baselines=True), 120)]
    assert lines[0].split() == ["id", "accuracy", "found", "size_bytes", "found", "verdict", "recipe"]
    row = next(line for line in lines if line.startswith("0001"))
    assert re.search(r"94\.0 % +92\.0-96\.0 +93\.8 % +20 kB +20\.1 kB +kept", row)
    assert verified_lines(results)[0].startswith("artifacts of the front in onnxruntime: ")
    assert "1 kept" in verified_lines(results)[0]
    assert verified_lines(study()) == []
