from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("litert_torch")

from compressors.compressor import GraphEdit
from compressors.context import logits_of
from compressors.errors import CompressionError, TrialError, UserError
from compressors.graph import trace
from compressors.pipeline import compress
from compressors.recipe import Recipe
from compressors.targets import litert_session
from compressors.targets.litert import LiteRT
from compressors.targets.litert_file import executed_operators
from compressors.targets.litert_session import LiteRTSession

from .conftest import TOKENS, bert

IMAGES = {"x": torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))}


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.second_norm = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.depthwise, self.pool, self.head = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.MaxPool2d(2), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(x + self.second_norm(self.second(x)))
        x = self.pool(nn.functional.relu6(self.depthwise(x)))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def residual() -> nn.Module:
    torch.manual_seed(0)
    model = Residual().eval()
    for parameter in model.parameters():
        # Equal vectors, such as biases of zeros, are one in a file.
        if parameter.ndim == 1:
            parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape)
    return model


CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, Tensor], dict[str, Any] | None, float]] = {
    "cnn": (residual, IMAGES, None, 1e-5),
    "cnn, 8 bits": (residual, IMAGES, {}, 0.02),
    "cnn, 4 bits": (residual, IMAGES, {"weight_bits": 4}, 0.02),
    "cnn, 16-bit activations": (residual, IMAGES, {"activation_bits": 16}, 1e-3),
    "cnn, 4 bits with zero points, float activations": (residual, IMAGES, {"weight_bits": 4, "activation_bits": "float", "symmetric": False}, 1e-5),
    "bert": (bert, TOKENS, None, 1e-5),
    "bert, 8 bits": (bert, TOKENS, {}, 0.02),
    "bert, 4 bits": (bert, TOKENS, {"weight_bits": 4}, 0.02),
    "bert, 4 bits in groups, ranges at run time": (bert, TOKENS, {"weight_bits": 4, "granularity": 32, "mode": "dynamic"}, 0.02),
    "bert, 2 bits in groups, float activations": (bert, TOKENS, {"weight_bits": 2, "granularity": 32, "activation_bits": "float"}, 1e-4),
    "bert, half": (bert, TOKENS, {"weight_bits": 16}, 1e-4),
}
"""Model, inputs, settings of its quantize step, largest difference to torch as a share of the outputs' range."""


