"""The same function, with ranges that match."""

import copy

import pytest
import torch
from torch import nn

from compressors.checkpoint import load, save
from compressors.context import Context, logits_of
from compressors.errors import CompressionError
from compressors.pipeline import compress
from compressors.quantization.unit_scales import check_same_function
from tests.conformance.families import build

IMAGES = {"input": torch.randn(4, 3, 8, 8)}
EQUALIZE = {"equalize": {}}


def chain() -> nn.Module:
    """Expand, depthwise, grouped, project; with units whose weights differ by orders of magnitude."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.BatchNorm2d(8),
        nn.LeakyReLU(0.1),
        nn.Conv2d(8, 12, 1, groups=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 5),
    )
    with torch.no_grad():
        for module in (model[1], model[4]):
            module.running_var.uniform_(0.5, 2)
            module.running_mean.normal_()
            module.weight.copy_(torch.logspace(-2, 2, 8)[torch.randperm(8)])
            module.bias.normal_()
    return model.eval()


def difference(a: nn.Module, b: nn.Module, inputs: dict) -> float:
    with torch.no_grad():
        expected, found = logits_of(a(**inputs)), logits_of(b(**inputs))
    return float((expected - found).abs().max() / expected.abs().max())


def folded_ranges(model: nn.Module, layer: int, norm: int | None, dim: int) -> torch.Tensor:
    weight = model[layer].weight.detach()
    if norm is not None:
        weight = weight * (model[norm].weight / (model[norm].running_var + model[norm].eps).sqrt()).view(-1, 1, 1, 1)
    return weight.abs().movedim(dim, 0).flatten(1).amax(1)


def test_both_layers_of_a_pair_use_their_ranges_alike():
    model, lines = chain(), []
    equal = compress(model, [EQUALIZE], IMAGES, log=lines.append)
    assert difference(model, equal, IMAGES) < 1e-4
    assert not torch.allclose(folded_ranges(model, 0, 1, 0), folded_ranges(model, 3, 4, 0), rtol=0.5)
    torch.testing.assert_close(folded_ranges(equal, 0, 1, 0), folded_ranges(equal, 3, 4, 0), rtol=0.01, atol=0)
    last = torch.cat([folded_ranges(equal, 6, None, 1)])
    assert len(last) == 4
    assert lines[0].startswith("equalize: 3 pairs")
    assert any("1 -> 3" in line and "now 1.0x" in line for line in lines)


def test_a_flattened_channel_is_one_unit():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    with torch.no_grad():
        model[0].weight.mul_(torch.tensor([1.0, 10, 100, 0]).view(4, 1, 1, 1))
    equal = compress(model, [EQUALIZE], IMAGES)
    assert difference(model, equal, IMAGES) < 1e-5
    made = equal[0].weight.detach().abs().flatten(1).amax(1)
    torch.testing.assert_close(made[:3], equal[3].weight.detach().abs().view(5, 4, 36).amax((0, 2))[:3])
    assert torch.equal(equal[3].weight[:, -36:], model[3].weight[:, -36:]), "a unit that is nothing stays as it is"


PRUNE = [{"prune": {"ratio": 0.5}}]


@pytest.mark.parametrize(("family", "before"), [("resnet20", PRUNE), ("bert", []), ("vit", PRUNE), ("llama", PRUNE), ("squeeze_excitation", [])])
def test_the_function_stays_the_same(family, before):
    model, inputs = build(family)
    plain = compress(model, before, inputs)
    equal = compress(model, [*before, EQUALIZE], inputs)
    assert difference(plain, equal, inputs) < 1e-4
    changed = [name for name, p in equal.named_parameters() if not torch.equal(p, plain.get_parameter(name))]
    assert changed


def test_what_earlier_steps_have_made_is_left_alone():
    model, inputs = build("basic_resnet")
    lines = []
    shared = {"share_weights": {"groups": [["*.stages.0.layers.1", "*.stages.0.layers.2"]]}}
    equal = compress(model, [shared, {"low_rank": {"rank": 0.3, "include": "*shortcut*"}}, EQUALIZE], inputs, log=lines.append)
    assert difference(compress(model, [shared, {"low_rank": {"rank": 0.3, "include": "*shortcut*"}}], inputs), equal, inputs) < 1e-4
    assert any("2 for a shared weight" in line and "1 for low-rank factors" in line for line in lines)
    assert equal.resnet.encoder.stages[0].layers[1].layer[0].convolution.weight is equal.resnet.encoder.stages[0].layers[2].layer[0].convolution.weight


def test_a_checkpoint_is_the_equalised_model(tmp_path):
    model, inputs = build("vit")
    equal = compress(model, [{"prune": {"ratio": 0.3}}, EQUALIZE], inputs)
    save(equal, tmp_path / "vit")
    assert difference(equal, load(tmp_path / "vit"), inputs) == 0


def test_patterns_select_both_layers_of_a_pair():
    model, inputs = build("plain_cnn")
    equal = compress(model, [{"equalize": {"exclude": "7"}}], inputs)
    changed = {name.split(".")[0] for name, p in equal.named_parameters() if not torch.equal(p, model.get_parameter(name))}
    assert changed == {"1", "4"}


def test_where_nothing_can_be_scaled_the_error_says_why():
    model, inputs = build("mobilenet")
    with pytest.raises(CompressionError, match=r"no two layers between which units can be scaled; not scaled: .* for hardtanh"):
        compress(model, [EQUALIZE], inputs)


def test_a_model_that_would_compute_something_else_is_refused():
    model, inputs = build("plain_cnn")
    context = Context(None, model, None, inputs, None)
    check_same_function(model, copy.deepcopy(model), context)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[4].weight.mul_(1.1)
    with pytest.raises(CompressionError, match="change the outputs by"):
        check_same_function(model, other, context)
