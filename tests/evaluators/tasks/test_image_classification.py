from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compressors.errors import UserError
from evaluators.models import ModelSpec
from evaluators.tasks import DataSpec, Workload, make_task
from evaluators.tasks.image_classification import ImageClassification

FACTORY = """
from torch import nn


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, pixels):
        return self.head(pixels.mean((2, 3)))
"""


def pictures(folder: Path, count: int = 10, sizes: tuple[int, ...] = (8,), mode: str = "RGB") -> Path:
    """A folder of dark and light pictures for train and test."""
    (folder / "models.py").write_text(FACTORY)
    for split in ("train", "test"):
        for name, value in (("dark", 10), ("light", 240)):
            place = folder / "pictures" / split / name
            place.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                size = sizes[i % len(sizes)]
                Image.new("RGB", (size, size), (value, value, i)).convert(mode).save(place / f"{i}.png")
    return folder


def task(folder: Path, workload: Workload | None = None, **data: object) -> ImageClassification:
    made = make_task(DataSpec(dataset="pictures", **data), ModelSpec(factory="models.py:Mean"), workload or Workload(), folder)
    assert isinstance(made, ImageClassification)
    return made


def test_a_folder_of_images_has_a_class_a_sub_folder_and_a_split_above(tmp_path: Path) -> None:
    made = task(pictures(tmp_path))
    assert (made.classes, made.label_names) == (2, ("dark", "light"))
    assert {name: len(split["labels"]) for name, split in made.arrays.items()} == {"report": 20, "search": 4, "train": 16, "calibration": 16}
    for split in made.arrays.values():
        assert split["pixels"].dtype == np.uint8
        assert ((split["pixels"][:, 0].mean((1, 2)) > 100) == (split["labels"] == 1)).all()


def test_max_samples_bounds_every_split(tmp_path: Path) -> None:
    made = task(pictures(tmp_path), max_samples=3)
    assert {name: len(split["labels"]) for name, split in made.arrays.items()} == {"report": 3, "search": 3, "train": 3, "calibration": 3}


def test_no_image_is_both_trained_on_and_judged_by(tmp_path: Path) -> None:
    made = task(pictures(tmp_path))
    train, search = ({image.tobytes() for image in made.arrays[name]["pixels"]} for name in ("train", "search"))
    assert not train & search


def test_images_are_normalised_as_the_experiment_says(tmp_path: Path) -> None:
    made = task(pictures(tmp_path), preprocessing={"mean": [0.5, 0.5, 0.0], "std": [0.25, 0.25, 1.0]})
    (batch,) = made.batches("report", batch_size=20)
    light = batch.inputs["pixels"][batch.labels == 1]
    assert light.dtype == torch.float32
    assert light[:, 0].unique().item() == pytest.approx((240 / 255 - 0.5) / 0.25)
    assert sorted(light[:, 2, 0, 0].tolist()) == pytest.approx([i / 255 for i in range(10)])


def test_a_predictor_that_sees_the_light_is_right(tmp_path: Path) -> None:
    def predict(inputs):
        light = inputs["pixels"].mean((1, 2, 3))
        return {"logits": np.stack([0.4 - light, light - 0.4], -1)}

    found = task(pictures(tmp_path)).metrics(predict, "report")
    assert found["accuracy"].value == 1.0
    assert 0.85 < found["accuracy"].low < 1.0, "20 images do not prove perfection"


def test_images_of_many_sizes_need_one(tmp_path: Path) -> None:
    pictures(tmp_path, sizes=(8, 12))
    with pytest.raises(UserError, match=r"data\.preprocessing\.image_size: not given, but the images of '\w+' differ in size"):
        task(tmp_path)
    made = task(tmp_path, preprocessing={"image_size": 6}, workload=Workload(batch=2, image_size=16))
    assert made.arrays["train"]["pixels"].shape[1:] == (3, 6, 6)
    assert made.example_inputs["pixels"].shape == (2, 3, 16, 16)


def test_grey_images_among_coloured_ones_become_coloured(tmp_path: Path) -> None:
    pictures(tmp_path)
    for grey in (tmp_path / "pictures" / "train" / "dark").glob("[0-4].png"):
        Image.open(grey).convert("L").save(grey)
    assert task(tmp_path).arrays["train"]["pixels"].shape[1:] == (3, 8, 8)


def test_only_training_images_are_changed_and_the_seed_says_how(tmp_path: Path) -> None:
    made = task(pictures(tmp_path), preprocessing={"augment": ["flip", "crop"]})
    left = np.zeros_like(made.arrays["train"]["pixels"])
    left[..., :2] = 255
    made.arrays["train"]["pixels"] = left

    def inputs(seed: int | None) -> torch.Tensor:
        return torch.cat([b.inputs["pixels"] for b in made.batches("train", seed=seed)])

    assert torch.equal(inputs(1), inputs(1))
    assert not torch.equal(inputs(1), inputs(2))
    assert torch.equal(inputs(None), torch.from_numpy(left / np.float32(255)))
    ends = inputs(1)[:, 0, 4]
    assert (ends[:, -1] > 0).any(), "some are flipped"
    assert (ends[:, -1] == 0).any(), "some are not"


def test_data_and_preprocessing_are_the_fingerprint(tmp_path: Path) -> None:
    same, again = task(pictures(tmp_path)), task(tmp_path)
    assert same.fingerprint == again.fingerprint
    different = [task(tmp_path, seed=1), task(tmp_path, max_samples=5), task(tmp_path, preprocessing={"mean": [0.5]})]
    Image.new("RGB", (8, 8), (11, 10, 3)).save(tmp_path / "pictures" / "test" / "dark" / "3.png")
    different.append(task(tmp_path))
    assert len({t.fingerprint for t in (same, *different)}) == 5


def test_a_variant_of_an_image_is_the_same_in_any_order_and_company(tmp_path: Path) -> None:
    made = task(pictures(tmp_path), preprocessing={"augment": ["flip", "crop"]})
    assert made.augments
    made.arrays["train"]["pixels"] = np.random.default_rng(0).integers(0, 255, made.arrays["train"]["pixels"].shape, dtype=np.uint8)
    seen = made.take("train", np.array([3, 5, 9]), view=2).inputs["pixels"]
    again = made.take("train", np.array([9, 3]), view=2).inputs["pixels"]
    assert torch.equal(again[0], seen[2])
    assert torch.equal(again[1], seen[0])
    whole = made.take("train", np.arange(16), view=1).inputs["pixels"]
    assert not torch.equal(whole[[3, 5, 9]], seen)
    plain = made.take("train", np.arange(16)).inputs["pixels"]
    assert torch.equal(plain, next(made.batches("train", batch_size=16)).inputs["pixels"])
    assert not torch.equal(whole, plain)
