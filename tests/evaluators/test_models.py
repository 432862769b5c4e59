from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from compressors.errors import UserError
from evaluators.models import ModelSpec, input_names, load_model, model_fingerprint
from evaluators.tasks.image_classification import ImageClassification
from evaluators.tasks.text_classification import TextClassification

FACTORY = """
from torch import nn


class Tiny(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.head = nn.Linear(4, classes)

    def forward(self, picture):
        return self.head(self.norm(picture).flatten(1))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models.py").write_text(FACTORY)
    return tmp_path


def task(classes: int = 3) -> ImageClassification:
    return ImageClassification({}, "0", {"picture": torch.rand(1, 1, 2, 2)}, classes)


def load(folder: Path, classes: int = 3, **spec: object) -> nn.Module:
    return load_model(ModelSpec(factory="models.py:Tiny", **spec), folder, task(classes))


def test_a_factory_is_called_with_its_arguments_and_the_same_seed(folder: Path) -> None:
    torch.manual_seed(5)
    one = load(folder)
    torch.manual_seed(6)
    assert model_fingerprint(one) == model_fingerprint(load(folder))
    assert not one.training
    assert load(folder, 7, arguments={"classes": 7}).head.out_features == 7
    assert input_names(ModelSpec(factory="models.py:Tiny"), folder) == ("picture",)


@pytest.mark.parametrize("kind", ["safetensors", "state dict", "checkpoint", "parallel"])
def test_weights_are_loaded_whatever_wraps_them(folder: Path, kind: str) -> None:
    state = {name: torch.rand_like(value) if value.ndim else value for name, value in load(folder).state_dict().items()}
    name = "weights.safetensors" if kind == "safetensors" else "weights.pth"
    if kind == "safetensors":
        save_file(state, folder / name)
    elif kind == "checkpoint":
        torch.save({"epoch": 3, "state_dict": state}, folder / name)
    else:
        torch.save({f"module.{k}": v for k, v in state.items()} if kind == "parallel" else state, folder / name)
    assert all(torch.equal(value, state[key]) for key, value in load(folder, weights=name).state_dict().items())


def test_weights_without_the_counters_of_batch_norms_are_whole(folder: Path) -> None:
    save_file({k: v for k, v in load(folder).state_dict().items() if "num_batches" not in k}, folder / "w.safetensors")
    load(folder, weights="w.safetensors")


def test_nothing_is_unpickled(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (folder / "ran",))

    torch.save({"x": Evil()}, folder / "weights.pth")
    with pytest.raises(UserError, match=r"weights\.pth is neither safetensors nor a state dict"):
        load(folder, weights="weights.pth")
    assert not (folder / "ran").exists()


def test_weights_of_another_model(folder: Path) -> None:
    save_file({"head.weight": torch.zeros(3, 5), "body.weight": torch.zeros(1)}, folder / "w.safetensors")
    with pytest.raises(UserError, match=r"model\.weights: w\.safetensors does not fit the model; \d differ, such as norm\.weight, "):
        load(folder, weights="w.safetensors")


def test_a_head_of_another_size_than_the_data(folder: Path) -> None:
    with pytest.raises(UserError, match="the head has 3 labels, the data 5 classes"):
        load(folder, 5)


def test_fingerprints_tell_weights_and_structure_apart(folder: Path) -> None:
    one, other, wider = load(folder), load(folder), load(folder, 4, arguments={"classes": 4})
    assert model_fingerprint(one) == model_fingerprint(other) != model_fingerprint(wider)
    with torch.no_grad():
        other.head.bias[0] += 1e-6
    assert model_fingerprint(one) != model_fingerprint(other)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of a few hundred weights without and with a head, saved as ``transformers`` does."""
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    folder = tmp_path_factory.mktemp("pretrained")
    sizes = {"vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 8}
    BertModel(BertConfig(**sizes)).save_pretrained(folder / "encoder")
    BertForSequenceClassification(BertConfig(**sizes, num_labels=4)).save_pretrained(folder / "classifier")
    return folder


def load_pretrained(folder: Path, name: str, classes: int) -> nn.Module:
    inputs = {"input_ids": torch.ones(1, 4, dtype=torch.long), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    return load_model(ModelSpec(pretrained=name, task="text-classification"), folder, TextClassification({}, "0", inputs, classes))


def test_an_encoder_gets_a_head_for_the_data_the_same_each_time(pretrained: Path) -> None:
    one, again = load_pretrained(pretrained, "encoder", 6), load_pretrained(pretrained, "encoder", 6)
    assert one.classifier.out_features == 6
    assert model_fingerprint(one) == model_fingerprint(again)


def test_a_classifier_keeps_its_head(pretrained: Path) -> None:
    assert load_pretrained(pretrained, "classifier", 4).classifier.out_features == 4


def test_a_classifier_of_other_classes_is_refused(pretrained: Path) -> None:
    with pytest.raises(UserError, match=r"model\.pretrained: the head has 4 labels, the data 6 classes"):
        load_pretrained(pretrained, "classifier", 6)


def test_a_folder_that_is_not_whole(pretrained: Path) -> None:
    weights = pretrained / "classifier" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    with pytest.raises(UserError, match=r"model\.pretrained: cannot load .*classifier: "):
        load_pretrained(pretrained, "classifier", 4)
    weights.write_bytes(whole)
