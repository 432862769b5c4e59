from typing import Any

import pytest
import torch
from torch import nn

from compressors.errors import CompressionError, UserError
from compressors.pipeline import compress
from compressors.recipe import Recipe

PRUNE: list[dict[str, Any]] = [{"prune": {"ratio": {"channels": 0.5}}}]
INPUTS = (torch.zeros(2, 3, 8, 8),)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)).eval()


def test_a_pruned_copy_leaves_the_model_as_it_was() -> None:
    original = model()
    before = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    smaller = compress(original, PRUNE, INPUTS)
    assert [tuple(p.shape) for p in smaller.parameters()] == [(4, 3, 3, 3), (4,), (4,), (4,), (10, 144), (10,)]
    assert smaller(*INPUTS).shape == (2, 10)
    assert all(torch.equal(tensor, before[name]) for name, tensor in original.state_dict().items())


def test_a_recipe_and_its_plain_list_mean_the_same() -> None:
    a, b = compress(model(), PRUNE, INPUTS), compress(model(), Recipe.from_plain(PRUNE), {"input": INPUTS[0]})
    x = torch.randn(3, 3, 8, 8)
    assert torch.equal(a(x), b(x))


def test_an_empty_recipe_is_a_copy() -> None:
    original = model()
    same = compress(original, [], INPUTS)
    assert same is not original
    assert torch.equal(same(*INPUTS), original(*INPUTS))


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ([{"prune": {"ratio": 0.5, "criterion": "taylor"}}], "needs calibration data"),
        ([{"prune": {"ratio": 0.5}}, {"distill": {"epochs": 1}}], r"recipe\[1\]\.distill: reads training data"),
        ([{"prune": {"ratio": 0.5, "exclude": "hed*"}}], "'hed\\*' matches nothing"),
        ([{"prun": {"ratio": 0.5}}], "did you mean 'prune'"),
    ],
)
def test_what_the_caller_forgot_is_said(recipe: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(UserError, match=said):
        compress(model(), recipe, INPUTS)


def test_the_copy_is_in_the_mode_of_the_model_module_by_module() -> None:
    original = model().train()
    original[1].eval()
    smaller = compress(original, PRUNE, INPUTS)
    assert [module.training for module in smaller.modules()] == [module.training for module in original.modules()]
    assert (smaller.training, smaller[1].training) == (True, False)  # type: ignore[index]
    assert not compress(model(), PRUNE, INPUTS).training


def test_a_compressed_model_is_not_compressed_again() -> None:
    with pytest.raises(UserError, match="put all steps into one recipe"):
        compress(compress(model(), PRUNE, INPUTS), PRUNE, INPUTS)


class Variadic(nn.Sequential):
    def forward(self, *inputs: Any) -> Any:
        return super().forward(inputs[0])


def test_inputs_without_names_are_said() -> None:
    with pytest.raises(UserError, match=r"takes its inputs as \*args; give them names"):
        compress(Variadic(nn.Conv2d(3, 8, 3)), PRUNE, INPUTS)


@pytest.mark.parametrize("ratio", [1, 1.5, -0.1, {"channels": 1.0}])
def test_a_ratio_that_would_empty_a_layer_is_said(ratio: Any) -> None:
    with pytest.raises(UserError, match=r"recipe\[0\].prune.ratio.* must be a number in \[0, 1\)"):
        compress(model(), [{"prune": {"ratio": ratio}}], INPUTS)


def test_any_ratio_below_one_keeps_a_unit() -> None:
    smaller = compress(model(), [{"prune": {"ratio": {"channels": 0.999}}}], INPUTS)
    assert smaller[0].out_channels == 1  # type: ignore[index]


def test_an_unknown_target_is_said() -> None:
    with pytest.raises(UserError, match="onxruntime"):
        compress(model(), PRUNE, INPUTS, target="onxruntime")


def test_kinds_that_the_model_lacks_are_said() -> None:
    with pytest.raises(CompressionError, match="heads"):
        compress(model(), [{"prune": {"ratio": {"heads": 0.5}}}], INPUTS)
