from pathlib import Path

import pytest
import torch
from torch import nn


@pytest.fixture
def witness(script):
    return script("witness")


@pytest.fixture
def pricing(script):
    return script("pricing")


class Tied(nn.Module):
    """A convolution with its norm, and one matrix that is used twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(self.norm(self.conv(x)).mean((2, 3))))


def test_the_witness_counts_what_a_hand_counts(witness):
    model, inputs = Tied().eval(), {"x": torch.randn(1, 3, 8, 8)}
    assert witness.count_parameters(model) == 4 * 3 * 9 + 4 + 4 + 16
    assert witness.count_macs(model, inputs) == 64 * 4 * 27 + 2 * 16
    # 108 weights of 4 bits with 4 scales, 16 of 8 bits with 4; the norm is the convolution's bias.
    assert witness.count_bytes(model, inputs, {"conv.weight": 4, "first.weight": 8}) == (54 + 16) + (16 + 16) + 16


def test_prices_of_the_quickstart_are_those_of_the_models_really_made(pricing):
    result = pricing.compare(Path("quickstart"), recipes=12, exports=1, seed=3)
    assert {name: len(pairs) for name, pairs in result.pairs.items()} == {"parameters": 12, "macs": 12, "bytes": 12}
    assert len({priced for priced, _ in result.pairs["parameters"]}) > 8
    assert len(result.files) == 1
    assert result.differing == []
    assert "12/12" in pricing.table([result])


def test_a_wrong_price_is_reported(pricing):
    result, recipe = pricing.Comparison("digits"), pricing.Recipe.from_plain([])
    result.add("macs", 100, 101, recipe)
    result.add_file(1000, 1015, recipe)
    assert len(result.differing) == 1
    result.add_file(1000, 1021, recipe)
    assert [line.split(" of ")[0] for line in result.differing] == ["digits: macs priced 100, found 101", "digits: bytes priced 1,000, in the file 1,021"]
    assert result.equal("macs") == "0/1"
