"""Quantized models that generate decode with the integers of the forward pass that was calibrated and evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compressors.context import logits_of
from compressors.errors import UnexportableError
from compressors.pipeline import compress
from compressors.recipe import Recipe
from compressors.targets.exported import ExportedModel
from compressors.targets.onnx_generation import Generator
from compressors.targets.onnx_session import OnnxSession
from compressors.targets.onnxruntime import OnnxRuntime
from tests.conformance.families import build

NEW = 5
SETTINGS: dict[str, dict[str, Any]] = {
    "groups": {"weight_bits": 4, "granularity": 32, "activation_bits": "float"},
    "static": {"weight_bits": 8, "activation_bits": 8},
}


def t5() -> tuple[nn.Module, dict[str, Tensor]]:
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4, decoder_start_token_id=0, use_cache=False)
    texts = torch.randint(2, 60, (2, 10))
    return T5ForConditionalGeneration(config).eval(), {"input_ids": texts, "attention_mask": torch.ones_like(texts), "decoder_input_ids": texts[:, :7]}


def quantized(family: str, settings: dict[str, Any]) -> tuple[nn.Module, dict[str, Tensor]]:
    model, inputs = t5() if family == "t5" else build(family)
    return compress(model, Recipe.from_plain([{"quantize": settings}]), inputs, log=lambda _: None), inputs


def logits(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return logits_of(model(**inputs))


def greedy(model: nn.Module, inputs: dict[str, Tensor], name: str) -> np.ndarray:
    """Without a cache: every step reads the whole text."""
    inputs = dict(inputs)
    for _ in range(NEW):
        inputs[name] = torch.cat([inputs[name], logits(model, inputs)[:, -1:].argmax(-1)], dim=1)
        if name == "input_ids":
            inputs["attention_mask"] = torch.ones_like(inputs[name])
    return inputs[name][:, -NEW:].numpy()


def arrays(inputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in inputs.items()}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_decoder(name: str, tmp_path: Path) -> None:
    model, inputs = quantized("llama", SETTINGS[name])
    path = OnnxRuntime().export(model, inputs, tmp_path)
    np.testing.assert_allclose(OnnxSession(path, 1)(arrays(inputs))["logits"], logits(model, inputs).numpy(), atol=0.02)
    text = {"input_ids": torch.randint(2, 60, (3, 9)), "attention_mask": torch.ones(3, 9, dtype=torch.long)}
    np.testing.assert_array_equal(Generator(path, 1).generate(arrays(text), NEW).tokens, greedy(model, text, "input_ids"))


def test_ranges_at_run_time(tmp_path: Path) -> None:
    model, inputs = quantized("gpt2", {"weight_bits": 8, "activation_bits": 8, "mode": "dynamic"})
    path = OnnxRuntime().export(model, inputs, tmp_path)
    np.testing.assert_allclose(OnnxSession(path, 1)(arrays(inputs))["logits"], logits(model, inputs).numpy(), atol=0.02)
    assert Generator(path, 1).generate(arrays(inputs), NEW).tokens.shape == (2, NEW)


def test_an_encoder_and_its_decoder(tmp_path: Path) -> None:
    model, inputs = quantized("t5", {"weight_bits": 8, "activation_bits": "float"})
    path = OnnxRuntime().export(model, inputs, tmp_path)
    assert path.name == "decoder.onnx"
    longer = {**inputs, "decoder_input_ids": torch.randint(2, 60, (2, 9))}
    np.testing.assert_allclose(OnnxSession(path, 1)(arrays(longer))["logits"], logits(model, longer).numpy(), atol=1e-4)
    start = {**inputs, "decoder_input_ids": torch.zeros(2, 1, dtype=torch.long)}
    np.testing.assert_array_equal(Generator(path, 1).generate(arrays(start), NEW).tokens, greedy(model, start, "decoder_input_ids"))


def test_an_encoder_alone_has_no_ranges_of_the_whole() -> None:
    model, _ = quantized("t5", SETTINGS["static"])
    assert isinstance(model, ExportedModel)
    assert model.generating is not None
    with pytest.raises(UnexportableError, match="ranges of activations are those of the forward pass as a whole"):
        model.generating()
