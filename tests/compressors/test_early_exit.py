import copy
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from compressors.checkpoint import load, save
from compressors.compressor import GraphEdit
from compressors.context import Batch, logits_of
from compressors.early_exit import EarlyExit
from compressors.errors import CompressionError, UserError
from compressors.graph import trace
from compressors.graph.exits import EXITS, taken
from compressors.pipeline import compress
from compressors.recipe import Recipe


class Tiles:
    """Images of 8x8 whose class is the quadrant that is bright; every other one is blurred by noise."""

    higher_is_better = True

    def __init__(self, examples=192):
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(examples) % 4
        self.images = torch.rand(examples, 1, 8, 8, generator=generator) * torch.where(torch.arange(examples) % 2 == 0, 0.2, 1.2)[:, None, None, None]
        for image, label in zip(self.images, self.labels, strict=True):
            row, column = 4 * (int(label) // 2), 4 * (int(label) % 2)
            image[:, row : row + 4, column : column + 4] += 1

    def batches(self, split, *, seed=None, batch_size=None):
        rows = torch.arange(len(self.labels)) if seed is None else torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(seed))
        for part in rows.split(batch_size or 32):
            yield Batch({"image": self.images[part]}, self.labels[part])

    def steps(self, split, *, batch_size=None):
        return -(-len(self.labels) // (batch_size or 32))

    def loss(self, logits, batch):
        return functional.cross_entropy(logits, batch.labels)

    def score(self, model, split):
        with torch.no_grad():
            logits = logits_of(model(image=self.images))
        logits = logits[:, -1] if logits.dim() == 3 else logits
        return "accuracy", float((logits.argmax(-1) == self.labels).float().mean())


class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        widths = (1, 8, 12, 16)
        blocks = [nn.Sequential(nn.Conv2d(a, b, 3, 1, 1), nn.BatchNorm2d(b), nn.ReLU(), nn.AvgPool2d(2)) for a, b in pairwise(widths)]
        self.body = nn.Sequential(*blocks)
        self.head = nn.Linear(16, 4)

    def forward(self, image):
        return self.head(self.body(image).flatten(1))


class Tracks(Tiles):
    """Series of two numbers, [examples, 6, 2], whose class is the larger one."""

    def __init__(self, examples=96):
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(examples) % 2
        self.tracks = 0.3 * torch.randn(examples, 6, 2, generator=generator) + functional.one_hot(self.labels, 2)[:, None]

    def batches(self, split, *, seed=None, batch_size=None):
        for rows in torch.arange(len(self.labels)).split(batch_size or 32):
            yield Batch({"track": self.tracks[rows]}, self.labels[rows])

    def score(self, model, split):
        with torch.no_grad():
            logits = model(track=self.tracks)
        return "accuracy", float((logits[:, -1].argmax(-1) == self.labels).float().mean())


class Filters(nn.Module):
    """Convolutions over time; each block returns [examples, channels, time]."""

    def __init__(self, widths=(2, 8, 12, 8), classes=2):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.ModuleList(nn.Sequential(nn.Conv1d(a, b, 3, padding=1), nn.BatchNorm1d(b), nn.ReLU()) for a, b in pairwise(widths))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, track):
        x = track.transpose(1, 2)
        for block in self.body:
            x = block(x)
        return self.head(x.mean(-1))


class Encoder(nn.Module):
    """torch's transformer, in which tokens come first by default: [tokens, examples, width]."""

    def __init__(self, batch_first=False):
        super().__init__()
        torch.manual_seed(0)
        self.batch_first = batch_first
        self.stem = nn.Linear(2, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=batch_first)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 2)

    def forward(self, track):
        x = self.stem(track)
        x = self.body(x if self.batch_first else x.transpose(0, 1))
        return self.head(x.mean(1 if self.batch_first else 0))


@pytest.fixture(scope="module")
def tiles():
    return Tiles()


@pytest.fixture(scope="module")
def convolutions():
    torch.manual_seed(0)
    return Convolutions().eval()


@pytest.fixture(scope="module")
def staged(tiles, convolutions):
    recipe = [{"prune": {"ratio": {"channels": 0.25}}}, {"early_exit": {"after": ["body.0", 0.6], "epochs": 6, "learning_rate": 0.02, "threshold": 0.7}}]
    return compress(convolutions, recipe, {"image": torch.zeros(1, 1, 8, 8)}, tiles)


def bert(layers=3):
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=24, vocab_size=50, num_labels=4)
    return transformers.BertForSequenceClassification(config).eval()


