"""What may vary in an exported model, and what is said where it may not."""

from __future__ import annotations

import pytest
import torch

from compressors.context import logits_of
from compressors.errors import UserError
from compressors.targets.exported import ExportedModel, capture, capture_program, signature_of
from compressors.targets.programs import generating_programs
from tests.conformance.families import build

from .conftest import OneLength


@pytest.mark.parametrize(("family", "longest"), [("bert", 40), ("roberta", 38)])
def test_texts_of_any_length(family: str, longest: int) -> None:
    model, inputs = build(family)
    graph = capture(model, inputs)
    signature = signature_of(graph, inputs)
    assert signature.axes == ({0: "batch", 1: "sequence"},) * 2
    assert (signature.longest, signature.note) == (longest, "")
    exported = ExportedModel(graph, list(inputs))
    for batch, length in ((1, 1), (3, 7), (2, longest)):
        texts = {"input_ids": torch.randint(2, 60, (batch, length)), "attention_mask": torch.ones(batch, length, dtype=torch.long)}
        texts["attention_mask"][:, length // 2 + 1 :] = 0
        with torch.no_grad():
            torch.testing.assert_close(exported(**texts), logits_of(model(**texts)))


def test_code_for_one_length_keeps_it_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    inputs = {"input_ids": torch.randint(0, 20, (2, 5))}
    graph = capture(OneLength(), inputs)
    signature = signature_of(graph, inputs)
    assert signature.axes == ({0: "batch"},)
    assert signature.note.startswith("texts keep their length: ")
    assert signature.note in caplog.text
    exported = ExportedModel(graph, ["input_ids"])
    assert exported(input_ids=torch.zeros(3, 5, dtype=torch.long)).shape == (3, 2)
    with pytest.raises(UserError, match=r"input_ids is 3x6; the exported model takes batchx5 \(texts keep their length: "):
        exported(input_ids=torch.zeros(3, 6, dtype=torch.long))


def test_images_have_one_size_and_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    model, inputs = build("plain_cnn")
    signature = signature_of(capture(model, inputs), inputs)
    assert [i.dims for i in signature.inputs] == [("batch", 1, 8, 8)]
    assert not signature.note
    assert not [record for record in caplog.records if record.name.startswith("compressors")]


@pytest.mark.parametrize("family", ["gpt2", "glm", "mistral"])
def test_a_cached_step_without_a_cache_is_the_forward_pass(family: str) -> None:
    model, inputs = build(family)
    model.train()
    graph = capture_program(generating_programs(model, inputs)["model"], inputs)
    assert model.training
    signature = signature_of(graph, inputs)
    assert signature.inputs[1].dims == ("batch", "past + sequence")
    assert [i.dims[2] for i in signature.inputs[2:]] == ["past"] * 4
    assert not signature.note
    exported = ExportedModel(graph, list(inputs))
    model.eval()
    for shape in ((1, 1), (3, 14)):
        ids = torch.randint(2, 60, shape)
        with torch.no_grad():
            torch.testing.assert_close(exported(input_ids=ids), logits_of(model(input_ids=ids)))
