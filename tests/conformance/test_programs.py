"""Programs beside the forward pass: they have the same axes, and what they execute of a cut model is what the graph says."""

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from compressors.compressor import GraphEdit
from compressors.errors import TraceError
from compressors.graph import Entry, generation_entries, trace
from compressors.graph.surgery import cut
from tests.conformance.families import build
from tests.conformance.measures import traced

GENERATE = {"gpt2": ["decode"], "llama": ["decode"], "qwen3": ["decode"], "glm": ["decode"], "mistral": ["decode"], "t5": ["encoder", "decode"]}


def executed(model, entry):
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.get_submodule(entry.path)(**entry.inputs)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("family", GENERATE)
def test_programs_share_axes_and_are_priced_exactly(family):
    model, inputs, forward = traced(family)
    entries = generation_entries(model, inputs)
    graph = trace(model, inputs, programs=entries)
    assert [program.name for program in graph.programs] == list(entries) == GENERATE[family]
    free = tuple(axis for axis in forward.axes if axis.kind != "window")  # attention of a model that generates stays full
    assert graph.axes == free, "a decoding step fixes nothing that the forward pass leaves free"
    kept = {axis.name: np.arange((axis.size + 1) // 2) for axis in graph.prunable}
    smaller = cut(model, graph, kept)
    shapes = GraphEdit.identity(graph).cut(kept).shapes(graph)
    for name, entry in generation_entries(smaller, inputs).items():
        assert graph.count_macs(shapes, name).item() == executed(smaller, entry)
        assert graph.count_macs(graph.baseline(), name).item() == executed(model, entries[name])


def test_a_cache_narrows_with_what_fills_it():
    model, inputs, _ = traced("llama")
    graph = trace(model, inputs, programs=generation_entries(model, inputs))
    (step,) = graph.programs
    kept = {axis.name: np.arange(1) for axis in graph.prunable if axis.kind == "kv_groups"}
    shapes = GraphEdit.identity(graph).cut(kept).shapes(graph)
    caches = [tensor for tensor in step.tensors if tensor.role == "input" and tensor.name.startswith("past_key_values")]
    assert len(caches) == 2 * len(kept)
    for cache in caches:
        groups = [cache.dims[1].evaluate(row.widths).item() for row in (graph.baseline(), shapes)]
        assert groups == [4, 1]


def test_sites_are_those_of_the_forward_pass():
    model, inputs, forward = traced("gpt2")
    graph = trace(model, inputs, programs=generation_entries(model, inputs))
    assert graph.sites == forward.sites
    assert {operator.site for operator in graph.programs[0].operators} == {operator.site for operator in graph.operators}


@pytest.mark.parametrize("family", ["bert", "whisper_encoder", "plain_cnn"])
def test_what_does_not_generate_has_one_program(family):
    model, inputs = build(family)
    assert generation_entries(model, inputs) == {}


def test_a_program_that_cannot_be_traced_is_said():
    model, inputs, _ = traced("llama")
    with pytest.raises(TraceError, match=r"torch.export cannot trace LlamaForCausalLM on \(input_ids: \[2, 0\] int64"):
        trace(model, inputs, programs={"decode": Entry({"input_ids": inputs["input_ids"][:, :0]})})


def test_every_module_keeps_its_mode():
    model, inputs = build("llama")
    model.train()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()]
    assert generation_entries(model, inputs)
    assert [module.training for module in model.modules()] == before
