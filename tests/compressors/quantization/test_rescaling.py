"""Which units can be scaled freely, and which cannot."""

import pytest
import torch
from torch import Tensor, nn

from compressors.graph import trace
from compressors.quantization.rescaling import find_widths
from tests.conformance.families import build


def found(model: nn.Module, *inputs: Tensor) -> tuple[set[str], dict[str, str]]:
    widths, reasons = find_widths(trace(model.eval(), inputs, check_cuts=False))
    return {str(width) for width in widths}, reasons


class Between(nn.Module):
    """Two convolutions and something between them."""

    def __init__(self, between) -> None:
        super().__init__()
        self.a, self.b, self.between = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 1), between

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(self.a(x)))


IMAGE = torch.randn(2, 3, 8, 8)


@pytest.mark.parametrize(
    "between",
    [
        nn.Identity(),
        nn.ReLU(),
        nn.LeakyReLU(0.2),
        nn.PReLU(4),
        nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)),
        nn.AdaptiveAvgPool2d(2),
        lambda x: x * x.new_tensor(3.0).view(1, 1, 1),
    ],
    ids=lambda b: type(b).__name__,
)
def test_what_is_positively_homogeneous_lets_scales_pass(between):
    assert found(Between(between), IMAGE)[0] == {"a -> b"}


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (nn.ReLU6(), "hardtanh"),
        (nn.GELU(), "gelu"),
        (torch.sigmoid, "sigmoid"),
        (lambda x: x + 1.0, "add"),
        (lambda x: x * x, "mul"),
        (lambda x: x * torch.relu(x), "mul"),
        (lambda x: x / x.mean((2, 3), keepdim=True), "div"),
        (lambda x: x.flip(1), "flip"),
        (lambda x: torch.cat([x[:, 2:], x[:, :2]], 1), None),
        (nn.GroupNorm(2, 4), "group_norm"),
        (lambda x: torch.softmax(x, 1), "softmax"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_not_says_so(between, reason):
    widths, reasons = found(Between(between), IMAGE)
    assert "a -> b" not in widths
    assert reasons.get("a") == reason


def test_a_batch_norm_scales_for_the_layer_that_it_is_folded_into():
    graph = trace(Between(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())).eval(), (IMAGE,), check_cuts=False)
    (width,), _ = find_widths(graph)
    assert [scaled.name for scaled in width.maker.scaled] == ["between.0.weight", "between.0.bias"]
    assert (width.maker.weight.name, width.maker.norm) == ("a.weight", "between.0")


def test_a_chain_through_a_depthwise_convolution_is_two_widths():
    chain = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    assert found(chain, IMAGE)[0] == {"1 -> 3", "4 -> 6"}


def test_units_that_a_residual_reads_as_well_are_left_alone():
    class Residual(Between):
        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            return self.b(y + torch.relu(y)) + self.b(torch.tanh(y))

    assert "a -> b" not in found(Residual(None), IMAGE)[0]


def test_a_weight_that_two_layers_share_is_left_alone():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    assert found(model, torch.randn(2, 4))[0] == {"0 -> 2", "2 -> 4"}
    model[2].weight = model[0].weight
    assert found(model, torch.randn(2, 4))[0] == set()


FAMILIES = {
    "llama": {"input_layernorm -> q_proj, k_proj, v_proj", "v_proj -> o_proj", "post_attention_layernorm -> gate_proj, up_proj", "up_proj -> down_proj"},
    "bert": {"value -> dense", "LayerNorm -> dense"},
    "gpt2": {"ln_1 -> c_attn", "ln_2 -> c_fc"},
    "mobilenet": set(),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_places_of_a_family(family):
    model, inputs = build(family)
    widths, _ = find_widths(trace(model, inputs, check_cuts=False))
    names = {" -> ".join(", ".join(path.rpartition(".")[2] for path in side.split(", ")) for side in str(width).split(" -> ")) for width in widths}
    assert names == FAMILIES[family]
