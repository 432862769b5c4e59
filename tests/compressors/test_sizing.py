import numpy as np
import torch
from torch.nn import functional

from compressors.sizing import Sizing


def test_images_are_resized_as_torch_does_it_with_antialiasing():
    images = torch.randn(2, 3, 33, 32, generator=torch.Generator().manual_seed(0))
    for size in ((24, 24), (17, 9), (33, 31), (5, 5)):
        found = Sizing("image", (33, 32), size, "resize").of({"image": images.numpy()})["image"]
        np.testing.assert_allclose(found, functional.interpolate(images, size, mode="bilinear", antialias=True).numpy(), atol=1e-5)
        assert found.dtype == np.float32


def test_a_crop_leaves_the_middle():
    series = np.arange(12, dtype=np.float32).reshape(1, 6, 2)
    np.testing.assert_array_equal(Sizing("series", (6,), (4,), "crop").of({"x": series})["x"], series[:, 1:5])


def test_a_series_is_resized_along_its_time():
    line = np.linspace(0, 1, 16, dtype=np.float32).repeat(2).reshape(1, 16, 2)
    found = Sizing("series", (16,), (8,), "resize").of({"x": line})["x"]
    assert found.shape == (1, 8, 2)
    assert (np.diff(found[0, :, 0]) > 0).all()
    np.testing.assert_allclose(found.mean(), 0.5, atol=1e-6)


def test_texts_keep_the_special_tokens_at_their_end():
    ids = np.array([[1, 7, 8, 9, 5, 2], [1, 7, 2, 0, 0, 0]])
    mask = (ids != 0).astype(np.int64)
    found = Sizing("tokens", (6,), (4,), "truncate", trailing=1).of({"input_ids": ids, "attention_mask": mask})
    assert found["input_ids"].tolist() == [[1, 7, 8, 2], [1, 7, 2, 0]]
    assert found["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    short = {"input_ids": ids[1:, :3], "attention_mask": mask[1:, :3]}
    assert Sizing("tokens", (6,), (4,), "truncate", trailing=1).of(short)["input_ids"].tolist() == [[1, 7, 2]], "a batch that was cut to its longest text"


def test_it_is_read_back_from_plain_data():
    sizing = Sizing("image", (32, 32), (24, 24), "crop")
    assert Sizing.from_plain(sizing.to_plain()) == sizing
