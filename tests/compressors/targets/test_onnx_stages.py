import json

import numpy as np
import pytest
import torch

from compressors.errors import UnexportableError
from compressors.graph.exits import taken
from compressors.pipeline import compress
from compressors.targets import target_named
from compressors.targets.onnx_stages import STAGES, split_stages, stage_files
from search.bench import open_model
from tests.compressors.test_early_exit import TOKENS, Convolutions, Filters, Texts, Tiles, Tracks, bert

INT8 = {"weight_bits": 8, "activation_bits": 8}


def texts(count, length):
    rng = np.random.default_rng(count)
    mask = (np.arange(length)[None] < rng.integers(2, length + 1, (count, 1))).astype(np.int64)
    return {"input_ids": rng.integers(1, 50, (count, length)), "attention_mask": mask}


def answers(model, inputs, threshold):
    with torch.no_grad():
        return taken(model(**{name: torch.from_numpy(value) for name, value in inputs.items()}).numpy(), threshold)


def made(model, examples, folder, threshold, inputs):
    path = target_named("onnxruntime").export(model, examples, folder)
    whole = path.stat().st_size
    plan = split_stages(path, threshold, inputs)
    assert not path.exists()
    assert plan.name == STAGES
    assert sum(file.stat().st_size for file in stage_files(plan)) < 1.3 * whole + 30_000, "weights are stored once"
    return plan


def middle(model, inputs, stage=0):
    """A threshold at which half of the examples could leave at a stage."""
    with torch.no_grad():
        logits = model(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    return float(torch.softmax(logits[:, stage], -1).max(-1).values.median())


@pytest.fixture(scope="module")
def tiles():
    return Tiles()


@pytest.mark.parametrize("more", [[], [{"quantize": {**INT8, "mode": "dynamic"}}]])
def test_stages_of_a_transformer_answer_as_the_model_does(more, tmp_path):
    recipe = [{"early_exit": {"after": ["bert.encoder.layer.0", "bert.encoder.layer.1"], "steps": 1}}, *more]
    model = compress(bert(), recipe, TOKENS, Texts())
    inputs = texts(24, 6)
    threshold = middle(model, inputs)
    plan = made(model, TOKENS, tmp_path, threshold, inputs)
    staged = open_model(plan)
    assert len(staged.sessions) == 3
    # One at a time: what is quantized at run time has one range for the whole batch.
    for i in range(24):
        one = {name: value[i : i + 1] for name, value in inputs.items()}
        expected, stage = answers(model, one, threshold)
        np.testing.assert_allclose(staged.run(one), expected, atol=2e-4)
        assert staged.stage.tolist() == stage.tolist()
    if not more:
        expected, stage = answers(model, inputs, threshold)
        assert len(set(stage.tolist())) > 1
        np.testing.assert_allclose(staged.run(inputs), expected, atol=2e-4)
        assert staged.stage.tolist() == stage.tolist()
        longer = texts(5, 11)
        np.testing.assert_allclose(staged.run(longer), answers(model, longer, threshold)[0], atol=2e-4)


def test_stages_of_a_quantized_cnn_answer_as_the_model_does(tiles, tmp_path):
    examples = {"image": torch.zeros(1, 1, 8, 8)}
    recipe = [{"early_exit": {"after": ["body.0", "body.1"], "epochs": 4, "learning_rate": 0.02}}, {"quantize": INT8}]
    model = compress(Convolutions().eval(), recipe, examples, tiles)
    inputs = {"image": tiles.images.numpy()}
    threshold = middle(model, inputs, stage=1)
    staged = open_model(made(model, examples, tmp_path, threshold, inputs))
    expected, stage = answers(model, inputs, threshold)
    assert len(set(stage.tolist())) > 1
    found = staged.run(inputs)
    same = staged.stage == stage
    assert same.mean() > 0.98
    np.testing.assert_allclose(found[same], expected[same], atol=0.05)


@pytest.mark.parametrize("hidden", [None, 5])
def test_stages_of_filters_over_time_answer_as_the_model_does(hidden, tmp_path):
    tracks, examples = Tracks(), {"track": torch.zeros(1, 6, 2)}
    recipe = [{"early_exit": {"after": ["body.0", "body.1"], "steps": 20, "learning_rate": 0.02, "hidden": hidden}}]
    model = compress(Filters().eval(), recipe, examples, tracks)
    inputs = {"track": tracks.tracks.numpy()}
    threshold = middle(model, inputs)
    staged = open_model(made(model, examples, tmp_path, threshold, inputs))
    assert len(staged.sessions) == 3
    expected, stage = answers(model, inputs, threshold)
    assert len(set(stage.tolist())) > 1
    np.testing.assert_allclose(staged.run(inputs), expected, atol=1e-4)
    assert staged.stage.tolist() == stage.tolist()


def test_an_input_that_leaves_runs_nothing_behind_its_exit(tiles, tmp_path):
    examples = {"image": torch.zeros(1, 1, 8, 8)}
    model = compress(Convolutions().eval(), [{"early_exit": {"after": ["body.0"], "steps": 1}}], examples, tiles)
    plan = made(model, examples, tmp_path, 0.0, {"image": tiles.images.numpy()})
    staged = open_model(plan)
    staged.sessions[1] = None
    assert staged.run({"image": tiles.images.numpy()}).shape == (192, 4)
    assert not staged.stage.any()


def test_a_plan_of_a_newer_version_is_refused(tmp_path):
    (tmp_path / STAGES).write_text(json.dumps({"stages_version": 1}))
    with pytest.raises(ValueError, match="stages_version 1; accepted: 2"):
        open_model(tmp_path / STAGES)


def test_a_model_without_exits_has_no_stages(tiles, tmp_path):
    path = target_named("onnxruntime").export(Convolutions().eval(), {"image": torch.zeros(1, 1, 8, 8)}, tmp_path)
    with pytest.raises(UnexportableError, match="does not end in the logits of its stages"):
        split_stages(path, 0.5, {"image": tiles.images.numpy()})
