import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import compareto as cp
from search.checksums import RAW
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


def test_an_image_that_claims_too_many_pixels_is_not_decoded(replica):
    buffer = io.BytesIO()
    Image.new("1", (9000, 9000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 200_000
    (found,) = replica.answer([Question([buffer.getvalue()], 1, 1)])
    assert found.body()["error"]["message"] == "input 0 has 9000 x 9000 pixels"


def test_arrays_are_run_as_they_are(replica):
    (found,) = replica.answer([Question({"image": np.zeros((3, 1, 8, 8), np.float32)}, 1, 3)])
    assert len(found["predictions"]) == 3


def test_a_replica_needs_no_torch_and_says_what_it_takes(artifact):
    code = (
        "import sys; from search.serving.replica import Replica\n"
        f"status = Replica({str(artifact)!r}).status(); print(status['torch'], 'ray' in sys.modules, status['runtime'])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(cp.__file__).parent)
    assert ended.stdout.startswith("False False onnxruntime")
    assert resident_bytes() > 1e7
