import base64
import json

import numpy as np
import pytest

from search.serving.request_error import RequestError
from search.serving.validation import validated

ARRAYS = {"input_ids": [[1, 2]], "attention_mask": [[1, 1]]}


def refused(body, served, most=4):
    with pytest.raises(RequestError) as caught:
        validated(body if isinstance(body, bytes) else json.dumps(body).encode(), served, most)
    assert caught.value.status == 400
    return caught.value.body()["error"]


def test_texts_images_and_arrays_are_taken(texts, images):
    question = validated(b'{"inputs": ["a", "\\u00e9"], "top": 2}', texts, 4)
    assert (question.inputs, question.top, question.count) == (["a", "é"], 2, 2)
    image = base64.b64encode(b"\x89PNG").decode()
    assert validated(json.dumps({"inputs": [image]}).encode(), images, 4).inputs == [b"\x89PNG"]
    arrays = validated(json.dumps({"inputs": ARRAYS}).encode(), texts, 4)
    assert arrays.inputs["input_ids"].dtype == np.int64
    assert (arrays.count, arrays.inputs["input_ids"].tolist()) == (1, [[1, 2]])


@pytest.mark.parametrize(
    ("body", "key", "value", "accepted"),
    [
        ({"inputs": ["a"], "tpo": 1}, "tpo", "1", "inputs, top"),
        ({"top": 1}, "inputs", None, '{"inputs": ["a text"], "top": 1}'),
        ({"inputs": "a"}, "inputs", "'a'", "a list of texts, or arrays by name"),
        ({"inputs": []}, "inputs", "0", "1 to 4 inputs"),
        ({"inputs": ["a"] * 5}, "inputs", "5", "1 to 4 inputs"),
        ({"inputs": ["a", 5]}, "inputs[1]", "5", "a text"),
        ({"inputs": ["a"], "top": 4}, "top", "4", "1 to 3"),
        ({"inputs": ["a"], "top": True}, "top", "True", "1 to 3"),
        ({"inputs": ["a"], "top": "2"}, "top", "'2'", "1 to 3"),
        ({"inputs": {"input_ids": [[1]]}}, "inputs.attention_mask", None, 'int64 ["batch", "sequence"]'),
        ({"inputs": {**ARRAYS, "ids": [[1]]}}, "inputs.ids", "[[1]]", "input_ids, attention_mask"),
        ({"inputs": {**ARRAYS, "input_ids": [[1], [1, 2]]}}, "inputs.input_ids", "[[1], [1, 2]]", "int64"),
        ({"inputs": {**ARRAYS, "input_ids": [1]}}, "inputs.input_ids", None, "int64"),
        ({"inputs": {**ARRAYS, "input_ids": []}}, "inputs.input_ids", "[]", "int64"),
        ({"inputs": {**ARRAYS, "input_ids": [[0.5, 1]]}}, "inputs.input_ids", "[[0.5, 1]]", "int64"),
        ({"inputs": {**ARRAYS, "input_ids": [["a", "b"]]}}, "inputs.input_ids", "[['a', 'b']]", "int64"),
        ({"inputs": {**ARRAYS, "input_ids": [[10**30, 1]]}}, "inputs.input_ids", "[[1000000000000000000000000000000, 1]]", "int64"),
        ({"inputs": {**ARRAYS, "input_ids": [[1, 2], [3, 4]]}}, "inputs", None, "the same number of each"),
        ({"inputs": {**ARRAYS, "input_ids": None}}, "inputs.input_ids", None, "int64"),
    ],
)
def test_a_refusal_names_the_key_the_value_and_what_is_accepted(texts, body, key, value, accepted):
    error = refused(body, texts)
    assert (error["key"], error.get("value")) == (key, value)
    assert accepted in error["accepted"]
    assert error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"nothing",
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"inputs": ["a"]',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"inputs": [NaN]}',
        b"9" * 10_000,
    ],
)
def test_a_body_that_is_no_json_object_is_refused(texts, body):
    assert refused(body, texts)["accepted"]


def test_half_a_character_is_refused_with_an_answer_that_can_be_sent(texts):
    error = refused(b'{"inputs": ["\\ud800"]}', texts)
    assert error["accepted"] == "text that UTF-8 can write"
    json.dumps(error).encode("utf-8")


def test_numbers_that_are_not_finite_are_refused(images):
    rows = [[[[0.0] * 8] * 8]]
    assert validated(json.dumps({"inputs": {"image": rows}}).encode(), images, 4).count == 1
    body = json.dumps({"inputs": {"image": [[[[1.5] * 8] * 8]]}}).replace("1.5", "1e999", 1).encode()
    assert "not finite" in refused(body, images)["message"]


@pytest.mark.parametrize("number", [1e300, -1e39])
def test_numbers_that_the_type_cannot_hold_are_refused(images, number):
    error = refused({"inputs": {"image": [[[[number] * 8] * 8]]}}, images)
    assert (error["key"], error["accepted"]) == ("inputs.image", 'float32 ["batch", 1, 8, 8]')
    assert error["value"] == repr(number)


@pytest.mark.parametrize("image", ["not base64!", "", "é", 3, None])
def test_an_image_is_base64(images, image):
    assert refused({"inputs": [image]}, images)["accepted"] == "a PNG or JPEG file in base64"


def test_an_answer_does_not_grow_with_what_was_sent(texts):
    error = refused({"inputs": ["a"], "k" * 100_000: "v" * 100_000}, texts)
    assert len(json.dumps(error)) < 1000
