"""A cached step in ONNX Runtime decodes what ``generate`` of transformers decodes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compressors.targets.onnx_generation import Generator
from compressors.targets.onnx_session import OnnxSession
from compressors.targets.onnxruntime import OnnxRuntime
from tests.conformance.families import build

NEW = 6


def whisper() -> Any:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=60,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_mel_bins=16,
        max_source_positions=50,
        max_target_positions=30,
        pad_token_id=1,
        eos_token_id=1,
        bos_token_id=1,
        decoder_start_token_id=2,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    return WhisperForConditionalGeneration(config).eval(), {"input_features": torch.randn(2, 16, 100), "decoder_input_ids": torch.full((2, 3), 2)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Model, inputs and exported file of a family; each is exported once."""
    known: dict[str, Any] = {}

    def make(family: str) -> Any:
        if family not in known:
            model: Any
            model, inputs = whisper() if family == "whisper" else build(family)
            # Ends nothing, and repeats no fixed prompt: what is compared are plain greedy continuations.
            model.generation_config.eos_token_id = None
            known[family] = model, inputs, OnnxRuntime().export(model, inputs, tmp_path_factory.mktemp(family))
        return known[family]

    return make


def arrays(inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in inputs.items()}


def greedy(model: Any, **inputs: Any) -> np.ndarray:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("transformers").setLevel(logging.ERROR)
        found: torch.Tensor = model.generate(**inputs, max_new_tokens=NEW, do_sample=False, use_cache=True, pad_token_id=0)
    return found[:, -NEW:].numpy()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_decoders_say_what_transformers_says(made: Callable[[str], Any], family: str) -> None:
    model, _, path = made(family)
    generator = Generator(path, 1)
    for batch, length in ((1, 1), (3, 13)):
        ids = torch.randint(2, 60, (batch, length), generator=torch.Generator().manual_seed(length))
        found = generator.generate({"input_ids": ids.numpy()}, NEW)
        np.testing.assert_array_equal(found.tokens, greedy(model, input_ids=ids, attention_mask=torch.ones_like(ids)))
        assert len(found.token_ms) == NEW - 1
        assert set(found.statistics()) == {"first_token_ms", "token_ms", "tokens_per_second"}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_texts_of_several_lengths_are_padded_on_the_left(made: Callable[[str], Any], family: str) -> None:
    model, _, path = made(family)
    ids = torch.randint(2, 60, (2, 7), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 7, [0] * 3 + [1] * 4])
    found = Generator(path, 1).generate(arrays({"input_ids": ids, "attention_mask": mask}), NEW).tokens
    np.testing.assert_array_equal(found, greedy(model, input_ids=ids, attention_mask=mask))
    np.testing.assert_array_equal(found[1:], greedy(model, input_ids=ids[1:, 3:], attention_mask=mask[1:, 3:]))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_one_file_scores_texts_of_any_length(made: Callable[[str], Any], family: str) -> None:
    model, inputs, path = made(family)
    session = OnnxSession(path, 1)
    for batch, length in ((1, 2), (5, 23), inputs["input_ids"].shape):
        ids = torch.randint(2, 60, (batch, length))
        (found,) = session({"input_ids": ids.numpy()}).items()
        with torch.no_grad():
            np.testing.assert_allclose(found[1], model(input_ids=ids).logits.numpy(), atol=1e-5)
        assert found[0] == "logits"


def test_t5_decodes_beside_its_encoder(made: Callable[[str], Any]) -> None:
    model, _, path = made("t5")
    assert path.name == "decoder.onnx"
    assert (path.parent / "encoder.onnx").is_file()
    ids = torch.randint(2, 60, (3, 17))
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    start = torch.zeros(3, 1, dtype=torch.long)
    given = {"input_ids": ids, "attention_mask": mask}
    found = Generator(path, 1).generate(arrays({**given, "decoder_input_ids": start}), NEW)
    np.testing.assert_array_equal(found.tokens, greedy(model, **given))
    longer = {**given, "decoder_input_ids": torch.randint(2, 60, (3, 11))}
    with torch.no_grad():
        np.testing.assert_allclose(OnnxSession(path, 1)(arrays(longer))["logits"], model(**longer).logits.numpy(), atol=1e-5)


def test_whisper_hears_as_it_does_in_torch(made: Callable[[str], Any]) -> None:
    model, inputs, path = made("whisper")
    session = OnnxSession(path, 1)
    with torch.no_grad():
        np.testing.assert_allclose(session(arrays(inputs))["logits"], model(**inputs).logits.numpy(), atol=1e-5)
    generator = Generator(path, 1)
    assert generator.longest == 30
    found = generator.generate(arrays(inputs), NEW).tokens
    ids = inputs["decoder_input_ids"]
    for _ in range(NEW):
        with torch.no_grad():
            ids = torch.cat([ids, model(input_features=inputs["input_features"], decoder_input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
    np.testing.assert_array_equal(found, ids[:, 3:].numpy())


def test_draws_follow_their_seed_and_texts_end(made: Callable[[str], Any]) -> None:
    _, _, path = made("llama")
    generator = Generator(path, 1)
    prompt = {"input_ids": np.array([[5, 6, 7]])}
    drawn = [generator.generate(prompt, 12, temperature=1.5, seed=seed).tokens.tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    both = generator.generate({"input_ids": np.array([[5, 6, 7], [9, 9, 2]])}, 12, temperature=1.5).tokens
    stop = int(both[0, 2])
    stopped = generator.generate({"input_ids": np.array([[5, 6, 7], [9, 9, 2]])}, 12, temperature=1.5, stop=[stop]).tokens
    end = both[0].tolist().index(stop)
    assert (stopped[0, end:] == stop).all()
    assert generator.generate(prompt, 12, stop=range(64)).tokens.shape == (1, 1)


def test_too_long_a_text_is_said(made: Callable[[str], Any]) -> None:
    with pytest.raises(ValueError, match=r"38 tokens and 6 new ones; accepted: at most 40 together"):
        Generator(made("gpt2")[2], 1).generate({"input_ids": np.ones((1, 38), dtype=np.int64)}, NEW)


def test_a_model_without_a_cache_is_said(tmp_path: Path) -> None:
    model, inputs = build("mlp")
    with pytest.raises(ValueError, match=r"model.onnx keeps no cache: it is no model that generates"):
        Generator(OnnxRuntime().export(model, inputs, tmp_path), 1)
