"""Cuts compose, can be repeated from plain data, and refuse what does not fit."""

import json

import numpy as np
import pytest
import torch

from compressors.errors import CompressionError
from compressors.graph import trace
from compressors.graph.surgery import cut, rebuild


def test_two_cuts_are_one_cut(families):
    model, inputs = families("gpt2")
    graph = trace(model, inputs)
    heads, units = "transformer.h.0.attn.c_attn", "transformer.h.1.mlp.c_fc"
    once = cut(model, graph, {heads: [1, 3], units: list(range(0, 128, 4))})
    twice = cut(cut(model, graph, {heads: [0, 1, 3], units: list(range(0, 128, 2))}), graph, {heads: [1, 3], units: list(range(0, 128, 4))})
    assert once.compareto_structure == twice.compareto_structure
    assert {k: v.shape for k, v in once.state_dict().items()} == {k: v.shape for k, v in twice.state_dict().items()}
    assert torch.equal(once(**inputs).logits, twice(**inputs).logits)


@pytest.mark.parametrize("family", ["resnet20", "llama", "mobilenet"])
def test_structure_as_json_rebuilds_the_module_for_its_weights(family, families):
    model, inputs = families(family)
    graph = trace(model, inputs)
    smaller = cut(model, graph, {a.name: np.arange(0, a.size, 2) for a in graph.prunable})
    structure = json.loads(json.dumps(smaller.compareto_structure))
    again = rebuild(families(family)[0], structure)
    again.load_state_dict(smaller.state_dict())
    with torch.no_grad():
        a, b = smaller(**inputs), again(**inputs)
    assert torch.equal(*(x if isinstance(x, torch.Tensor) else x.logits for x in (a, b)))


def test_rebuild_works_without_weights(families):
    model, inputs = families("resnet20")
    graph = trace(model, inputs)
    structure = cut(model, graph, {"layer1.0.conv1": [0, 5]}).compareto_structure
    assert rebuild(model.to("meta"), structure).layer1[0].conv1.weight.shape == (2, 16, 3, 3)


def test_the_original_is_not_touched(families):
    model, inputs = families("plain_cnn")
    cut(model, trace(model, inputs), {"0": [1, 2]})
    assert model[0].out_channels == 8
    assert not hasattr(model, "compareto_structure")


def test_tied_parameters_stay_tied(families):
    model, inputs = families("llama")
    smaller = cut(model, trace(model, inputs), {"model.layers.0.mlp.gate_proj": [0, 1]})
    assert smaller.lm_head.weight is smaller.model.embed_tokens.weight


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"nowhere": [0]}, "no axis 'nowhere'"),
        ({"10:ffn": [0]}, "the model returns it"),
        ({"0": []}, "at least one"),
        ({"0": [3, 1]}, "sorted"),
        ({"0": [8]}, "8 units"),
    ],
)
def test_a_cut_that_does_not_fit_is_refused(kept, message, families):
    model, inputs = families("plain_cnn")
    with pytest.raises(CompressionError, match=message):
        cut(model, trace(model, inputs), kept)


def test_units_that_are_gone_cannot_come_back(families):
    model, inputs = families("plain_cnn")
    graph = trace(model, inputs)
    with pytest.raises(CompressionError, match="cut by an earlier step"):
        cut(cut(model, graph, {"0": [1, 2]}), graph, {"0": [2, 3]})
    with pytest.raises(CompressionError, match="starts from an uncompressed instance"):
        rebuild(cut(model, graph, {"0": [1, 2]}), cut(model, graph, {"0": [1]}).compareto_structure)
