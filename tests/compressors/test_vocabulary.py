import copy
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from compressors.checkpoint import load, save
from compressors.compressor import GraphEdit
from compressors.context import Batch, logits_of
from compressors.errors import CompressionError, UserError
from compressors.graph import trace
from compressors.graph.renumbering import ABSENT
from compressors.pipeline import compress
from compressors.targets import target_named
from compressors.vocabulary import token_counts
from tests.conformance.families import build

TRIM = [{"trim_vocabulary": {}}]
USED = [3, 5, 8, 13, 21, 34, 55]


@dataclass
class Tokens:
    """Batches of few tokens; ``read`` notes the splits."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    special_tokens: tuple[int, ...] = ()
    read: list[str] = field(default_factory=list)

    def batches(self, split, *, seed=None, batch_size=None):
        self.read.append(split)
        yield Batch({name: value.clone() for name, value in self.inputs.items()}, self.labels)

    def steps(self, split, *, batch_size=None):
        return 1

    def loss(self, logits, batch):
        return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), batch.labels.reshape(-1))

    def score(self, model, split):
        return "loss", 0.0


def case(family):
    model, inputs = build(family)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # the exporter leaves zeros out
            nn.init.normal_(parameter, std=0.1)
    inputs = {name: torch.tensor(USED).repeat(3)[: value.numel()].view(value.shape) if name.endswith("input_ids") else value for name, value in inputs.items()}
    causal = family in ("gpt2", "llama", "qwen3", "t5")
    labels = inputs["decoder_input_ids" if "decoder_input_ids" in inputs else "input_ids"] if causal else torch.zeros(2, dtype=torch.long)
    return model, inputs, Tokens(inputs, labels)


def output(model, inputs):
    with torch.no_grad():
        return logits_of(model(**inputs))


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "llama", "qwen3", "t5", "lstm"])
def test_texts_of_used_tokens_give_the_same_outputs(family):
    model, inputs, data = case(family)
    graph = trace(model, inputs)
    smaller = compress(model, TRIM, inputs, data)
    (vocabulary,) = graph.vocabularies
    kept = np.array(smaller.compareto_structure["kept"][vocabulary.axis])
    assert set(USED) <= set(kept.tolist())
    assert len(kept) < 16
    before, after = output(model, inputs), output(smaller, inputs)
    if vocabulary.heads:
        assert after.shape == before.shape
        assert torch.allclose(after[..., kept], before[..., kept], atol=1e-6)
        dropped = np.setdiff1d(np.arange(before.shape[-1]), kept)
        assert (after[..., dropped] == ABSENT).all()
    else:
        assert torch.equal(after, before)
    shapes = GraphEdit.identity(graph).cut(dict.fromkeys(vocabulary.axes, kept)).shapes(graph)
    assert graph.count_parameters(shapes)[0] == sum(p.numel() for p in smaller.parameters()) < graph.parameters
    again = trace(smaller, inputs, check_cuts=False)
    assert again.macs == graph.count_macs(shapes)[0]


@pytest.mark.parametrize("family", ["bert", "qwen3"])
def test_the_price_is_that_of_the_file_tables_included(family, tmp_path):
    model, inputs, data = case(family)
    target = target_named("onnxruntime")
    graph = trace(model, inputs)
    bits = {"quantize": {"weight_bits": 8, "activation_bits": 16}}
    shapes = []
    for i, recipe in enumerate(([bits], [*TRIM, bits])):
        smaller = compress(model, recipe, inputs, data)
        edit = GraphEdit.identity(graph).cut({name: np.array(units) for name, units in smaller.compareto_structure["kept"].items()} if i else {})
        edit.weight_bits[:] = 8
        shapes.append(edit.shapes(graph))
        path = target.export(smaller, inputs, tmp_path / str(i))
        assert target.file_bytes(path) == target.stored_bytes(graph, shapes[-1])[0]
        found = target.load(path, 1)({name: value.numpy() for name, value in inputs.items()})["logits"]
        assert np.allclose(found, output(smaller, inputs).numpy(), atol=1e-5)
    (vocabulary,) = graph.vocabularies
    tables = 4 * graph.axes[graph.axis_index(vocabulary.axis)].size * (2 if vocabulary.heads else 1)
    assert [int(graph.table_bytes(each)[0]) for each in shapes] == [0, tables]


def test_a_dropped_token_takes_the_row_of_the_nearest_one_that_stays():
    model, inputs, data = case("bert")
    with torch.no_grad():
        weight = model.bert.embeddings.word_embeddings.weight
        weight[7] = 0.3 * weight[21]
    smaller = compress(model, TRIM, inputs, data)
    other = {**inputs, "input_ids": torch.where(inputs["input_ids"] == 21, 7, inputs["input_ids"])}
    assert torch.equal(output(smaller, other), output(smaller, inputs))


def test_special_tokens_stay_and_rare_ones_may_go():
    model, inputs, data = case("bert")
    data.special_tokens = (58,)
    graph = trace(model, inputs)
    (axis,) = [vocabulary.axis for vocabulary in graph.vocabularies]
    counts = token_counts(model, graph, "train", data)[axis]
    assert counts[58] == counts[model.config.pad_token_id] == np.inf
    assert counts[3] == (inputs["input_ids"] == 3).sum()

    def kept(**settings):
        return compress(model, [{"trim_vocabulary": settings}], inputs, data).compareto_structure["kept"][axis]

    assert {0, *USED, 58} <= set(kept())
    assert kept(min_count=1000) == [0, 58]
    assert kept(min_count=1000, keep=(40,)) == [0, 40, 58]


def test_report_is_read_only_where_it_is_named():
    model, inputs, data = case("lstm")
    compress(model, TRIM, inputs, data)
    assert data.read == ["train"]
    compress(model, [{"trim_vocabulary": {"splits": ["train", "report"]}}], inputs, data)
    assert data.read == ["train", "train", "report"]


@pytest.mark.parametrize("order", ["before", "between", "after"])
def test_it_stands_anywhere_among_steps_that_cut_and_train(order, tmp_path):
    model, inputs, data = case("llama")
    steps = [{"prune": {"ratio": {"hidden": 0.5}}}, {"distill": {"steps": 2, "alpha": 0.5}}, {"prune": {"ratio": {"ffn": 0.5}}}]
    steps.insert({"before": 0, "between": 1, "after": 3}[order], TRIM[0])
    smaller = compress(model, steps, inputs, data)
    assert smaller.model.embed_tokens.weight is smaller.lm_head.weight
    assert smaller.model.embed_tokens.weight.shape[1] == 16
    assert smaller.model.embed_tokens.num_embeddings < 16
    save(smaller, tmp_path)
    assert torch.equal(output(load(tmp_path), inputs), output(smaller, inputs))
    unseen = {**inputs, "input_ids": torch.full((2, 10), 60)}
    assert torch.equal(output(load(tmp_path), unseen), output(smaller, unseen))


@pytest.mark.parametrize("first", [0, 1])
def test_an_output_layer_can_be_factorised_before_and_after(first, tmp_path):
    model, inputs, data = case("qwen3")
    steps = [*TRIM, {"low_rank": {"rank": 0.25}}]
    smaller = compress(model, steps[first:] + steps[:first], inputs, data)
    assert "lm_head" in smaller.compareto_structure["factors"]
    assert output(smaller, inputs).shape == output(model, inputs).shape
    save(smaller, tmp_path)
    assert torch.equal(output(load(tmp_path), inputs), output(smaller, inputs))


def test_a_vocabulary_can_be_trimmed_twice():
    model, inputs, data = case("bert")
    once = compress(model, [{"trim_vocabulary": {"keep": [40, 41]}}], inputs, data)
    twice = compress(model, [{"trim_vocabulary": {"keep": [40, 41]}}, *TRIM], inputs, data)
    direct = compress(model, TRIM, inputs, data)
    assert once.num_parameters() > twice.num_parameters() == direct.num_parameters()
    assert torch.equal(output(twice, inputs), output(direct, inputs))


def test_the_model_is_left_as_it_was():
    model, inputs, data = case("gpt2")
    before = copy.deepcopy(model.state_dict())
    compress(model, TRIM, inputs, data)
    assert type(model.transformer.wte) is nn.Embedding
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Biased(nn.Module):
    """Adds a value for each token that no layer owns."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 4), nn.Linear(4, 20)
        self.head.weight = self.embedding.weight
        self.register_buffer("prior", torch.zeros(20))

    def forward(self, input_ids):
        return self.head(self.embedding(input_ids)) + self.prior


def test_what_cannot_be_trimmed_is_said():
    model, inputs, data = case("bert")
    with pytest.raises(UserError, match="counts the tokens of the data; pass data="):
        compress(model, TRIM, inputs)
    with pytest.raises(CompressionError, match="keep names token 99"):
        compress(model, [{"trim_vocabulary": {"keep": [99]}}], inputs, data)
    with pytest.raises(CompressionError, match="no token occurs 1000 times or more"):
        compress(case("lstm")[0], [{"trim_vocabulary": {"min_count": 1000}}], {"input_ids": inputs["input_ids"]}, data)
    with pytest.raises(UserError, match=r"recipe\[0\].trim_vocabulary.splits"):
        compress(model, [{"trim_vocabulary": {"splits": ["test"]}}], inputs, data)
    with pytest.raises(CompressionError, match="nothing to trim; the model has no embedding that an input indexes"):
        compress(Biased(), TRIM, {"input_ids": inputs["input_ids"] % 20}, data)
    data.inputs = {"pixels": inputs["input_ids"]}
    with pytest.raises(UserError, match="the data has no input input_ids; it has pixels"):
        compress(model, TRIM, inputs, data)
