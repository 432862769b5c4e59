"""The ways in which a model is called that generates, and why some models have none."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from compressors.errors import UnexportableError
from compressors.targets.programs import generating_programs
from tests.conformance.families import build


def test_a_decoder_has_a_step() -> None:
    (name, program), *others = generating_programs(*build("llama")).items()
    assert (name, others) == ("model", [])
    assert program.signature.outputs == ("logits", "present.0.key", "present.0.value", "present.1.key", "present.1.value")
    assert program.signature.longest == 64


def test_an_encoder_decoder_has_two_programs_and_the_encoder_feeds_the_decoder() -> None:
    encoder, decoder = generating_programs(*build("t5")).values()
    fed = [name.replace("present", "past_key_values") for name in encoder.signature.outputs]
    crossed = [i for i in decoder.signature.inputs if ".encoder." in i.name]
    assert fed == [i.name for i in crossed]
    assert {i.dims[2] for i in crossed} == {"encoder_sequence"}
    assert encoder.signature.inputs[0].dims == ("batch", "encoder_sequence")
    assert [i.name for i in decoder.signature.inputs[:2]] == ["decoder_input_ids", "attention_mask"]


@pytest.mark.parametrize("family", ["bert", "plain_cnn", "whisper_encoder", "clip_vision"])
def test_others_have_none(family: str) -> None:
    assert generating_programs(*build(family)) == {}


def test_a_decoder_with_further_inputs_says_so() -> None:
    model, inputs = build("llama")
    inputs["position_ids"] = torch.arange(10).expand(2, -1)
    with pytest.raises(UnexportableError, match="one with position_ids"):
        generating_programs(model, inputs)


def test_a_state_that_is_no_cache_says_so() -> None:
    from transformers import JambaConfig, JambaForCausalLM

    sizes: dict[str, Any] = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = JambaConfig(**sizes, num_hidden_layers=2, attn_layer_period=2, attn_layer_offset=1, num_experts=2, mamba_d_state=4)
    model = JambaForCausalLM(config).eval()
    with pytest.raises(UnexportableError, match="one with a cache of DynamicLayer, LinearAttentionLayer"):
        generating_programs(model, {"input_ids": torch.randint(2, 60, (2, 6))})
