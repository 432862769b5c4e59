from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from compressors.context import logits_of
from compressors.graph import trace
from compressors.pipeline import compress
from compressors.recipe import Recipe
from compressors.targets.onnx_session import OnnxSession
from compressors.targets.onnxruntime import OnnxRuntime

TOKENS = {"input_ids": torch.arange(6)[None], "attention_mask": torch.ones(1, 6, dtype=torch.long)}
IMAGES = {"x": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))}


def bert() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(vocab_size=90, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, num_labels=3)
    return _with_biases(BertForSequenceClassification(config))


def llama(*, tied: bool) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=500,
        hidden_size=64,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        use_cache=False,
        tie_word_embeddings=tied,
    )
    return _with_biases(LlamaForCausalLM(config))


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))
        return logits


def conv_net() -> nn.Module:
    torch.manual_seed(0)
    return _with_biases(ConvNet())


def _with_biases(model: nn.Module) -> nn.Module:
    # Biases of a fresh model are zeros, of which an exported file keeps one copy.
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data = parameter.data + 0.01 * torch.randn(parameter.shape)
    return model.eval()


@dataclass
class Exported:
    """A recipe's result: as a torch model, as a file, and as priced from the graph."""

    model: nn.Module
    path: Path
    priced_bytes: int
    lines: list[str]

    @property
    def file_bytes(self) -> int:
        return OnnxRuntime().file_bytes(self.path)

    def proto(self) -> Any:
        return onnx.load(self.path)

    def both(self, inputs: dict[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Logits of torch and of ONNX Runtime."""
        with torch.no_grad():
            ours = logits_of(self.model(**inputs)).numpy()
        return ours, OnnxSession(self.path, 1)({name: value.numpy() for name, value in inputs.items()})["logits"]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """Compresses, prices and exports; ``steps`` are settings of quantize steps."""

    def make(model: nn.Module, inputs: dict[str, Tensor], *steps: dict[str, Any]) -> Exported:
        recipe = Recipe.from_plain([{"quantize": settings} for settings in steps])
        lines: list[str] = []
        smaller = compress(model, recipe, inputs, log=lines.append)
        graph = trace(model, inputs)
        target = OnnxRuntime()
        priced = target.stored_bytes(graph, recipe.plan(graph, {})[-1].shapes(graph))[0]
        return Exported(smaller, target.export(smaller, inputs, tmp_path_factory.mktemp("exported")), int(priced), lines)

    return make


class OneLength(nn.Module):
    """Reads texts of five tokens only."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 4)
        self.head = nn.Linear(4 * 5, 2)

    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.head(self.table(input_ids).flatten(1))
        return logits
