"""Every family, half of every kind of axis gone: what is saved and what is exported is that model."""

import pytest

from tests.conformance.families import FAMILIES
from tests.conformance.measures import exported, reloaded

ALIKE = ("deit", "mistral", "roberta")
"""Their operators are those of vit, llama and bert."""
EXPORTED = [pytest.param(family, marks=pytest.mark.slow) if family in ALIKE else family for family in FAMILIES]


def test_a_checkpoint_is_the_same_model_in_a_fresh_process(tmp_path):
    assert reloaded(FAMILIES, tmp_path) == dict.fromkeys(FAMILIES, True)


@pytest.mark.parametrize("family", EXPORTED)
def test_the_onnx_file_gives_the_models_answers(family, tmp_path):
    assert exported(family, tmp_path) <= 1e-3
