import numpy as np
import pytest

from compressors.errors import UserError
from search.raw_inputs import RawImages, RawTexts

TEXTS = ["hello world", "hello", "hello world hello world hello world", ""]


@pytest.fixture
def folder(tmp_path):
    """A tokenizer with special tokens, as transformers saves it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "hello": 3, "world": 4, "[UNK]": 5}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    made.save_pretrained(tmp_path / "tokenizer")
    return tmp_path, made


def signature(length):
    inputs = {name: {"dtype": "int64", "shape": ["batch", length]} for name in ("input_ids", "attention_mask")}
    return {"task": "text-classification", "inputs": inputs, "preprocessing": {"sequence": 6, "tokenizer": "tokenizer"}}


def test_texts_are_tokenised_as_transformers_does(folder):
    path, tokenizer = folder
    found = RawTexts(path, signature(6))(TEXTS)
    expected = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=6, return_tensors="np")
    assert list(found) == ["input_ids", "attention_mask"]
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name])
        assert value.dtype == np.int64


def test_where_the_length_is_open_texts_are_as_long_as_the_longest(folder):
    found = RawTexts(folder[0], signature("sequence"))
    assert found(TEXTS[:2])["input_ids"].shape == (2, 4)
    assert found(TEXTS)["input_ids"].shape == (4, 6)


def test_a_number_is_no_text(folder):
    with pytest.raises(UserError, match="text 1 is 5; accepted: texts"):
        RawTexts(folder[0], signature(6))(["hello", 5])


def test_without_a_fast_tokenizer_arrays_are_asked_for(folder):
    (folder[0] / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="pass a dict of arrays instead"):
        RawTexts(folder[0], signature(6))


def images(**changes):
    described = {"input": "x", "mean": [0.5], "std": [0.5], "scale": 1 / 255, "shape": [3, 2, 2], **changes.pop("preprocessing", {})}
    return RawImages({"inputs": {"x": {"dtype": "float32", **changes}}, "preprocessing": described})


def test_grey_becomes_coloured_and_coloured_grey():
    grey = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    found = images()([grey])["x"]
    assert found.shape == (1, 3, 2, 2)
    np.testing.assert_allclose(found[0, 2], [[-1, 1], [1, -1]])
    red = np.zeros((2, 2, 3), dtype=np.uint8)
    red[..., 0] = 255
    assert images(preprocessing={"shape": [1, 2, 2]})([red])["x"][0, 0, 0, 0] == pytest.approx(2 * 76 / 255 - 1), "ITU-R 601 luminance"


def test_pixels_stay_pixels_where_the_graph_normalises():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    layout = {"layout": "nhwc", "shape": [2, 4, 3], "scale": 1, "mean": [0.0], "std": [1.0], "in_graph": {}}
    found = images(dtype="uint8", preprocessing=layout)([pixels])["x"]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[0], pixels)
    first = images(dtype="uint8", preprocessing={**layout, "layout": "nchw", "shape": [3, 2, 4]})([pixels])["x"]
    np.testing.assert_array_equal(first[0], pixels.transpose(2, 0, 1))
