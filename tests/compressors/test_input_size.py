import pytest
import torch
from torch import nn

from compressors.checkpoint import load, save
from compressors.context import logits_of
from compressors.errors import CompressionError, UserError
from compressors.graph import trace
from compressors.input_size import InputSize
from compressors.pipeline import compress
from compressors.recipe import Recipe
from tests.conformance.families import build

IMAGE = {"image": torch.zeros(2, 3, 32, 32)}
TEXT = {"input_ids": torch.zeros(2, 16, dtype=torch.long), "attention_mask": torch.ones(2, 16, dtype=torch.long)}
TRACK = {"track": torch.zeros(2, 16, 2)}
SOUND = {"sound": torch.zeros(2, 400)}


@pytest.mark.parametrize(
    ("settings", "inputs", "size", "how"),
    [
        ({"image": 24}, IMAGE, (24, 24), "resize"),
        ({"image": 24, "how": "crop"}, IMAGE, (24, 24), "crop"),
        ({"image": 16}, {"image": torch.zeros(1, 3, 32, 48)}, (16, 24), "resize"),
        ({"scale": 0.7}, IMAGE, (22, 22), "resize"),
        ({"scale": 0.7, "round_to": 8}, IMAGE, (24, 24), "resize"),
        ({"length": 8}, TEXT, (8,), "truncate"),
        ({"length": 8}, TRACK, (8,), "resize"),
        ({"scale": 0.5}, SOUND, (200,), "crop"),
    ],
)
def test_what_a_size_means(settings, inputs, size, how):
    sizing = InputSize(**settings).sizing(inputs)
    assert (sizing.size, sizing.how) == (size, how)


def test_the_size_of_the_data_changes_nothing():
    assert InputSize(scale=1).sizing(IMAGE) is None
    assert InputSize(image=32).sizing(IMAGE) is None


@pytest.mark.parametrize(
    ("settings", "inputs", "said"),
    [
        ({"image": 40}, IMAGE, "input_size.image: 40: larger than the data's 32x32; accepted: 1 to 32"),
        ({"length": 8}, IMAGE, "input_size.length: 8: the model takes images; accepted: image or scale"),
        ({"image": 8}, TEXT, "input_size.image: 8: the model takes texts; accepted: length or scale"),
        ({"length": 17}, TEXT, "input_size.length: 17: larger than the data's 16; accepted: 1 to 16"),
        ({"length": 2}, TEXT, "input_size.length: 2: 2 tokens hold no word beside the special ones; accepted: 3 to 16"),
        ({"scale": 0.5, "how": "crop"}, TEXT, "input_size.how: crop: texts are cut at their end; accepted: no how"),
        (
            {"scale": 0.5},
            {"a": torch.zeros(2, 3, 4), "b": torch.zeros(2, 3, 4)},
            "the model's inputs are no images, texts or series (a [2, 3, 4], b [2, 3, 4])",
        ),
    ],
)
def test_a_size_that_cannot_be_is_one_clear_error(settings, inputs, said):
    with pytest.raises(CompressionError) as error:
        InputSize(**settings).sizing(inputs, fewest=3)
    assert said in str(error.value)


def test_it_takes_one_size_and_stands_first():
    with pytest.raises(UserError, match="give one of image, length and scale"):
        Recipe.from_plain([{"input_size": {"image": 8, "scale": 0.5}}])
    with pytest.raises(UserError, match=r"recipe\[1\]: input_size stands behind steps that would see .* accepted: input_size as the first step"):
        Recipe.from_plain([{"prune": {"ratio": 0.5}}, {"input_size": {"scale": 0.5}}])


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    model, inputs = build("vit")
    return model.eval(), inputs


def test_a_vision_transformer_keeps_its_class_token_and_resizes_its_grid(vit, tmp_path):
    model, inputs = vit
    ((name, image),) = inputs.items()
    native = image.shape[-1]
    before = model.vit.embeddings.position_embeddings
    smaller = compress(model, [{"input_size": {"scale": 0.5}}], inputs)
    after = smaller.vit.embeddings.position_embeddings
    patch = model.config.patch_size
    assert after.shape[1] == (native // 2 // patch) ** 2 + 1
    torch.testing.assert_close(after[:, 0], before[:, 0])
    assert model.vit.embeddings.position_embeddings is before, "the model is left as it was"
    half = torch.rand(*image.shape[:2], native // 2, native // 2)
    with torch.no_grad():
        found = smaller(**{name: half}).logits
        # What transformers does to an image of another size, but for its antialiasing.
        theirs = model(**{name: half}, interpolate_pos_encoding=True).logits
    assert torch.cosine_similarity(found, theirs).min() > 0.95
    save(smaller, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path)(**{name: half}).logits, found)
        torch.testing.assert_close(load(tmp_path, model)(**{name: half}).logits, found)


def test_a_quantized_vision_transformer_is_loaded_at_its_size(vit, tmp_path):
    model, inputs = vit
    ((name, image),) = inputs.items()
    smaller = compress(model, [{"input_size": {"scale": 0.5}}, {"quantize": {"weight_bits": 8, "activation_bits": 32}}], inputs)
    save(smaller, tmp_path)
    half = torch.rand(2, image.shape[1], image.shape[2] // 2, image.shape[3] // 2)
    with torch.no_grad():
        torch.testing.assert_close(logits_of(load(tmp_path, model)(**{name: half})), logits_of(smaller(**{name: half})))


def test_patches_have_to_fill_the_image(vit):
    model, inputs = vit
    size = next(iter(inputs.values())).shape[-1] // 2 + 1
    with pytest.raises(CompressionError) as error:
        compress(model, [{"input_size": {"image": size}}], inputs)
    assert str(error.value).startswith(f"input_size.image: {size}: the model's patches have ")
    assert "accepted: " in str(error.value)


def test_a_pruned_vision_transformer_costs_what_it_does_at_that_size(vit):
    model, inputs = vit
    name = next(iter(inputs))
    recipe = [{"input_size": {"scale": 0.5}}, {"prune": {"ratio": {"ffn": 0.5}}}]
    smaller = compress(model, recipe, inputs)
    at = InputSize(scale=0.5)
    sizing = at.sizing(inputs)
    image = {name: torch.from_numpy(sizing.of({name: inputs[name].numpy()})[name])}
    graph = at.trace(at.resized(model, sizing), image, trace(model, inputs))
    edits = Recipe.from_plain(recipe).plan(graph, {"l2": {a.name: torch.rand(a.size).numpy() for a in graph.prunable}})
    assert int(graph.count_macs(edits[-1].shapes(graph))[0]) == trace(smaller, image).macs


class Strided(nn.Module):
    """Ends in a layer that needs what the strides leave of the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 5, stride=4), nn.Linear(4 * 7 * 7, 3)

    def forward(self, image):
        return self.head(self.conv(image).flatten(1))


def test_a_model_of_one_size_says_so():
    with pytest.raises(CompressionError) as error:
        compress(Strided().eval(), [{"input_size": {"image": 16}}], IMAGE)
    assert str(error.value).startswith("input_size.image: 16: the model does not take image [2, 3, 16, 16]: ")
    assert str(error.value).endswith("accepted: sizes nearer to the data's")
