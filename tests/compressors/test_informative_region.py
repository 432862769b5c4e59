import numpy as np
import pytest
import torch
from torch import nn

from compressors.checkpoint import load, save
from compressors.context import Batch
from compressors.errors import CompressionError, UserError
from compressors.graph import trace
from compressors.graph.region_scorer import scorer_in
from compressors.input_size import InputSize
from compressors.pipeline import compress
from compressors.recipe import Recipe
from compressors.scoring import scores_of
from compressors.sizing import SCORER
from compressors.targets.onnx_session import OnnxSession
from compressors.targets.onnxruntime import OnnxRuntime
from tests.conformance.families import build

TARGET = OnnxRuntime()
SIDE, PATCH, SIZE = 24, 6, 12
SCORED = {"input_size": {"image": SIZE, "how": "informative", "steps": 150}}


def hidden_patterns(count, seed):
    """One of four patterns at a random place of a noisy image; its place and class."""
    drawn = np.random.default_rng(seed)
    patterns = np.random.default_rng(0).normal(size=(4, 2, PATCH, PATCH)).astype(np.float32)
    images = drawn.normal(0, 0.4, (count, 2, SIDE, SIDE)).astype(np.float32)
    labels, places = drawn.integers(0, 4, count), drawn.integers(0, SIDE - PATCH + 1, (count, 2))
    for image, label, (top, left) in zip(images, labels, places, strict=True):
        image[:, top : top + PATCH, left : left + PATCH] += patterns[label]
    return torch.from_numpy(images), torch.from_numpy(labels), torch.from_numpy(places)


