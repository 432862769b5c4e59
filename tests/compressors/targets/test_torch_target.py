from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compressors.checkpoint import load
from compressors.compressor import GraphEdit
from compressors.context import logits_of
from compressors.errors import UserError
from compressors.graph import trace
from compressors.pipeline import compress
from compressors.recipe import Recipe
from compressors.scoring import scores_of
from compressors.targets import target_named
from compressors.targets.torch_target import Torch

from .conftest import IMAGES, TOKENS, bert, conv_net

PRUNE = {"prune": {"ratio": {"ffn": 0.5}}}
CASES: dict[str, Any] = {
    "as it is": (bert, TOKENS, []),
    "pruned": (bert, TOKENS, [PRUNE]),
    "pruned, in groups": (bert, TOKENS, [PRUNE, {"quantize": {"weight_bits": 3, "granularity": 32, "symmetric": False, "activation_bits": 16}}]),
    "ranges at run time": (bert, TOKENS, [{"quantize": {"mode": "dynamic"}}]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_has_the_bytes_that_were_priced_and_gives_the_same_answers(tmp_path: Path, name: str) -> None:
    make, inputs, steps = CASES[name]
    model, target = make(), target_named("torch")
    smaller = compress(model, steps, inputs, target="torch") if steps else model
    graph = trace(model, inputs)
    scores = {"l2": scores_of(model, graph, "l2", None)}
    edit = Recipe.from_plain(steps).plan(graph, scores)[-1] if steps else GraphEdit.identity(graph)
    path = target.export(smaller, inputs, tmp_path)
    assert target.file_bytes(path) == target.stored_bytes(graph, edit.shapes(graph))[0]
    with torch.no_grad():
        ours = logits_of(smaller(**inputs)).numpy()
    np.testing.assert_array_equal(target.load(path, 1)({key: value.numpy() for key, value in inputs.items()})["logits"], ours)


def test_quantization_is_simulated_where_it_is_asked_for() -> None:
    model = conv_net()
    with torch.no_grad():
        exact = model(**IMAGES)
        errors = [float((compress(model, [{"quantize": {"weight_bits": bits}}], IMAGES, target="torch")(**IMAGES) - exact).abs().max()) for bits in (2, 4, 8)]
    assert errors[0] > errors[1] > errors[2] > 0


def test_what_is_no_class_of_transformers_needs_an_instance_to_be_loaded(tmp_path: Path) -> None:
    smaller = compress(conv_net(), [{"quantize": {}}], IMAGES, target="torch")
    path = Torch().export(smaller, IMAGES, tmp_path)
    with pytest.raises(UserError, match="does not name an architecture"):
        Torch().load(path)
    assert torch.equal(load(tmp_path, conv_net())(**IMAGES), smaller(**IMAGES))


def test_nothing_runs_in_integers_and_that_is_said() -> None:
    graph = trace(conv_net(), IMAGES)
    edit = Recipe.from_plain([{"quantize": {}}]).plan(graph, {})[-1]
    assert set(Torch().supported(graph, edit)) == {"conv.weight", "head.weight"}
    bits = np.array([2, 8, 32])
    assert set(Torch().compute_precision(bits, bits, bits, bits > 8)) == {"fp32"}


def test_a_session_computes_with_its_own_threads_and_gives_the_process_its_own_back(tmp_path: Path) -> None:
    target = target_named("torch")
    session = target.load(target.export(bert(), TOKENS, tmp_path), threads=3)
    before, seen = torch.get_num_threads(), []
    session._model.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    session({name: value.numpy() for name, value in TOKENS.items()})
    assert (seen, torch.get_num_threads()) == ([3], before)
