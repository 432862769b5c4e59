import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from compressors.errors import UserError
from search.experiment import Experiment
from search.loading import load_experiment

PI = "raspberry-pi-5/onnxruntime"
WORDS = ["[PAD]", "[UNK]", "the", "cat", "sat", "on", "a", "mat"]
FACTORY = """
from torch import nn


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(8, 8)

    def forward(self, input_ids):
        return self.table(input_ids)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Llama of two layers that counts to 64, its tokenizer, a model without a cache, and texts."""
    place = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64
    )
    LlamaForCausalLM(config).save_pretrained(place / "model")
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(place / "model")
    (place / "models.py").write_text(FACTORY)
    for split in ("train", "validation"):
        (place / f"{split}.jsonl").write_text("\n".join(json.dumps({"text": "the cat sat on a mat"}) for _ in range(60)))
    return place


def experiment(folder: Path, objective: str = "size_bytes", model: dict[str, str] | None = None, **workload: int) -> Experiment:
    return Experiment.from_plain(
        {
            "model": {**(model or {"pretrained": "model"}), "task": "causal-lm"},
            "data": {"files": {s: f"{s}.jsonl" for s in ("train", "validation")}, "preprocessing": {"sequence": 16, "tokenizer": "model"}},
            "workload": workload,
            "devices": [PI],
            "objectives": ["perplexity", objective],
            "recipe": [{"quantize": {"weight_bits": {"choice": [8, 16]}}}],
        },
        folder=folder,
    )


def lengths(folder: Path, **workload: int) -> tuple[dict[str, int], float]:
    """Tokens of each program, of ``decode`` those in its cache, and by how much that grows."""
    graph = load_experiment(experiment(folder, **workload)).graph
    (decode,) = (p for p in graph.programs if p.name == "decode")
    widths, found = graph.baseline().widths, {"forward": next(t for t in graph.tensors if t.name == "input_ids")}
    found |= {p.name: next(t for t in p.tensors if t.name == "input_ids") for p in graph.programs if p.name != "decode"}
    sizes = {name: int(tensor.dims[1].evaluate(widths)[0]) for name, tensor in found.items()}
    cache = next(t for t in decode.tensors if t.name.startswith("past_key_values"))
    return {**sizes, "decode": int(cache.dims[2].evaluate(widths)[0])}, decode.growth


def test_a_language_model_has_the_programs_of_its_workload(folder):
    assert lengths(folder, prompt_tokens=24, new_tokens=8) == ({"forward": 16, "prefill": 24, "decode": 28}, pytest.approx(32 / 28))


def test_what_a_workload_leaves_out_is_what_the_model_can_count(folder):
    assert lengths(folder) == ({"forward": 16, "decode": 16 + 48 // 2}, pytest.approx(64 / 40))


def test_more_tokens_than_the_model_counts_are_refused(folder):
    with pytest.raises(UserError, match="workload: 60 tokens of the prompt and 8 new ones; accepted: at most 64 together"):
        load_experiment(experiment(folder, prompt_tokens=60, new_tokens=8))


def test_tokens_are_an_objective_of_models_that_can_be_traced_so(folder):
    assert experiment(folder, "ms_per_token").objectives[1] == f"ms_per_token@{PI}"
    with pytest.raises(UserError, match="ttft_ms: the decoding step of Words cannot be traced; accepted: models of transformers that return a cache"):
        load_experiment(experiment(folder, "ttft_ms", {"factory": "models.py:Words"}))
