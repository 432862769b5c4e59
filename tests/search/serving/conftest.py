from pathlib import Path

import pytest

from search.serving.served import Catalogue, Served

TEXTS = {
    "task": "text-classification",
    "runtime": "onnxruntime",
    "inputs": {"input_ids": {"dtype": "int64", "shape": ["batch", "sequence"]}, "attention_mask": {"dtype": "int64", "shape": ["batch", "sequence"]}},
    "preprocessing": {"tokenizer": "tokenizer", "sequence": 32},
    "labels": ["transfer", "balance", "weather"],
}
IMAGES = {
    "task": "image-classification",
    "runtime": "onnxruntime",
    "inputs": {"image": {"dtype": "float32", "shape": ["batch", 1, 8, 8]}},
    "preprocessing": {"input": "image", "mean": [0.0], "std": [1.0]},
    "labels": ["zero", "one"],
}


@pytest.fixture
def texts():
    return Served("intents", "1", Path("fp32"), 0.9, TEXTS)


@pytest.fixture
def images():
    return Served("digits", "1", Path("digits"), 1.0, IMAGES)


@pytest.fixture
def catalogue(texts, images):
    return Catalogue([texts, Served("intents", "2", Path("small"), 0.1, TEXTS), images], seed=0)
