from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

pytest.importorskip("executorch")

from compressors.targets.executorch_rewriting import drop_whole_slices, keep_pooled_dimensions, plain_attention, set_shapes
from compressors.targets.exported import capture


class Attention(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, x * 2, x + 1, **({} if self.settings else {"attn_mask": mask}), **self.settings)


X = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
LAST_HIDDEN = (torch.arange(5) < 4)[None, None, None].expand(2, 1, 1, 5)


def rewritten(model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Any, list[str]]:
    module = plain_attention(keep_pooled_dimensions(set_shapes(capture(model.eval(), inputs), tuple(inputs.values()))))
    return module, [str(node.target) for node in module.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize(
    ("settings", "mask"),
    [({}, LAST_HIDDEN), ({}, torch.where(LAST_HIDDEN, 0.5, float("-inf"))), ({"is_causal": True}, LAST_HIDDEN), ({"scale": 0.3}, LAST_HIDDEN)],
    ids=["boolean mask", "float mask", "causal", "scale"],
)
def test_attention_in_plain_products_gives_the_same(settings: dict[str, Any], mask: Tensor) -> None:
    model, inputs = Attention(**settings), {"x": X, "mask": mask}
    module, operators = rewritten(model, inputs)
    assert operators.count("aten.bmm.default") == 2
    assert not any("scaled_dot_product" in name for name in operators)
    torch.testing.assert_close(module(X, mask), model(**inputs))


def test_a_row_without_a_key_is_a_mean_of_all() -> None:
    mask = torch.zeros(2, 1, 1, 5, dtype=torch.bool)
    module, _ = rewritten(Attention(), {"x": X, "mask": mask})
    torch.testing.assert_close(module(X, mask), (X + 1).mean(2, keepdim=True).expand_as(X))


def test_pooling_keeps_its_dimensions_for_images_only() -> None:
    class Pooled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((-1, -2)) + x.mean(1).mean((1, 2))[:, None]

    module, operators = rewritten(Pooled(), {"x": X})
    kept = [node.args[2] if len(node.args) > 2 else False for node in module.graph.nodes if node.target is torch.ops.aten.mean.dim]
    assert sorted(kept) == [False, False, True]
    assert "aten.view.default" in operators
    torch.testing.assert_close(module(X), Pooled()(X))


def test_only_slices_that_keep_everything_are_left_out() -> None:
    class Sliced(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :, ::2] + x[:, :, 1:4] + x[:, :, :3]

    module = drop_whole_slices(capture(Sliced(), {"x": X}))
    kept = [node.args[1:] for node in module.graph.nodes if node.target is torch.ops.aten.slice.Tensor]
    assert len(kept) == 3
    torch.testing.assert_close(module(X), Sliced()(X))
