from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

pytest.importorskip("executorch")

from compressors.compressor import GraphEdit
from compressors.context import logits_of
from compressors.errors import UnexportableError
from compressors.graph import trace
from compressors.pipeline import compress
from compressors.recipe import Recipe
from compressors.targets import target_named
from compressors.targets.executorch import ExecuTorch

from .conftest import TOKENS, bert

IMAGES = {"x": torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))}


class Residual(nn.Module):
    """What image models are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.other_norm = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, groups=8, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
        x = torch.relu(x + self.other_norm(self.second(x)))
        logits: Tensor = self.head(functional.relu6(self.deep(x)).mean((2, 3)))
        return logits


def residual() -> nn.Module:
    torch.manual_seed(0)
    model = Residual().eval()
    for parameter in model.parameters():
        # Equal tensors are stored once.
        parameter.data = parameter.data + 0.01 * torch.randn(parameter.shape)
    return model


@dataclass
class Exported:
    model: nn.Module
    path: Path
    priced_bytes: int
    operators: Counter[str]
    lines: list[str]

    @property
    def portable(self) -> set[str]:
        return {name for name in self.operators if name.startswith("portable.")}


LITTLE = {"weight_bits": 2, "symmetric": False}
STATIC = {"overrides": {"*embeddings*": LITTLE, "*intermediate*": {**LITTLE, "activation_bits": "float"}, "*query*": {"weight_bits": 4}}}
AT_RUN_TIME = {"weight_bits": 4, "mode": "dynamic", "granularity": 32, "overrides": {"*attention*": {"weight_bits": 8}}}
CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, Tensor], list[dict[str, Any]]]] = {
    "images fp32": (residual, IMAGES, []),
    "images int8": (residual, IMAGES, [{}]),
    "texts fp32": (bert, TOKENS, []),
    "texts static": (bert, TOKENS, [STATIC]),
    "texts at run time": (bert, TOKENS, [AT_RUN_TIME]),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    made: dict[str, Exported] = {}

    def make(name: str) -> Exported:
        if name not in made:
            build, inputs, steps = CASES[name]
            model, target, lines = build(), ExecuTorch(), []
            recipe = Recipe.from_plain([{"quantize": step} for step in steps])
            smaller = compress(model, recipe, inputs, target="executorch", log=lines.append) if steps else model
            graph = trace(model, inputs)
            edit = recipe.plan(graph, {})[-1] if steps else GraphEdit.identity(graph)
            path = target.export(smaller, inputs, tmp_path_factory.mktemp("exported"))
            made[name] = Exported(smaller, path, int(target.stored_bytes(graph, edit.shapes(graph))[0]), target.executed_operators(path), lines)
        return made[name]

    return make


@pytest.mark.parametrize("name", CASES)
def test_the_file_keeps_the_bytes_that_were_priced(exported: Any, name: str) -> None:
    made = exported(name)
    assert ExecuTorch().file_bytes(made.path) == made.priced_bytes


@pytest.mark.parametrize("name", CASES)
def test_the_runtime_answers_as_torch_does_for_any_batch(exported: Any, name: str) -> None:
    made = exported(name)
    session = ExecuTorch().load(made.path, 1)
    for batch in (1, 3, 10):
        inputs = {key: torch.cat([value.roll(i, -1) for i in range(batch)]) for key, value in CASES[name][1].items()}
        with torch.no_grad():
            ours = logits_of(made.model(**inputs)).numpy()
        theirs = session({key: value.numpy() for key, value in inputs.items()})["logits"]
        # Values on the edge between two integers may fall to either side.
        tolerance = 0.02 if "fp32" not in name else 1e-5
        np.testing.assert_allclose(theirs, ours, atol=tolerance * float(np.abs(ours).max()))


def test_an_int8_network_of_images_runs_in_integers_and_in_one_piece(exported: Any) -> None:
    made = exported("images int8")
    assert not made.portable
    assert made.operators["xnnpack.delegate"] == 1
    convolutions = {name: count for name, count in made.operators.items() if "Conv2d" in name}
    assert convolutions == {"xnnpack.Conv2d[qint8 x qcint8]": 2, "xnnpack.DepthwiseConv2d[qint8 x qcint8]": 1}
    assert made.operators["xnnpack.Add[qint8]"] == 1
    assert made.operators["xnnpack.FullyConnected[qint8 x qcint8]"] == 1


def test_linear_layers_read_the_weights_that_were_asked_for(exported: Any) -> None:
    linear = {name: {k: v for k, v in exported(name).operators.items() if "FullyConnected" in k} for name in CASES if "texts" in name}
    assert linear == {
        "texts fp32": {"xnnpack.FullyConnected[fp32 x fp32]": 8},
        "texts static": {f"xnnpack.FullyConnected[{types}]": n for types, n in (("qint8 x qcint8", 6), ("qint8 x qcint4", 1), ("fp32 x qcint4", 1))},
        "texts at run time": {"xnnpack.FullyConnected[qdint8 x qcint8]": 4, "xnnpack.FullyConnected[qdint8 x qbint4]": 4},
    }
    assert exported("texts at run time").operators["portable.quantized_decomposed::embedding_4bit"] == 3
    assert exported("texts static").operators["portable.quantized_decomposed::embedding_2bit"] == 3


def test_attention_stays_with_xnnpack(exported: Any) -> None:
    operators = exported("texts fp32").operators
    assert {"xnnpack.BatchMatrixMultiply[fp32]": 2, "xnnpack.Softmax[fp32]": 1}.items() <= operators.items()
    assert not {"portable.aten::mul", "portable.aten::bmm", "portable.aten::logical_not"} & set(operators)


def test_what_is_not_as_asked_is_said(exported: Any) -> None:
    said = "\n".join(exported("texts static").lines)
    assert "simulated: 2 bits are stored as 4" in said
    assert "symmetric: XNNPACK's weights have no zero point" in said
    graph = trace(residual(), IMAGES)
    reasons = {bits: ExecuTorch().supported(graph, Recipe.from_plain([{"quantize": s}]).plan(graph, {})[-1]) for bits, s in SETTINGS.items()}
    assert "stays float" in reasons["float activations"]["first.weight"]
    assert "stored as 8" in reasons["4 bits"]["first.weight"]
    assert "no 16-bit weights" in reasons["16 bits"]["head.weight"]
    assert "one scale a channel" in reasons["4 bits"]["head.weight"]


SETTINGS = {"float activations": {"activation_bits": "float"}, "4 bits": {"weight_bits": 4, "granularity": 32}, "16 bits": {"weight_bits": 16}}


def test_a_fresh_process_runs_the_file_and_prints_nothing_else(exported: Any, tmp_path: Path) -> None:
    made = exported("images int8")
    np.save(tmp_path / "x.npy", IMAGES["x"].numpy())
    code = (
        "import sys, numpy as np; from pathlib import Path; from compressors.targets.executorch_session import ExecuTorchSession as S\n"
        "print(S(Path(sys.argv[1]))({'x': np.load(sys.argv[2]), 'unused': np.zeros(1)})['logits'].argmax())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(made.path), str(tmp_path / "x.npy")], capture_output=True, text=True, check=True)
    with torch.no_grad():
        assert int(done.stdout) == int(made.model(**IMAGES).argmax())
    assert done.stderr == ""


@torch.library.custom_op("compareto_tests::riddle", mutates_args=())
def riddle(x: Tensor) -> Tensor:
    return x.clone()


@riddle.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def test_an_operator_without_a_kernel_fails_the_trial_by_name(tmp_path: Path) -> None:
    class Riddle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return torch.ops.compareto_tests.riddle(self.head(x))

    with pytest.raises(UnexportableError, match=r"ExecuTorch cannot express the model: .*riddle"):
        ExecuTorch().export(Riddle().eval(), {"x": torch.zeros(2, 4)}, tmp_path)


def test_it_is_found_by_its_name() -> None:
    assert isinstance(target_named("executorch"), ExecuTorch)
