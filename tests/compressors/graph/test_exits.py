import pytest
import torch
from torch import nn

from compressors.compressor import GraphEdit
from compressors.graph import trace
from compressors.graph.exit_heads import attach_exits, exit_widths
from compressors.graph.exits import STAGE, Exits, blocks_of, channels_last, exit_points, staged
from compressors.pipeline import compress
from tests.compressors.test_early_exit import TOKENS, Convolutions, Filters, Texts, Tiles, Tracks, bert


@pytest.fixture(scope="module")
def graph():
    return trace(bert(4), TOKENS, check_cuts=False)


def test_depth_is_the_share_of_arithmetic_behind_a_block(graph):
    shares = blocks_of(graph)
    assert list(shares) == [f"bert.encoder.layer.{i}" for i in range(4)]
    assert list(shares.values()) == sorted(shares.values())
    assert shares["bert.encoder.layer.1"] == pytest.approx(0.5, abs=0.05)


def test_stages_follow_each_other_to_the_whole_model_and_its_heads(graph):
    exits = Exits(("bert.encoder.layer.0", "bert.encoder.layer.2"))
    first, second, whole = staged(graph, exits)
    assert [sum(o.op_class == STAGE for o in part.operators) for part in (first, second, whole)] == [1, 2, 3]
    names = [[operator.name for operator in part.operators] for part in (first, second, whole)]
    assert names[1][: len(names[0])] == names[0]
    assert names[2][: len(names[1])] == names[1]
    assert {o.name for o in graph.operators} == {n for n in names[2] if not n.startswith("compareto_exits")}
    assert all(o.module.startswith(("bert.embeddings", "bert.encoder.layer.0", "compareto_exits")) or o.module == "bert" for o in first.operators)
    macs = [int(part.count_macs(part.baseline())[0]) for part in (first, second, whole)]
    assert macs[0] < macs[1] < macs[2]
    assert macs[2] == graph.macs + 2 * 2 * 16 * 4
    assert staged(graph, exits)[0] is first, "priced tables are found again"


@pytest.mark.parametrize("hidden", [None, 6])
def test_parameters_are_those_of_the_model_that_is_made(hidden):
    recipe = [{"early_exit": {"after": ["bert.encoder.layer.1"], "steps": 1, "hidden": hidden}}]
    made = compress(bert(), recipe, TOKENS, Texts())
    graph = trace(bert(), TOKENS, check_cuts=False)
    whole = staged(graph, Exits(("bert.encoder.layer.1",), hidden=hidden))[-1]
    assert whole.parameters == sum(p.numel() for p in made.parameters())


@pytest.mark.parametrize("hidden", [None, 6])
def test_heads_behind_filters_over_time_are_priced_as_they_are_made(hidden):
    inputs, after = {"track": torch.zeros(1, 6, 2)}, ("body.0", "body.1.0")
    recipe = [{"prune": {"ratio": {"channels": 0.5}}}, {"early_exit": {"after": list(after), "steps": 1, "hidden": hidden}}]
    made = compress(Filters().eval(), recipe, inputs, Tracks())
    graph = trace(Filters().eval(), inputs, check_cuts=False)
    shapes = GraphEdit.identity(graph).as_made(made.compareto_structure).shapes(graph)
    first, _, whole = staged(graph, Exits(after, hidden=hidden))
    assert int(whole.count_parameters(shapes)[0]) == sum(p.numel() for p in made.parameters())
    head = [operator.op_class for operator in first.operators if operator.module.startswith("compareto_exits")]
    assert head == [STAGE, "reduction", *(["gemm", "activation"] if hidden else []), "gemm"], "no norm"


class Rearranged(nn.Module):
    """Series behind a sum with what was computed channels last, and behind joined channels; tokens that a convolution has made."""

    def __init__(self):
        super().__init__()
        self.stem, self.mixed, self.more = nn.Conv1d(2, 8, 3, padding=1), nn.Linear(8, 8), nn.Conv1d(8, 4, 1)
        self.sum, self.joined, self.norm, self.head = nn.ReLU(), nn.ReLU(), nn.LayerNorm(12), nn.Linear(12, 3)

    def forward(self, track):
        x = self.stem(track.transpose(1, 2))
        x = self.sum(x + self.mixed(x.transpose(1, 2)).transpose(1, 2))
        x = self.joined(torch.cat([x, self.more(x)], dim=1))
        return self.head(self.norm(x.transpose(1, 2)).mean(1))


@pytest.mark.parametrize("time", [6, 8, 12])
def test_channels_are_told_from_tokens_by_their_axis(time):
    graph = trace(Rearranged().eval(), {"track": torch.zeros(2, time, 2)}, check_cuts=False)
    assert {name: channels_last(graph, tensor) for name, tensor in exit_points(graph).items()} == {
        **dict.fromkeys(("stem", "sum", "more", "joined"), False),
        **dict.fromkeys(("mixed", "norm"), True),
    }


class Windows(nn.Module):
    """Images whose channels are the last dimension, as of Swin: behind a convolution, and behind a linear layer over patches of 2 x 2."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 2, stride=2)
        self.body = nn.ModuleList([nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU()) for width in (8, 6)])
        self.merge, self.head = nn.Linear(32, 6), nn.Linear(6, 3)

    def forward(self, image):
        x = self.stem(image).permute(0, 2, 3, 1)
        x = x + self.body[0](x)
        x = torch.cat([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)
        x = self.merge(x)
        return self.head((x + self.body[1](x)).mean((1, 2)))


@pytest.mark.parametrize("size", [8, 16])
def test_channels_of_images_may_be_last(size):
    inputs = {"image": torch.rand(2, 1, size, size)}
    model = Windows().eval()
    graph = trace(model, inputs, check_cuts=False)
    assert {name: channels_last(graph, exit_points(graph)[name]) for name in ("stem", "body.0", "merge")} == {"stem": False, "body.0": True, "merge": True}
    after = ("body.0", "merge")
    widths, classes = exit_widths(model, graph, after, inputs)
    assert (widths, classes) == ([(8, True), (6, True)], 3)
    attach_exits(model, {**Exits(after).to_plain(), "heads": widths, "classes": classes})
    assert model(**inputs).shape == (2, 3, 3)
    priced = staged(graph, Exits(after))[-1]
    assert int(priced.count_parameters(priced.baseline())[0]) == sum(p.numel() for p in model.parameters())


def test_pruned_channels_make_the_heads_thinner():
    tiles = Tiles(32)
    recipe = [{"prune": {"ratio": {"channels": 0.5}}}, {"early_exit": {"after": ["body.0"], "steps": 1}}]
    made = compress(Convolutions().eval(), recipe, {"image": torch.zeros(1, 1, 8, 8)}, tiles)
    graph = trace(Convolutions().eval(), {"image": torch.zeros(1, 1, 8, 8)}, check_cuts=False)
    shapes = GraphEdit.identity(graph).as_made(made.compareto_structure).shapes(graph)
    assert int(staged(graph, Exits(("body.0",)))[-1].count_parameters(shapes)[0]) == sum(p.numel() for p in made.parameters())


def test_the_end_of_the_model_is_no_exit(graph):
    assert "classifier" not in exit_points(graph)
    assert "bert.pooler" in exit_points(graph)