TOKENS = {"input_ids": torch.ones(2, 6, dtype=torch.long), "attention_mask": torch.ones(2, 6, dtype=torch.long)}


def test_every_stage_learns_to_tell_the_classes(staged, tiles):
    with torch.no_grad():
        logits = staged(image=tiles.images)
    assert logits.shape == (192, 3, 4)
    right = (logits.argmax(-1) == tiles.labels[:, None]).float().mean(dim=0)
    assert (right > 0.7).all(), right
    assert staged.compareto_structure["exits"]["after"] == ["body.0", "body.1"]
    assert staged.compareto_structure["exits"]["threshold"] == 0.7
    assert not staged.training


def test_an_example_leaves_where_it_is_first_sure():
    logits = np.log(np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.3, 0.7]]]))
    found, stages = taken(logits, 0.8)
    assert stages.tolist() == [0, 1]
    np.testing.assert_allclose(np.exp(found), [[0.9, 0.1], [0.3, 0.7]])
    assert taken(logits, 0.0)[1].tolist() == [0, 0]
    assert taken(logits, 1.0)[1].tolist() == [1, 1]
    assert taken(logits, None)[1].tolist() == [1, 1]


def test_the_model_that_was_given_is_left_alone(staged, convolutions):
    assert convolutions(torch.zeros(1, 1, 8, 8)).shape == (1, 4)
    assert not any(name.startswith(EXITS) for name, _ in convolutions.named_modules())


def test_a_copy_has_exits_of_its_own(staged, tiles):
    other = copy.deepcopy(staged)
    with torch.no_grad():
        expected = staged(image=tiles.images[:4])
        for parameter in other.parameters():
            parameter.zero_()
        assert other(image=tiles.images[:4]).abs().max() == 0
        assert torch.equal(staged(image=tiles.images[:4]), expected)


def test_exits_alone_leave_the_final_outputs_as_they_are(tiles, convolutions):
    recipe = [{"early_exit": {"after": 0.5, "train": "exits", "steps": 12, "learning_rate": 0.02}}]
    staged = compress(convolutions, recipe, {"image": torch.zeros(1, 1, 8, 8)}, tiles)
    with torch.no_grad():
        torch.testing.assert_close(staged(image=tiles.images)[:, -1], convolutions(tiles.images))
    assert all(parameter.requires_grad for parameter in staged.parameters())


def test_a_saved_model_comes_back_with_its_exits(staged, tiles, convolutions, tmp_path):
    save(staged, tmp_path)
    with torch.no_grad():
        assert torch.equal(load(tmp_path, convolutions)(image=tiles.images[:4]), staged(image=tiles.images[:4]))


def test_padding_does_not_matter_to_a_texts_exits():
    staged = compress(bert(), [{"early_exit": {"after": ["bert.encoder.layer.*"], "steps": 1}}], TOKENS, Texts())
    assert staged.compareto_structure["exits"]["after"] == [f"bert.encoder.layer.{i}" for i in range(3)]
    tokens = torch.tensor([[5, 6, 7, 8]])
    padded = {"input_ids": functional.pad(tokens, (0, 3), value=9), "attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0, 0]])}
    with torch.no_grad():
        torch.testing.assert_close(staged(**padded), staged(input_ids=tokens, attention_mask=torch.ones_like(tokens)), atol=1e-5, rtol=1e-5)


class Texts:
    higher_is_better = True

    def batches(self, split, *, seed=None, batch_size=None):
        yield Batch(dict(TOKENS), torch.tensor([0, 1]))

    def steps(self, split, *, batch_size=None):
        return 1

    def loss(self, logits, batch):
        return functional.cross_entropy(logits, batch.labels)

    def score(self, model, split):
        return "accuracy", 0.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"threshold": 1.2}, "recipe[0].early_exit.threshold: Input should be less than or equal to 1, got 1.2"),
        ({"threshold": -0.1}, "recipe[0].early_exit.threshold: Input should be greater than or equal to 0, got -0.1"),
        ({"epochs": 1}, "give either epochs or steps"),
        ({"after": []}, "at least 1 item"),
    ],
)
def test_a_wrong_setting_is_one_clear_error(changes, said):
    with pytest.raises(UserError, match=None) as error:
        Recipe.from_plain([{"early_exit": {"after": [0.5], "steps": 1, **changes}}])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_exit_after_a_block_that_is_not_there_is_one_clear_error(convolutions, tiles):
    with pytest.raises(UserError) as error:
        compress(convolutions, [{"early_exit": {"after": ["body.7"], "steps": 1}}], {"image": torch.zeros(1, 1, 8, 8)}, tiles)
    assert str(error.value).startswith("recipe[0].early_exit.after: 'body.7' is no block that the model could exit after; such as: body.0, body.1")


