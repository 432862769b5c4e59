"""Artifacts that take pixels: normalisation is part of their graph."""

import json

import numpy as np
import pytest

from compressors.errors import UserError
from evaluators.tasks import make_task
from search.export import export_trial
from search.raw_images import as_pixels, taking_pixels

pytestmark = pytest.mark.filterwarnings("ignore")  # torchao warns about its own internals


@pytest.fixture(scope="module")
def task(trained):
    experiment = trained.experiment
    return make_task(experiment.data, experiment.model, experiment.workload, experiment.folder)


@pytest.fixture(scope="module", params=[("0001", "nhwc"), ("0002", "nchw")], ids=["int8-nhwc", "float-nchw"])
def pixels(request, trained, tmp_path_factory):
    """A quantized and a float model, exported for pixels."""
    trial, layout = request.param
    return trial, layout, export_trial(trained, trial, tmp_path_factory.mktemp("pixels") / "artifact", raw_images=layout, log=lambda _: None)


def session_of(folder):
    import onnxruntime

    return onnxruntime.InferenceSession(str(folder / "model.onnx"))


def test_the_signature_says_that_pixels_are_taken_and_nothing_is_left_to_do(pixels):
    _, layout, folder = pixels
    signature = json.loads((folder / "signature.json").read_text())
    shape = [8, 8, 1] if layout == "nhwc" else [1, 8, 8]
    assert signature["inputs"] == {"image": {"dtype": "uint8", "shape": ["batch", *shape]}}
    left = signature["preprocessing"]
    assert (left["layout"], left["scale"], left["mean"], left["std"]) == (layout, 1, [0.0], [1.0])
    assert left["in_graph"] == {"scale": pytest.approx(1 / 255), "mean": [0.3], "std": [0.37]}


def test_pixels_give_what_prepared_inputs_give_the_plain_artifact(trained, task, pixels, artifact, tmp_path):
    trial, layout, folder = pixels
    plain = artifact if trial == "0001" else export_trial(trained, trial, tmp_path / "plain", log=lambda _: None)
    raw, _ = task.raw("report", 0, 200)
    (expected,) = session_of(plain).run(None, task.prepare(raw))
    image = raw["image"].transpose(0, 2, 3, 1) if layout == "nhwc" else raw["image"]
    (found,) = session_of(folder).run(None, {"image": np.ascontiguousarray(image)})
    assert np.abs(found - expected).mean() < 2e-3 * np.ptp(expected)
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.99


def test_the_weights_are_packed_as_without_pixels(pixels, artifact):
    from compressors.targets import target_named

    if pixels[0] == "0001":
        size = target_named("onnxruntime").file_bytes
        assert 0 <= size(pixels[2] / "model.onnx") - size(artifact / "model.onnx") <= 16, "a scale and an offset a channel"


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_pixels_are_found_again_from_prepared_inputs(task, layout):
    raw, _ = task.raw("report", 0, 50)
    found = as_pixels(task.prepare(raw), task.description, layout)["image"]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found.transpose(0, 3, 1, 2) if layout == "nhwc" else found, raw["image"])


def test_only_images_have_pixels():
    class Texts:
        name = "text-classification"

    with pytest.raises(UserError, match="--raw-images: the task is text-classification; accepted: image-classification"):
        taking_pixels(None, Texts(), "nhwc")
