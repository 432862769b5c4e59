"""Attention in a window: equal where it sees everything, blind beyond, cheaper, and the same in a file."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from compressors.checkpoint import load, save
from compressors.context import logits_of
from compressors.errors import CompressionError, UserError
from compressors.graph import trace
from compressors.graph.windows import windowed_attention
from compressors.pipeline import compress
from compressors.recipe import Recipe
from compressors.targets.onnx_session import OnnxSession
from compressors.targets.onnxruntime import OnnxRuntime
from search.space import Space
from tests.compressors.applied import applied
from tests.conformance.families import build

TARGET = OnnxRuntime()
TOKENS = 40


def texts(length=TOKENS):
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(2, length, dtype=torch.int64)
    mask[1, length * 2 // 3 :] = 0
    return {"input_ids": torch.randint(0, 60, (2, length), generator=generator), "attention_mask": mask}


def bert(layers=2):
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=layers, num_attention_heads=4, intermediate_size=48, max_position_embeddings=128, num_labels=5
    )
    return BertForSequenceClassification(config).eval()


def output(model, inputs):
    with torch.no_grad():
        return logits_of(model(**inputs))


@pytest.mark.parametrize("masked", ["no mask", "padding", "bool", "added"])
@pytest.mark.parametrize(("tokens", "window"), [(17, 4), (16, 4), (5, 4), (9, 1), (12, 30)])
def test_it_is_full_attention_with_a_mask(tokens, window, masked):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, tokens, 8) for _ in range(3))
    near = (torch.arange(tokens)[:, None] - torch.arange(tokens)).abs() <= window
    mask = {
        "no mask": None,
        "padding": (torch.arange(tokens) < torch.tensor([tokens, tokens - 1])[:, None])[:, None, None],
        "bool": torch.rand(2, 1, tokens, tokens) < 0.7 + torch.eye(tokens),
        "added": torch.randn(1, 3, tokens, tokens),
    }[masked]
    whole = near if mask is None else near & mask if mask.dtype == torch.bool else torch.where(near, mask, -torch.inf)
    expected = scaled_dot_product_attention(query, key, value, whole, scale=0.3)
    assert torch.allclose(windowed_attention(query, key, value, mask, scale=0.3, window=window), expected, atol=1e-6)


def test_a_padding_token_that_sees_nothing_is_no_nan():
    query = torch.randn(1, 1, 12, 4)
    mask = (torch.arange(12) < 2)[None, None, None]
    assert torch.isfinite(windowed_attention(query, query, query, mask, window=2)).all()


def test_a_wide_window_changes_nothing_and_a_token_beyond_a_narrow_one_has_no_influence():
    model, inputs = bert(), texts()
    wide = compress(model, [{"local_attention": {"window": TOKENS}}], inputs)
    assert torch.equal(output(wide, inputs), output(model, inputs))
    local = compress(model, [{"local_attention": {"window": 3}}], inputs)

    def hidden(network, ids):
        with torch.no_grad():
            return network.bert(input_ids=ids).last_hidden_state[0]

    ids = inputs["input_ids"][:1]
    other = ids.clone()
    other[0, 20] = (other[0, 20] + 1) % 60
    changed = (hidden(local, ids) - hidden(local, other)).abs().amax(1) > 0
    # Two layers, each of three tokens to each side.
    assert changed.nonzero().flatten().tolist() == list(range(14, 27))
    assert ((hidden(model, ids) - hidden(model, other)).abs().amax(1) > 0).all()


@pytest.mark.parametrize(("family", "window"), [("bert", 4), ("bert", 7), ("vit", 2)])
def test_the_price_is_that_of_the_model_really_made(family, window):
    model, inputs = (bert(), texts()) if family == "bert" else build("vit")
    model = model.eval()
    smaller, graph, shapes = applied([{"prune": {"ratio": {"heads": 0.5}}}, {"local_attention": {"window": window}}], model, inputs)
    again = trace(smaller, inputs, check_cuts=False)
    assert set(smaller.compareto_structure["windows"]) == set(graph.windowable)
    assert graph.count_macs(shapes)[0] == again.macs
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        smaller(**inputs)
    assert again.macs == counter.get_total_flops() / 2
    full = applied([{"prune": {"ratio": {"heads": 0.5}}}], model, inputs)[2]
    assert graph.count_macs(shapes)[0] < graph.count_macs(full)[0]
    assert graph.count_parameters(shapes)[0] == graph.count_parameters(full)[0] == sum(p.numel() for p in smaller.parameters())


def test_where_blocks_would_save_nothing_attention_stays_full():
    model, inputs = bert(), texts()
    assert compress(model, [{"local_attention": {"window": 14}}], inputs).compareto_structure["windows"] == {}
    some = compress(model, [{"local_attention": {"window": 4, "include": "*.layer.1"}}], inputs)
    assert list(some.compareto_structure["windows"]) == ["bert.encoder.layer.1.attention.self"]


def agrees(model, session, inputs, tolerance):
    ours, theirs = output(model, inputs).numpy(), session({name: value.numpy() for name, value in inputs.items()})["logits"]
    np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(ours).max())


def test_the_file_gives_the_models_answers(tmp_path):
    model, inputs = build("vit")
    local = applied([{"local_attention": {"window": 2}}], model.eval(), inputs)[0]
    assert local.compareto_structure["windows"]
    agrees(local, OnnxSession(TARGET.export(local, inputs, tmp_path), 1), inputs, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("quantize", [None, {"mode": "dynamic"}], ids=str)
def test_the_file_gives_the_models_answers_at_any_length(quantize, tmp_path):
    steps = [{"local_attention": {"window": 4}}, *([{"quantize": quantize}] if quantize else [])]
    local = applied(steps, bert(1), texts())[0]
    session = OnnxSession(TARGET.export(local, texts(), tmp_path), 1)
    for length in (TOKENS, 23):
        agrees(local, session, texts(length), 0.02 if quantize else 1e-5)


def test_a_checkpoint_is_the_same_model(tmp_path):
    inputs = texts()
    local = compress(bert(), [{"local_attention": {"window": 4}}, {"prune": {"ratio": 0.3}}], inputs)
    why = save(local, tmp_path)
    assert "attends to a window" in why
    assert torch.equal(output(load(tmp_path), inputs), output(local, inputs))


def test_training_goes_through_it():
    inputs = texts()
    local = compress(bert(), [{"local_attention": {"window": 4}}], inputs).train()
    local(**inputs).logits.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for n, p in local.named_parameters() if "query" in n)


def test_a_search_varies_the_window():
    space = Space.from_plain([{"optional": {"local_attention": {"window": {"choice": [4, 8, 16]}}}}])
    rng = np.random.default_rng(0)
    found = [space.recipe(space.sample(rng)).steps for _ in range(30)]
    assert {step.window for steps in found for step in steps} == {4, 8, 16}
    assert {len(steps) for steps in found} == {0, 1}


def test_what_cannot_be_done_says_why():
    with pytest.raises(UserError, match=r"window.*greater than or equal to 1, got 0"):
        Recipe.from_plain([{"local_attention": {"window": 0}}])
    llama, inputs = build("llama")
    with pytest.raises(UserError, match=r"local_attention.window: 4: no full self-attention .* causal"):
        compress(llama, [{"local_attention": {"window": 4}}], inputs)
    step = Recipe.from_plain([{"local_attention": {"window": 4}}])
    with pytest.raises(CompressionError, match=r"local_attention: window 4: no full self-attention .* the model has none"):
        step.plan(trace(nn.Sequential(nn.Linear(4, 4)), {"input": torch.randn(2, 4)}), {})
    with pytest.raises(UserError, match=r"include: '\*.layer.9' matches no attention.*accepted: bert.encoder.layer.0.attention.self"):
        compress(bert(), [{"local_attention": {"window": 4, "include": "*.layer.9"}}], texts())