@dataclass
class Made:
    model: nn.Module
    path: Path
    priced_bytes: int
    lines: list[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    known: dict[str, Made] = {}

    def make(name: str) -> Made:
        if name not in known:
            build, inputs, settings, _ = CASES[name]
            model, lines = build(), list[str]()
            graph = trace(model, inputs)
            edit = GraphEdit.identity(graph)
            if settings is not None:
                recipe = Recipe.from_plain([{"quantize": settings}])
                edit = recipe.plan(graph, {})[-1]
                model = compress(model, recipe, inputs, target="litert", log=lines.append)
            path = LiteRT().export(model, inputs, tmp_path_factory.mktemp("litert"))
            known[name] = Made(model, path, int(LiteRT().stored_bytes(graph, edit.shapes(graph))[0]), lines)
        return known[name]

    return make


@pytest.mark.parametrize("name", CASES)
def test_the_runtime_computes_what_torch_does_and_the_file_keeps_the_bytes_that_were_priced(made: Any, name: str) -> None:
    _, inputs, _, tolerance = CASES[name]
    case = made(name)
    assert LiteRT().file_bytes(case.path) == case.priced_bytes
    # Three examples in a file for one, the first of them those that ranges were taken from.
    examples = {key: torch.cat([value, value.flip(-1), value.roll(1, -1)]) for key, value in inputs.items()}
    with torch.no_grad():
        ours = logits_of(case.model(**examples)).numpy()
    theirs = LiteRTSession(case.path, 1)({key: value.numpy() for key, value in examples.items()})["logits"]
    assert theirs.dtype == np.float32
    np.testing.assert_allclose(theirs, ours, atol=tolerance * np.ptp(ours))


@pytest.mark.parametrize(("name", "kernel"), [("cnn, 8 bits", "int8"), ("cnn, 16-bit activations", "int16 x int8")])
def test_everything_of_a_quantized_cnn_runs_in_integers(made: Any, name: str, kernel: str) -> None:
    operators = executed_operators(made(name).path)
    assert not [operator for operator in operators if "float" in operator or "QUANTIZE" in operator]
    assert operators[f"CONV_2D {kernel}"] == 2
    assert operators[f"DEPTHWISE_CONV_2D {kernel}"] == 1
    assert operators[f"FULLY_CONNECTED {kernel}"] == 1
    assert operators[f"ADD {kernel.split()[0]}"] == 1


def test_convolutions_of_four_bits_are_unpacked_at_load_since_their_integer_kernels_are_slow(made: Any) -> None:
    operators = executed_operators(made("cnn, 4 bits").path)
    assert operators["CONV_2D float32"] == 2
    assert operators["FULLY_CONNECTED int8 x int4"] == 1


def test_every_linear_layer_of_bert_runs_the_kernel_that_was_asked_for(made: Any) -> None:
    assert executed_operators(made("bert").path)["FULLY_CONNECTED float32"] == 8
    assert executed_operators(made("bert, 8 bits").path)["FULLY_CONNECTED int8"] == 8
    groups = executed_operators(made("bert, 4 bits in groups, ranges at run time").path)
    assert groups["FULLY_CONNECTED float32 x int4"] == 8
    assert groups["EMBEDDING_LOOKUP int4"] == 3
    unpacked = executed_operators(made("bert, 2 bits in groups, float activations").path)
    assert unpacked["FULLY_CONNECTED float32"] == 8
    assert unpacked["EMBEDDING_LOOKUP int2"] == 3
    assert not [operator for operator in unpacked if operator.startswith("DEQUANTIZE")], "what unpacks weights does not run"


def test_the_graph_around_the_weights_is_small(made: Any) -> None:
    case = made("cnn, 8 bits")
    assert case.path.stat().st_size - case.priced_bytes < 4096


def test_a_file_runs_in_a_process_without_torch(made: Any) -> None:
    case = made("cnn, 8 bits")
    # By its path: the package around it imports torch for other things.
    script = (
        "import runpy, sys, numpy as np; from pathlib import Path\n"
        "session = runpy.run_path(sys.argv[1])['LiteRTSession'](Path(sys.argv[2]), 1)\n"
        "found = session({'x': np.ones((2, 3, 8, 8), np.float32)})['logits']\n"
        "assert found.shape == (2, 4) and 'torch' not in sys.modules, sorted(sys.modules)\n"
        "print(*found[1])"
    )
    ended = subprocess.run([sys.executable, "-c", script, litert_session.__file__, str(case.path)], capture_output=True, text=True, check=True)
    with torch.no_grad():
        ours = logits_of(case.model(x=torch.ones(1, 3, 8, 8))).numpy()[0]
    np.testing.assert_allclose([float(value) for value in ended.stdout.split()], ours, atol=0.02)


def test_what_is_not_done_as_asked_is_said() -> None:
    graph = trace(residual(), IMAGES)

    def said(**settings: Any) -> set[str]:
        return set(LiteRT().supported(graph, Recipe.from_plain([{"quantize": settings}]).plan(graph, {})[-1]).values())

    assert said() == said(weight_bits=4, include="head") == set()
    assert said(weight_bits=3, include="head") == {"simulated: 3 bits are stored as 4"}
    assert said(weight_bits=2, include="head") == {"simulated: 2 bits are stored as 4"}
    kernels = "activations stay float: integer kernels of convolutions take weights of 8 bits, not of"
    assert said(weight_bits=4, exclude="head") == {f"{kernels} 4"}
    assert said(weight_bits=3, exclude="head") == {f"{kernels} 3; simulated: 3 bits are stored as 4"}
    assert said(symmetric=False) == {"symmetric: the kernel has no zero point for weights"}
    assert said(weight_bits=4, activation_bits=16) == {"activations stay float: kernels of 16-bit activations take weights of 8 bits"}
    assert said(granularity=32, include="head") == {"one scale a channel: groups of 32 do not divide its inputs"}


def test_groups_and_ranges_at_run_time_are_for_linear_layers() -> None:
    layer = nn.Linear(64, 8)
    graph = trace(layer, {"input": torch.zeros(2, 64)})

    def said(**settings: Any) -> set[str]:
        return set(LiteRT().supported(graph, Recipe.from_plain([{"quantize": settings}]).plan(graph, {})[-1]).values())

    assert said(granularity=32, weight_bits=4, mode="dynamic") == said(weight_bits=2, mode="dynamic") == set()
    assert said(granularity=32, weight_bits=8, mode="dynamic") == {"activations stay float: kernels read groups of 4 bits, not of 8"}
    message = "activations stay float: kernels of weights in groups take the ranges of activations at run time (mode: dynamic)"
    assert said(granularity=32) == {message}


def test_widths_that_the_format_does_not_have() -> None:
    assert [LiteRT().container_bits(bits) for bits in (2, 3, 4, 8, 16, 32)] == [2, 4, 4, 8, 16, 32]
    with pytest.raises(CompressionError, match=r"LiteRT stores no weights of 5 bits; accepted: 2, 3, 4, 8, 16, 32"):
        LiteRT().container_bits(5)


@torch.library.custom_op("compareto_tests::riddle", mutates_args=())
def riddle(x: Tensor) -> Tensor:
    return x.clone()


@riddle.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def test_an_operator_without_tflite_form_fails_the_trial_by_name(tmp_path: Path) -> None:
    class Riddle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ops.compareto_tests.riddle(x)

    with pytest.raises(TrialError, match=r"LiteRT cannot express the model: .*riddle") as caught:
        LiteRT().export(Riddle().eval(), {"x": torch.zeros(2, 4)}, tmp_path)
    assert caught.value.status == "unexportable"


def test_a_missing_package_is_a_clear_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for use in (lambda: LiteRT().load(tmp_path / "model.tflite"), lambda: LiteRT().export(residual(), IMAGES, tmp_path)):
        with pytest.raises(UserError, match=r'pip install "compareto\[litert\]"'):
            use()