class Hidden:
    """Data of a user: no task, and inputs of one size."""

    higher_is_better = True

    def __init__(self):
        self.splits = {"train": hidden_patterns(400, 1), "search": hidden_patterns(300, 2), "calibration": hidden_patterns(64, 3)}

    def batches(self, split, *, seed=None, batch_size=None):
        images, labels, _ = self.splits[split]
        order = torch.arange(len(labels)) if seed is None else torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        for rows in order.split(batch_size or 50):
            yield Batch({"image": images[rows]}, labels[rows])

    def steps(self, split, *, batch_size=None):
        return -(-len(self.splits[split][1]) // (batch_size or 50))

    def loss(self, logits, batch):
        return nn.functional.cross_entropy(logits, batch.labels)

    def score(self, model, split):
        images, labels, _ = self.splits[split]
        with torch.no_grad():
            return "accuracy", float((model.eval()(image=images).argmax(1) == labels).float().mean())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(2, 12, 5, padding=2), nn.Conv2d(12, 16, 3, stride=2, padding=1), nn.Linear(16, 4)

    def forward(self, image):
        return self.head(self.second(self.first(image).relu()).relu().amax((2, 3)))


@pytest.fixture(scope="module")
def data():
    return Hidden()


@pytest.fixture(scope="module")
def model(data):
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for epoch in range(10):
        for batch in data.batches("train", seed=epoch):
            loss = data.loss(net(**batch.inputs), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def example(data):
    return {"image": data.splits["search"][0][:2]}


@pytest.fixture(scope="module")
def scored(model, data, example):
    lines = []
    return compress(model, [SCORED], example, data, log=lines.append), lines


def test_the_scorer_finds_the_pattern(model, data, scored):
    found, (line,) = scored
    images, labels, places = data.splits["search"]
    left = (SIDE - SIZE) // 2
    with torch.no_grad():
        middle = float((model(images[:, :, left : left + SIZE, left : left + SIZE]).argmax(1) == labels).float().mean())
        scorer = scorer_in(found)
        starts = scorer.starts[scorer.scores(scorer.thumbnail(images)).argmax(1)]
    whole, (_, cropped) = data.score(model, "search")[1], data.score(found, "search")
    assert whole > 0.9, "else the test says nothing"
    assert middle < 0.6
    assert cropped > whole - 0.05
    corners = torch.stack([starts // SIDE, starts % SIDE], dim=1)
    centres = places + PATCH / 2
    assert ((corners <= centres) & (centres <= corners + SIZE)).all(1).float().mean() > 0.95
    assert line.startswith("input_size: scorer of ")


def test_a_crop_is_the_part_of_the_image_that_scored_best(data, scored):
    scorer, images = scorer_in(scored[0]), data.splits["search"][0][:20]
    with torch.no_grad():
        crops, starts = scorer(images), scorer.starts[scorer.scores(scorer.thumbnail(images)).argmax(1)]
    for crop, image, start in zip(crops, images, starts.tolist(), strict=True):
        top, left = divmod(start, SIDE)
        assert torch.equal(crop, image[:, top : top + SIZE, left : left + SIZE])
    assert {0, SIDE - SIZE} <= {int(start) // SIDE for start in scorer.starts}, "places reach from border to border"


def test_the_model_is_left_as_it_was(model, scored):
    assert scorer_in(model) is None
    for name, value in model.state_dict().items():
        torch.testing.assert_close(scored[0].state_dict()[name], value, rtol=0, atol=0)


RECIPES = {
    "alone": [],
    "separable, pruned": [{"depthwise_separable": {"fraction": 0.5}}, {"prune": {"ratio": 0.25}}],
    "low rank, int8": [{"low_rank": {"energy": 0.9}}, {"prune": {"ratio": 0.25}}, {"reconstruct": {"samples": 50}}, {"quantize": {}}],
    "mixed bits": [{"sparsify": {"pattern": "2:4"}}, {"quantize": {"mixed": {"budget_bits": 6}}}],
}


@pytest.mark.parametrize("case", RECIPES)
def test_the_file_looks_where_the_model_looks_and_costs_what_was_priced(case, model, data, example, tmp_path):
    steps = [{"input_size": {**SCORED["input_size"], "steps": 10}}, *RECIPES[case]]
    recipe, graph = Recipe.from_plain(steps), trace(model, example)
    step = recipe.input_size
    sized = step.trace(step.resized(model, step.sizing(example)).eval(), example, graph)
    scores = {name: scores_of(model, graph, name, data, TARGET) for name in recipe.criteria()}
    shapes = recipe.plan(sized, scores)[-1].shapes(sized)
    smaller = compress(model, steps, example, data)
    images = data.splits["search"][0][:100]
    with torch.no_grad():
        ours = smaller(image=images).numpy()
    path = TARGET.export(smaller, example, tmp_path)
    theirs = OnnxSession(path, 1)({"image": images.numpy()})["logits"]
    # Of integers, places that score alike to the last digit may fall to either side.
    far = np.abs(ours - theirs).max(1) > 0.05 * np.abs(ours).max()
    assert far.mean() <= (0.03 if case in ("low rank, int8", "mixed bits") else 0)
    assert TARGET.file_bytes(path) == pytest.approx(TARGET.stored_bytes(sized, shapes)[0], rel=0.01)
    if case in ("alone", "separable, pruned"):
        again = trace(smaller, example, check_cuts=False)
        assert again.macs == sized.count_macs(shapes)[0] < 0.6 * graph.macs
        assert again.parameters == sized.count_parameters(shapes)[0] == sum(p.numel() for p in smaller.parameters())
        assert again.activation_peak(again.baseline())[0] == sized.activation_peak(shapes)[0]
    save(smaller, tmp_path / "saved")
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path / "saved", Net().eval())(image=images).numpy(), ours, rtol=0, atol=0)


def test_the_scorer_is_neither_pruned_nor_trained_with_the_model(model, data, example, scored):
    pruned = compress(model, [SCORED, {"prune": {"ratio": 0.5}}, {"distill": {"steps": 5}}], example, data)
    assert pruned.first.weight.shape[0] < model.first.weight.shape[0]
    for name, value in scorer_in(scored[0]).state_dict().items():
        torch.testing.assert_close(scorer_in(pruned).state_dict()[name], value, rtol=0, atol=0)


def test_a_vision_transformer_sees_the_crop_with_its_positions_at_that_size(tmp_path):
    torch.manual_seed(0)
    vit, inputs = build("vit")
    ((name, image),) = inputs.items()
    sizing = InputSize(scale=0.5, how="informative").sizing(inputs)
    small = InputSize(scale=0.5, how="informative").resized(vit.eval(), sizing)
    with torch.no_grad():
        crop = scorer_in(small)(image)
        found = small(**inputs).logits
        torch.testing.assert_close(InputSize(scale=0.5).resized(vit, InputSize(scale=0.5).sizing(inputs))(**{name: crop}).logits, found)
    assert crop.shape[2:] == (image.shape[2] // 2, image.shape[3] // 2)
    path = TARGET.export(small, inputs, tmp_path)
    np.testing.assert_allclose(OnnxSession(path, 1)({name: image.numpy()})["logits"], found.numpy(), atol=1e-4)
    assert any(axis.name.startswith(SCORER) for axis in trace(small, inputs, check_cuts=False).axes)


@pytest.mark.parametrize(
    ("settings", "inputs", "said"),
    [
        ({"image": 30}, {"image": torch.zeros(2, 3, 24, 24)}, "input_size.image: 30: larger than the data's 24x24; accepted: 1 to 24"),
        ({"scale": 0.5}, {"sound": torch.zeros(2, 400)}, "input_size.how: informative: the model takes series; accepted: resize or crop"),
        ({"length": 8}, {"image": torch.zeros(2, 3, 24, 24)}, "input_size.length: 8: the model takes images; accepted: image or scale"),
        ({"length": 8}, {"input_ids": torch.zeros(2, 16, dtype=torch.long)}, "input_size.how: informative: texts are cut at their end; accepted: no how"),
    ],
)
def test_what_cannot_be_cropped_is_one_clear_error(settings, inputs, said):
    with pytest.raises(CompressionError) as error:
        InputSize(how="informative", **settings).sizing(inputs)
    assert str(error.value) == said


def test_it_needs_data_and_an_informative_crop_is_the_only_one_that_does(model, example):
    with pytest.raises(UserError, match=r"recipe\[0\].input_size: reads training data; pass data="):
        compress(model, [SCORED], example)
    assert compress(model, [{"input_size": {"image": SIZE, "how": "crop"}}], example) is not None
    with pytest.raises(UserError, match=r"recipe\[0\].input_size.scorer: Input should be greater than 0"):
        Recipe.from_plain([{"input_size": {"image": 8, "how": "informative", "scorer": 0}}])
