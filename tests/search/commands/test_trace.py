from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from search.commands import trace


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPARETO_CACHE", str(tmp_path))


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    trace.register(parser.add_subparsers())
    args = parser.parse_args(["trace", "quickstart", "--set", "fit=null", "--set", "devices=[raspberry-pi-5/onnxruntime]", *arguments])
    code: int = args.run(args)
    return code


def test_the_table_shows_programs_axes_blocks_and_the_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    printed = capsys.readouterr()
    for title in (
        "Programs",
        "Prunable axes",
        "Fixed axes",
        "Blocks",
        "Quantization sites",
        "Uncompressed on each device",
        "Kernels on raspberry-pi-5/onnxruntime",
    ):
        assert title in printed.out
    (program,) = (line for line in printed.out.splitlines() if line.startswith("forward"))
    assert "image 1x1x8x8 float32" in program
    blocks = printed.out.partition("Blocks")[2].partition("Quantization")[0].splitlines()
    assert [line.split()[0] for line in blocks if line] == ["block", "stem", "body", "head"]
    assert printed.out.count("body.0.0 ") == 2, "once as an axis, once as a kernel"
    assert "lost" not in printed.out
    assert printed.err == ""


def test_a_profile_adds_a_table_that_is_sorted_and_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--sensitivity") == 0
    printed = capsys.readouterr()
    table = printed.out.partition("accuracy lost, points, where one axis alone is cut by l2, without recovery (search, 500 examples")[2]
    assert "90 % intervals" in table
    rows = [line.split() for line in table.partition("Mean change")[0].splitlines() if line.startswith(("stem", "body"))]
    assert sorted(row[0] for row in rows) == ["body.0.0", "body.1.0", "body.2.0", "stem.0"]
    assert "16 -> 12, 8" in next(line for line in table.splitlines() if line.startswith("stem"))
    assert "8/8  " in printed.err
    bits = printed.out.partition("Mean change of the outputs where one weight alone is quantized, one scale a channel, nearest integers")[2]
    assert "widths that onnxruntime stores" in bits
    assert re.search(r"4 bits +8 bits\n", bits)
    assert sum(line.startswith(("stem", "body", "head")) for line in bits.splitlines()) == 5


def test_a_narrow_terminal_breaks_no_figure(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run("--sensitivity")
    wide = capsys.readouterr().out
    monkeypatch.setattr(trace, "_WIDTH", 80)
    run("--sensitivity")
    narrow = capsys.readouterr().out
    figures = [set(re.findall(r"\([-\d.]+\)|-?[\d.]+%", out)) for out in (wide, narrow)]
    assert len(figures[0]) > 8
    assert figures[0] == figures[1]


def test_json_is_nothing_but_json_and_has_the_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--format", "json", "--sensitivity", "--depth", "1") == 0
    described = json.loads(capsys.readouterr().out)
    assert len(described["sensitivity"]["cuts"]) == 8
    assert {site["name"] for site in described["bit_sensitivity"]["sites"]} == {site["name"] for site in described["sites"]}
    assert {a["name"] for a in described["axes"] if a["fixed"] is None} == {c["axis"] for c in described["sensitivity"]["cuts"]}
    assert sum(b["bytes"] for b in described["blocks"]) == described["bytes"]


@pytest.mark.parametrize("depth", ["0", "-1", "two"])
def test_a_depth_that_is_none(capsys: pytest.CaptureFixture[str], depth: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--depth", depth)
    assert caught.value.code == 2
    assert f"{depth!r} is not accepted; accepted: a whole number of at least 1" in capsys.readouterr().err


def test_what_holds_for_all_blocks_of_a_stack_is_said_once() -> None:
    axes = [{"kind": "blocks", "modules": [f"bert.layer.{i}" for i in range(12)]}]
    alike = trace._alike({"axes": axes})
    assert alike("the size of a head (sdpa in bert.layer.1.self)") == alike("the size of a head (sdpa in bert.layer.11.self)")
    assert alike("bert.layer.11") == "bert.layer.*"
    assert alike("other.bert.layer.1 and bert.layer.12") == "other.bert.layer.1 and bert.layer.12"
    assert trace._alike({"axes": []})("a.0.b") == "a.0.b"
