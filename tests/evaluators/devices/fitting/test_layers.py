from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compressors.errors import UserError
from evaluators.devices.fitting.layers import read_layers


def layer(name: str, op: str, op_class: str, inputs: list[str], *, macs: int = 0, int8: bool = False, **more: Any) -> dict[str, Any]:
    counts = {"input_elements": 100, "output_elements": 50, "macs": macs, "weights": 10 if macs else 0}
    return {"name": name, "op": op, "class": op_class, "inputs": inputs, "outputs": [name], "int8": int8, **counts, **more}


def write(path: Path, layers: Any) -> Path:
    file = path / "layers.json"
    file.write_text(json.dumps(layers), encoding="utf-8")
    return file


def test_free_layers_cost_nothing_and_classes_are_those_of_the_graph(tmp_path: Path) -> None:
    layers = [
        layer("a", "Convolution", "conv3x3s1", ["data"], macs=1000),
        layer("s", "Split", "none", ["a"]),
        layer("b", "Swish", "activation", ["s"]),
        layer("c", "HardSwish", "activation", ["s"]),
        layer("d", "InnerProduct", "gemv", ["b"], macs=10),
        layer("e", "MultiHeadAttention", "something new", ["d"], macs=10),
        layer("f", "Unheard", "something else", ["e"]),
    ]
    found = read_layers(write(tmp_path, {"net": layers}))["net"]
    assert [k.op_class for k in found] == ["conv3x3", "activation", "elementwise", "gemm", "gemm", "movement"]


def test_conversions_are_counted_where_integers_meet_floats(tmp_path: Path) -> None:
    layers = [
        layer("a", "Convolution", "conv", ["data"], macs=1000, int8=True),
        layer("s", "Split", "none", ["a"]),
        layer("b", "Convolution", "conv", ["s"], macs=1000, int8=True),
        layer("p", "Pooling", "pool", ["b"]),
        layer("g", "ConvolutionDepthWise", "grouped", ["p"], macs=1000, groups=4),
    ]
    found = read_layers(write(tmp_path, {"net": layers}))["net"]
    assert [k.converted for k in found] == [100, 50, 0, 0]  # in at the first, out at the second, nothing in between
    assert [k.launches for k in found] == [1, 1, 1, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"net": []}, "net has no layers"),
        ({"net": [layer("a", "ReLU", "activation", ["data"])]}, "no layers that multiply"),
        ({"net": [{"op": "Convolution"}]}, "has no 'class'"),
        ({"net": [layer("a", "Convolution", "conv", [], macs=1) | {"macs": -1}]}, "macs is -1"),
        ({"net": ["conv"]}, "layer 0 is 'conv'"),
        ([1], "expected an object"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_layers(write(tmp_path, content))


def test_files_that_are_not_there_or_not_json(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_layers(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("layers", encoding="utf-8")
    with pytest.raises(UserError, match="not JSON"):
        read_layers(tmp_path / "text.json")