@pytest.mark.parametrize("hidden", [None, 5])
def test_an_exit_of_a_series_reads_the_mean_of_each_channel(hidden):
    tracks = Tracks()
    recipe = [{"early_exit": {"after": ["body.0", 0.6], "steps": 60, "learning_rate": 0.02, "hidden": hidden}}]
    made = compress(Filters().eval(), recipe, {"track": torch.zeros(1, 6, 2)}, tracks)
    assert made.compareto_structure["exits"]["heads"] == [[8, False], [12, False]]
    with torch.no_grad():
        logits = made(track=tracks.tracks)
        block = made.body[0](tracks.tracks.transpose(1, 2))
        head = made.get_submodule(EXITS)[0]
        torch.testing.assert_close(head(block, None), logits[:, 0])
        torch.testing.assert_close(head(block[:, :, torch.randperm(6)], None), logits[:, 0])
        assert not torch.allclose(head(block[:, torch.arange(8).roll(1)], None), logits[:, 0], atol=1e-3)
    assert ((logits.argmax(-1) == tracks.labels[:, None]).float().mean(0) > 0.9).all()


@pytest.mark.parametrize("examples", [1, 4, 6])
def test_blocks_in_which_tokens_come_first_have_no_exits(examples):
    graph = trace(Encoder().eval(), {"track": torch.zeros(examples, 6, 2)})
    (problem,) = EarlyExit(after=("body.layers.0",), steps=1).problems(graph)
    assert problem[1].startswith(f"body.layers.0 returns [6, {examples}, 8]; accepted: a block that returns [examples, width], [examples, tokens, width]")
    (problem,) = EarlyExit(after=(0.5,), steps=1).problems(graph)
    assert f"no numbered blocks that a depth of 0.5 could stand for (body.layers.0 returns [6, {examples}, 8])" in problem[1]
    with pytest.raises(CompressionError, match=r"none of body\.layers\.0 is a block that is there"):
        EarlyExit(after=("body.layers.0",), steps=1).plan(graph, {}, GraphEdit.identity(graph))
    graph = trace(Encoder(batch_first=True).eval(), {"track": torch.zeros(examples, 6, 2)})
    assert list(EarlyExit(after=("body.layers.0", 0.5), steps=1).problems(graph)) == []


def test_a_model_with_one_output_has_no_exits():
    recipe = [{"early_exit": {"after": ["body.0"], "steps": 1}}]
    with pytest.raises(UserError, match=r"after: the model's outputs are \[examples, 1\], .* accepted: a classifier of at least two classes"):
        compress(Filters(classes=1).eval(), recipe, {"track": torch.zeros(1, 6, 2)}, Tracks())


@pytest.mark.parametrize("kind", ["regression", "multi-label"])
def test_data_without_classes_is_refused_if_it_tells(kind):
    tracks = Tracks()
    tracks.head = SimpleNamespace(kind=kind)
    with pytest.raises(CompressionError, match=f"early_exit: the outputs of {kind} are no classes, .* accepted: a task of one class an example"):
        compress(Filters().eval(), [{"early_exit": {"after": ["body.0"], "steps": 1}}], {"track": torch.zeros(1, 6, 2)}, tracks)


def test_a_block_that_was_dropped_has_no_exit():
    graph = trace(bert(4), TOKENS, check_cuts=False)
    stack = next(axis for axis in graph.axes if axis.kind == "blocks")
    step = EarlyExit(after=("bert.encoder.layer.*",), steps=1)
    cut = Recipe(()).plan(graph, {})
    assert cut == ()
    edit = GraphEdit.identity(graph).cut({stack.name: np.array([0, 2, 3])})
    assert step.plan(graph, {}, edit).exits.after == tuple(f"bert.encoder.layer.{i}" for i in (0, 2, 3))
    with pytest.raises(CompressionError, match="is a block that is there"):
        EarlyExit(after=("bert.encoder.layer.1",), steps=1).plan(graph, {}, edit)


def test_what_does_not_know_exits_may_not_follow():
    with pytest.raises(UserError, match="distill stands after early_exit"):
        Recipe.from_plain([{"early_exit": {"after": [0.5], "steps": 1}}, {"distill": {"steps": 1}}])


def test_another_threshold_is_the_same_training():
    one, other = (Recipe.from_plain([{"early_exit": {"after": [0.5], "steps": 1, "threshold": t}}]) for t in (0.5, 0.9))
    assert one.fingerprint != other.fingerprint
    assert one.trained == other.trained
