import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import compareto as cp
from search.checksums import write_checksums, write_json


@pytest.fixture(scope="module")
def digits(artifact):
    """A predictor, raw images and the logits that the artifact expects of them."""
    from sklearn.datasets import load_digits

    images = (load_digits().images * (255 / 16)).round().astype(np.uint8)
    first = np.random.default_rng(0).permutation(len(images))[:8]
    with np.load(artifact / "examples.npz") as stored:
        return cp.load_artifact(artifact), images[first], stored["logits"], stored["input.image"]


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def test_raw_images_give_the_expected_outputs_however_they_come(digits, tmp_path):
    predict, images, logits, prepared = digits
    Image.fromarray(images[0]).save(tmp_path / "0.png")
    forms = [images, list(images), [Image.fromarray(i) for i in images], [Image.fromarray(i).convert("RGB") for i in images], [png(i) for i in images]]
    for raw in forms:
        np.testing.assert_allclose(predict(raw)["logits"], logits, atol=1e-4)
    np.testing.assert_allclose(predict([tmp_path / "0.png"])["logits"], logits[:1], atol=1e-4)
    np.testing.assert_allclose(predict({"image": prepared})["logits"], logits, atol=1e-4)


def test_a_classifier_gives_labels_and_probabilities(digits):
    predict, images, logits, _ = digits
    found = predict(list(images))
    assert found["labels"] == [str(i) for i in logits.argmax(-1)]
    np.testing.assert_allclose(found["probabilities"].sum(-1), 1, atol=1e-5)
    assert (found["probabilities"].argmax(-1) == logits.argmax(-1)).all()


def test_many_examples_are_run_in_turn(digits):
    predict, images, _, _ = digits
    many = np.concatenate([images] * 20)
    assert predict(many)["logits"].shape == (160, 10)
    np.testing.assert_allclose(predict(many)["logits"][-8:], predict(images)["logits"], atol=1e-4)


def test_larger_images_are_resized(digits):
    predict, images, logits, _ = digits
    large = [Image.fromarray(i).resize((80, 80), Image.Resampling.NEAREST) for i in images]
    assert (predict(large)["logits"].argmax(-1) == logits.argmax(-1)).mean() > 0.7


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("one", "takes a list of images, or a dict of arrays; got str"),
        ([], "got an empty list"),
        ([np.zeros((8, 8))], "image 0 is an array of float64; accepted: uint8"),
        (["nothing.png"], "image 0 is no image"),
        ({"imge": np.zeros((1, 1, 8, 8))}, "unknown input 'imge'; accepted: image; did you mean 'image'?"),
        ({}, "the input 'image' is missing"),
        ({"image": np.zeros((1, 1, 9, 8))}, r"the input 'image' has the shape \[1, 1, 9, 8\]; accepted: \['batch', 1, 8, 8\]"),
    ],
)
def test_wrong_inputs_are_one_message_that_says_what_is_accepted(digits, given, said):
    with pytest.raises(cp.UserError, match=said):
        digits[0](given)


def test_torch_is_not_imported(artifact):
    code = (
        "import sys, numpy, compareto\n"
        f"predict = compareto.load_artifact({str(artifact)!r})\n"
        "predict([numpy.zeros((8, 8), dtype=numpy.uint8)])\n"
        "print(sorted({'torch', 'transformers', 'onnx', 'ray'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(cp.__file__).parent)
    assert ended.stdout.strip() == "[]"


def test_a_changed_folder_is_not_run(artifact, tmp_path):
    folder = tmp_path / "artifact"
    shutil.copytree(artifact, folder)
    (folder / "signature.json").write_text("{}")
    with pytest.raises(cp.UserError, match=r"is not as it was exported: signature\.json has changed since the export"):
        cp.load_artifact(folder)
    with pytest.raises(cp.UserError, match="no artifact"):
        cp.load_artifact(tmp_path / "nothing")


def test_a_newer_artifact_and_a_missing_runtime_are_one_message_each(artifact, tmp_path, monkeypatch):
    folder = tmp_path / "artifact"
    shutil.copytree(artifact, folder)
    signature = json.loads((folder / "signature.json").read_text())
    write_json(folder / "signature.json", {**signature, "runtime": "litert"})
    write_checksums(folder)
    monkeypatch.setattr("search.load_artifact.find_spec", lambda _: None)
    with pytest.raises(cp.UserError, match=r'litert, which is not installed: pip install "compareto\[litert\]"'):
        cp.load_artifact(folder)
    checksums = json.loads((folder / "checksums.json").read_text())
    write_json(folder / "checksums.json", {**checksums, "artifact_version": 99})
    with pytest.raises(cp.UserError, match=r"artifact_version 99; accepted: 1\. A newer compareto wrote it"):
        cp.load_artifact(folder)


def test_a_model_file_that_cannot_be_loaded_is_one_message(artifact, tmp_path):
    folder = tmp_path / "artifact"
    shutil.copytree(artifact, folder)
    (folder / "model.onnx").write_bytes(b"not a model")
    write_checksums(folder)
    with pytest.raises(cp.UserError, match=r"onnxruntime cannot load model\.onnx"):
        cp.load_artifact(folder)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_where_the_model_takes_smaller_pixels_whole_ones_are_taken_too(artifact, tmp_path, layout):
    onnx, folder, last = pytest.importorskip("onnx"), tmp_path / "artifact", layout == "nhwc"
    shutil.copytree(artifact, folder)
    shape = ["batch", 6, 6, 1] if last else ["batch", 1, 6, 6]
    nodes = [onnx.helper.make_node("Cast", ["image"], ["x"], to=onnx.TensorProto.FLOAT), onnx.helper.make_node("Flatten", ["x"], ["logits"])]
    given = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, shape)
    graph = onnx.helper.make_graph(nodes, "model", [given], [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 36])])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), folder / "model.onnx")
    signature = json.loads((folder / "signature.json").read_text())
    preprocessing = {"input": "image", "layout": layout, "shape": [8, 8, 1] if last else [1, 8, 8], "mean": [0.0], "std": [1.0], "in_graph": {}}
    preprocessing["input_size"] = {"kind": "image", "native": [8, 8], "size": [6, 6], "how": "resize", "trailing": 0}
    signature |= {"inputs": {"image": {"dtype": "uint8", "shape": shape}}, "preprocessing": preprocessing, "labels": []}
    write_json(folder / "signature.json", signature)
    write_checksums(folder)
    predict, images = cp.load_artifact(folder), np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    whole = images[..., None] if last else images[:, None]
    expected = predict(list(images))["logits"]
    np.testing.assert_array_equal(predict({"image": whole})["logits"], expected)
    small = expected.astype(np.uint8).reshape(-1, *shape[1:])
    np.testing.assert_array_equal(predict({"image": small})["logits"], expected)
    with pytest.raises(cp.UserError, match=r"the input 'image' has the shape \[3, "):
        predict({"image": whole[:, :, 1:]})
