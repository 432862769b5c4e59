from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compressors.errors import TrialError, UnexportableError
from compressors.targets.onnx_session import optimised_operators
from compressors.targets.onnxruntime import OnnxRuntime

from .conftest import IMAGES, TOKENS, bert, conv_net, llama

IDS = {"input_ids": TOKENS["input_ids"]}
CASES = {
    "static": (bert, TOKENS, {}),
    "half": (bert, TOKENS, {"weight_bits": 16}),
    "static, one scale a tensor": (bert, TOKENS, {"granularity": "tensor"}),
    "dynamic, one scale a tensor": (bert, TOKENS, {"granularity": "tensor", "mode": "dynamic"}),
    "three bits are stored as four": (conv_net, IMAGES, {"weight_bits": 3}),
    "zero points of channels": (conv_net, IMAGES, {"weight_bits": 4, "symmetric": False, "activation_bits": "float"}),
    "zero points of bytes": (conv_net, IMAGES, {"symmetric": False, "activation_bits": "float"}),
    "one scale a tensor": (conv_net, IMAGES, {"granularity": "tensor", "activation_bits": "float"}),
    "small weights of convolutions": (conv_net, IMAGES, {"weight_bits": 4, "activation_bits": 16}),
    "small weights, tied": (lambda: llama(tied=True), IDS, {"weight_bits": 4, "activation_bits": 16}),
    "half, tied": (lambda: llama(tied=True), IDS, {"weight_bits": 16}),
    "half, transposed": (lambda: llama(tied=False), IDS, {"weight_bits": 16}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_file_keeps_the_bytes_that_were_priced_and_the_model_its_answers(exported: Any, name: str) -> None:
    make, inputs, settings = CASES[name]
    made = exported(make(), inputs, settings)
    assert made.file_bytes == pytest.approx(made.priced_bytes, rel=0.02)
    ours, theirs = made.both({key: torch.cat([value, value.flip(-1)]) for key, value in inputs.items()})
    # Activations on the edge between two integers may fall to either side.
    np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_two_steps_quantize_two_parts(exported: Any) -> None:
    made = exported(conv_net(), IMAGES, {"include": "conv"}, {"weight_bits": 4, "include": "head"})
    assert made.model.compareto_structure["quantize"]["weight_bits"] == {"conv.weight": 8, "head.weight": 4}
    assert made.file_bytes == pytest.approx(made.priced_bytes, rel=0.02, abs=64)
    ours, theirs = made.both(IMAGES)
    np.testing.assert_allclose(ours, theirs, atol=0.02)
    operators = optimised_operators(made.path)
    assert operators["QLinearConv"] == 1


@torch.library.custom_op("compareto_tests::mystery", mutates_args=())
def mystery(x: Tensor) -> Tensor:
    return x.clone()


@mystery.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Mysterious(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.compareto_tests.mystery(self.head(x))


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_an_operator_without_onnx_form_fails_the_trial_by_name(exported: Any, mode: str) -> None:
    with pytest.raises(TrialError, match=r"ONNX cannot express the model: .*compareto_tests.*mystery") as caught:
        exported(Mysterious().eval(), {"x": torch.zeros(2, 4)}, {"mode": mode})
    assert caught.value.status == "unexportable"


def test_a_model_that_torch_cannot_export_fails_the_trial(tmp_path: Path) -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(UnexportableError, match=r"torch\.export with a dynamic batch"):
        OnnxRuntime().export(Branching().eval(), {"x": torch.zeros(2, 4)}, tmp_path)
