import io
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import compareto as cp
from search.checksums import RAW, write_checksums, write_json
from search.serving.replica import Replica, resident_bytes
from search.serving.request_error import RequestError
from search.serving.validation import Question


@pytest.fixture(scope="module")
def replica(artifact):
    return Replica(str(artifact))


@pytest.fixture(scope="module")
def images(artifact):
    return [path.read_bytes() for path in sorted((artifact / RAW).glob("*.png"), key=lambda p: int(p.stem))]


def test_a_batch_answers_as_each_question_alone(replica, images):
    questions = [Question(images[:2], 1, 2), Question(images[2:3], 3, 1), Question(images[3:8], 2, 5)]
    together = replica.answer(questions)
    alone = [replica.answer([question])[0] for question in questions]
    assert [len(answer["predictions"]) for answer in together] == [2, 1, 5]
    for one, other in zip(together, alone, strict=True):
        assert [[p["label"] for p in row] for row in one["predictions"]] == [[p["label"] for p in row] for row in other["predictions"]]
    assert [len(answer["predictions"][0]) for answer in together] == [1, 3, 2]


def test_answers_are_those_of_load_artifact(replica, artifact, images):
    expected = cp.load_artifact(artifact)(images)
    (answer,) = replica.answer([Question(images, 10, len(images))])
    assert [row[0]["label"] for row in answer["predictions"]] == expected["labels"]
    for row, probabilities in zip(answer["predictions"], expected["probabilities"], strict=True):
        assert [p["probability"] for p in row] == sorted((round(float(p), 6) for p in probabilities), reverse=True)


def test_one_bad_image_does_not_spoil_the_batch(replica, images):
    found = replica.answer([Question(images[:1], 1, 1), Question([b"no image"], 1, 1), Question(images[1:2], 1, 1)])
    assert [isinstance(answer, RequestError) for answer in found] == [False, True, False]
    assert found[1].body()["error"]["key"] == "inputs[0]"


def broken_png():
    """The header is that of a PNG; the second piece of its pixels has a name that none may have."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    pixels = zlib.compress(b"".join(b"\0" + np.random.default_rng(i).bytes(64) for i in range(64)))
    header = struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)
    pieces = [(b"IHDR", header), (b"IDAT", pixels[:1000]), (b"\0\0\0\0", pixels[1000:]), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*piece) for piece in pieces)


def test_an_image_that_is_broken_behind_its_header_does_not_spoil_the_batch(replica, images):
    found = replica.answer([Question(images[:1], 1, 1), Question([broken_png()], 1, 1)])
    assert "predictions" in found[0]
    assert (found[1].status, found[1].key) == (400, "inputs")
    assert "image 0 is no image: broken PNG file" in found[1].message


def test_only_formats_that_are_documented_are_opened(replica):
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "GIF")
    (found,) = replica.answer([Question([buffer.getvalue()], 1, 1)])
    assert (found.status, found.message) == (400, "input 0 is no PNG or JPEG image")


def test_what_is_the_servers_fault_is_said_of_that_request_alone(artifact, images, monkeypatch):
    replica = Replica(str(artifact))
    predict = replica._predict

    def forgetful(inputs):
        if images[1] in inputs:
            raise KeyError("a bug")
        return predict(inputs)

    forgetful.signature = predict.signature
    monkeypatch.setattr(replica, "_predict", forgetful)
    found = replica.answer([Question(images[:1], 1, 1), Question(images[1:2], 1, 1)])
    assert "predictions" in found[0]
    assert (found[1].status, found[1].message) == (500, "KeyError in the server")


def test_an_image_that_claims_too_many_pixels_is_not_decoded(replica):
    buffer = io.BytesIO()
    Image.new("1", (9000, 9000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 200_000
    (found,) = replica.answer([Question([buffer.getvalue()], 1, 1)])
    assert found.body()["error"]["message"] == "input 0 has 9000 x 9000 pixels"


def test_arrays_are_run_as_they_are(replica):
    (found,) = replica.answer([Question({"image": np.zeros((3, 1, 8, 8), np.float32)}, 1, 3)])
    assert len(found["predictions"]) == 3


@pytest.mark.parametrize("task", ["image-classification", "image-regression"])
def test_what_overflows_inside_the_model_is_no_answer(artifact, tmp_path, task):
    onnx, folder = pytest.importorskip("onnx"), tmp_path / "artifact"
    shutil.copytree(artifact, folder)
    described = {"dtype": "float32", "shape": ["batch", 4]}
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, described["shape"]) for name in ("image", "logits")]
    weights = onnx.numpy_helper.from_array(np.array([[4], [-4], [1], [1]], np.float32) * np.ones(4, np.float32), "w")
    graph = onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["image", "w"], ["logits"])], "model", values[:1], values[1:], [weights])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), folder / "model.onnx")
    signature = {"model": "model.onnx", "runtime": "onnxruntime", "task": task, "inputs": {"image": described}, "labels": [], "preprocessing": {}}
    write_json(folder / "signature.json", signature)
    write_checksums(folder)
    small, large = np.ones((2, 4), np.float32), np.ones((2, 4), np.float32)
    large[1] = 3e38
    found = Replica(str(folder)).answer([Question({"image": large}, 1, 2), Question({"image": small}, 1, 2)])
    assert (found[0].status, found[0].key, found[0].message) == (400, "inputs", "the model's outputs of input 1 are not finite")
    assert not isinstance(found[1], RequestError)


def test_a_replica_needs_no_torch_and_says_what_it_takes(artifact):
    code = (
        "import sys; from search.serving.replica import Replica\n"
        f"status = Replica({str(artifact)!r}).status(); print(status['torch'], 'ray' in sys.modules, status['runtime'])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(cp.__file__).parent)
    assert ended.stdout.startswith("False False onnxruntime")
    assert resident_bytes() > 1e7
