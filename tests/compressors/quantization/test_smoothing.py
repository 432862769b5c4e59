"""Outliers of activations move into weights; the function stays the same."""

from dataclasses import dataclass

import pytest
import torch

from compressors.context import Batch, logits_of
from compressors.errors import CompressionError, UserError
from compressors.pipeline import compress
from tests.conformance.families import build

SMOOTH = {"smooth": {}}


@dataclass
class Data:
    """Calibration batches, and nothing else."""

    inputs: dict

    def batches(self, split, **_):
        assert split == "calibration"
        yield Batch(self.inputs, torch.zeros(len(next(iter(self.inputs.values())))))


def outputs(model, inputs):
    with torch.no_grad():
        return logits_of(model(**inputs))


def input_of(model, layer, inputs):
    seen = []
    hook = model.get_submodule(layer).register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    outputs(model, inputs)
    hook.remove()
    return seen[0].abs().flatten(0, -2).amax(0)


def with_outliers():
    model, inputs = build("vit")
    with torch.no_grad():
        for layer in model.vit.layers:
            layer.layernorm_before.weight[3] *= 60
            layer.layernorm_after.bias[5] += 40
    return model, inputs


PRUNE = [{"prune": {"ratio": 0.5}}]


@pytest.mark.parametrize(("family", "before"), [("vit", PRUNE), ("llama", PRUNE), ("gpt2", []), ("convnextv2", [])])
def test_the_function_stays_the_same(family, before):
    model, inputs = build(family)
    plain, lines = outputs(compress(model, before, inputs), inputs), []
    smooth = compress(model, [*before, SMOOTH], inputs, Data(inputs), log=lines.append)
    assert (outputs(smooth, inputs) - plain).abs().max() < 1e-4 * plain.abs().max()
    assert any(not torch.equal(p, model.get_parameter(name)) for name, p in smooth.named_parameters() if p.shape == model.get_parameter(name).shape)
    assert "linear layers, at" in lines[-1]


def test_outliers_shrink_where_normalisations_make_them():
    model, inputs = with_outliers()
    smooth = compress(model, [SMOOTH], inputs, Data(inputs))
    for name in ("vit.layers.0.attention.q_proj", "vit.layers.1.mlp.fc1"):
        before, after = input_of(model, name, inputs), input_of(smooth, name, inputs)
        assert before.max() / before.median() > 15
        assert after.max() / after.median() < before.max() / before.median() / 2


def test_alpha_one_evens_out_the_activations():
    model, inputs = with_outliers()
    smooth = compress(model, [{"smooth": {"alpha": 1.0}}], inputs, Data(inputs))
    torch.testing.assert_close(input_of(smooth, "vit.layers.0.mlp.fc1", inputs), torch.ones(64 // 2), rtol=1e-3, atol=0)


def test_a_post_norm_encoder_says_how_few_places_it_has():
    model, inputs = build("bert")
    lines = []
    compress(model, [SMOOTH], inputs, Data(inputs), log=lines.append)
    assert "inputs of 3 of 14 linear layers, at 3 places" in lines[0]


def test_what_cannot_be_smoothed_is_one_clear_error():
    model, inputs = build("mlp")
    with pytest.raises(UserError, match="smooth: reads calibration data"):
        compress(model, [SMOOTH], inputs)
    model, inputs = build("resnet20")
    with pytest.raises(CompressionError, match="feeds nothing but linear layers"):
        compress(model, [SMOOTH], inputs, Data(inputs))
    model, inputs = build("vit")
    with pytest.raises(CompressionError, match="no place is left; low-rank factors"):
        compress(model, [{"low_rank": {"rank": 0.3}}, SMOOTH], inputs, Data(inputs))
    with pytest.raises(UserError, match=r"less than or equal to 1, got 1\.5"):
        compress(model, [{"smooth": {"alpha": 1.5}}], inputs, Data(inputs))
