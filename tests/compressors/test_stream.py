import numpy as np
import pytest
import torch

from compressors.context import Batch
from compressors.stream import Stream, indexed, pieces


class Numbered:
    """Twenty-one examples whose input says number and variant."""

    batch_size = 4
    higher_is_better = True

    def __init__(self, augments=True):
        self.augments = augments

    def examples(self, split):
        return 21

    def take(self, split, rows, *, view=None):
        return Batch({"x": torch.tensor([[row, -1 if view is None else view] for row in rows])}, torch.from_numpy(rows), rows, view)

    def batches(self, split, *, seed=None, batch_size=None):
        yield self.take(split, np.arange(21))

    def steps(self, split, *, batch_size=None):
        return 1

    def loss(self, logits, batch):
        return logits.sum()

    def score(self, model, split):
        return "accuracy", 0.5


def seen(batches):
    return torch.cat([batch.inputs["x"] for batch in batches]).tolist()


@pytest.mark.parametrize(("count", "size"), [(21, 4), (20, 4), (3, 8), (1, 1), (9, 8), (5, 1)])
def test_pieces_cover_everything_and_leave_no_example_alone(count, size):
    parts = [list(range(count))[piece] for piece in pieces(count, size)]
    assert [row for part in parts for row in part] == list(range(count))
    assert size == 1 or count == 1 or all(len(part) > 1 for part in parts)


def test_an_epoch_has_every_example_once_in_an_order_of_the_trainings_seed():
    stream = Stream(Numbered(), views=3)
    first, other = seen(stream.epoch(0, seed=5)), seen(stream.epoch(0, seed=6))
    assert first != other
    assert sorted(first) == sorted(other) == [[row, 0] for row in range(21)]
    assert stream.steps == len(list(stream.epoch(0, seed=5))) == 5


def test_variants_take_turns_whatever_the_seed():
    stream = Stream(Numbered(), views=2)
    assert [seen(stream.epoch(epoch, seed=epoch * 7))[0][1] for epoch in range(4)] == [0, 1, 0, 1]
    assert [seen(Stream(Numbered(), views=3, first_view=2).epoch(epoch, seed=0))[0][1] for epoch in range(3)] == [2, 0, 1]


def test_data_that_is_not_augmented_has_one_variant():
    stream = Stream(Numbered(augments=False), views=8)
    assert {view for _, view in seen(stream.epoch(5, seed=1))} == {0}


def test_examples_that_are_held_out_are_never_trained_on():
    stream = Stream(Numbered(), held_out=0.2)
    held = seen(stream.held())
    assert len(held) == 4
    assert {view for _, view in held} == {-1}
    trained = {row for seed in range(5) for row, _ in seen(stream.epoch(seed, seed))}
    assert trained == set(range(21)) - {row for row, _ in held}
    assert len({view for epoch in range(3) for _, view in seen(stream.epoch(epoch, 9))}) == 3, "augmented anew in each pass"


def test_without_numbers_passes_are_those_of_the_data(points):
    assert indexed(points) is None
    for ours, theirs in zip(Stream(points, 16, views=4).epoch(2, seed=3), points.batches("train", seed=5, batch_size=16), strict=True):
        assert torch.equal(ours.inputs["x"], theirs.inputs["x"])
