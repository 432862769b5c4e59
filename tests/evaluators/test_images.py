import io

import numpy as np
import pytest
from PIL import Image

from evaluators.images import decode_image, normalised


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 3), ("P", 3), ("1", 3)])
def test_every_kind_of_image_is_read(mode: str, channels: int) -> None:
    assert decode_image(Image.new("RGB", (5, 4), (200, 100, 50)).convert(mode), None).shape == (channels, 4, 5)


def test_an_image_is_the_same_however_it_comes(tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "image.png")
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    for value in (image, pixels, encoded.getvalue(), tmp_path / "image.png", str(tmp_path / "image.png")):
        np.testing.assert_array_equal(decode_image(value, None), pixels.transpose(2, 0, 1))
    assert decode_image(image, 4).shape == (3, 4, 4)
    assert decode_image(image, (4, 9)).shape == (3, 4, 9)


def test_white_is_one_before_mean_and_deviation() -> None:
    white = np.full((1, 2, 1, 1), 255, dtype=np.uint8)
    np.testing.assert_allclose(normalised(white, [0.5, 0.25], [0.5, 3.0])[0, :, 0, 0], [1.0, 0.25])
    assert normalised(white, [0.0], [1.0]).dtype == np.float32
