"""What a trace says about a model; families are compared with models really made smaller in ``tests/conformance``."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from compressors.graph import Shapes, trace
from compressors.graph.surgery import cut


def test_candidates_are_priced_together_as_one_by_one(families):
    graph = trace(*families("resnet20"))
    base = graph.baseline()
    half = replace(base, widths=np.maximum(base.widths // 2, 1))
    both = Shapes.concatenate([base, half])
    assert graph.count_macs(both).tolist() == [graph.macs, graph.count_macs(half)[0]]


def test_fingerprint_depends_on_the_architecture_and_not_on_the_weights(families):
    model, inputs = families("plain_cnn")
    first = trace(model, inputs).fingerprint
    nn.init.normal_(model[0].weight)
    assert trace(model, inputs).fingerprint == first
    model[5] = nn.GELU()
    assert trace(model, inputs).fingerprint != first


def test_trace_leaves_the_model_as_it_was(families):
    model, inputs = families("plain_cnn")
    model.train()
    model[1].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    trace(model, inputs)
    assert model.training
    assert not model[1].training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def executed(graph):
    """The operators of the uncompressed model: not those of layers that are factorised."""
    return [o for o in graph.operators if o.present.evaluate(graph.baseline().widths)[0]]


def test_sites_are_the_weights_of_multiplications(families):
    graph = trace(*families("plain_cnn"))
    assert [(s.name, s.operator, s.bias) for s in graph.sites] == [
        ("0.weight", "conv", True),
        ("4.weight", "conv", True),
        ("7.weight", "linear", True),
        ("10.weight", "linear", True),
    ]
    assert [graph.sites[o.site].name for o in executed(graph) if o.site is not None] == [site.name for site in graph.sites]


def test_a_batch_norm_becomes_the_bias_of_its_convolution(families):
    sites = {s.name: s for s in trace(*families("resnet20")).sites}
    assert sites["layer1.0.conv1.weight"].bias


def test_tied_embedding_is_one_shared_site_and_counts_once(families):
    model, inputs = families("llama")
    graph = trace(model, inputs)
    (shared,) = [s for s in graph.sites if s.shared]
    assert shared.name == "model.embed_tokens.weight"
    assert [graph.operators[i].op_class for i in range(len(graph.operators)) if graph.operators[i].site == graph.sites.index(shared)] == ["embedding", "gemm"]
    assert graph.parameters == sum(p.numel() for p in model.parameters())


def test_op_classes_of_a_mobile_network(families):
    classes = Counter(o.op_class for o in executed(trace(*families("mobilenet"))) if o.macs.terms)
    assert classes["depthwise"] == 17
    assert classes["gemm"] == 1
    assert classes["pointwise"] > 30


def test_key_heads_shared_by_query_heads_are_cut_together(families):
    model, inputs = families("llama")
    graph = trace(model, inputs)
    smaller = cut(model, graph, {"model.layers.0.self_attn.q_proj": [0, 2]})
    attention = smaller.model.layers[0].self_attn
    assert (attention.q_proj.out_features, attention.k_proj.out_features, attention.o_proj.in_features) == (16, 8, 16)


@pytest.mark.parametrize("family", ["bert", "mistral", "resnet20"])
def test_a_model_without_weights_is_traced_on_the_meta_device(families, family):
    model, inputs = families(family)
    graph = trace(model, inputs)
    bare = trace(model.to("meta"), inputs)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert (bare.axes, bare.parameters, bare.macs) == (graph.axes, graph.parameters, graph.macs)


def test_a_model_that_was_cut_is_traced_as_it_is_now(families):
    model, inputs = families("bert")
    graph = trace(model, inputs)
    smaller = trace(cut(model, graph, {"bert.encoder.layer.0.intermediate.dense": [1, 2, 3]}), inputs)
    sizes = {axis.name: axis.size for axis in smaller.prunable}
    assert sizes == {axis.name: axis.size for axis in graph.prunable} | {"bert.encoder.layer.0.intermediate.dense": 3}


def test_the_heads_of_a_single_key_group_stay():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 1}
    graph = trace(LlamaForCausalLM(LlamaConfig(**config, use_cache=False)), (torch.ones(1, 4, dtype=torch.long),))
    assert {axis.kind for axis in graph.prunable} == {"hidden", "ffn"}
    (heads,) = [axis for axis in graph.axes if axis.kind == "heads"]
    assert heads.fixed
    assert not [axis for axis in graph.prunable if axis.size == 1]
