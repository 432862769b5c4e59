import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from compressors.checkpoint import save
from compressors.pipeline import compress
from compressors.trimmed_tokenizer import trimmed_tokenizer
from tests.compressors.test_vocabulary import TRIM, case

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh", "##b", "##c", "cab", "bag", "##age"]
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def tokenizer(model):
    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(list(SPECIAL.values()))
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[(t, made.token_to_id(t)) for t in ("[CLS]", "[SEP]")])
    made.enable_padding(pad_id=made.token_to_id("[PAD]"), pad_token="[PAD]")
    return PreTrainedTokenizerFast(tokenizer_object=made, **SPECIAL)


def written(files, folder):
    for name, text in files.items():
        (folder / name).write_text(text)
    return AutoTokenizer.from_pretrained(folder)


MODELS = {
    "WordPiece": lambda: models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"),
    "WordLevel": lambda: models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"),
    "Unigram": lambda: models.Unigram([(word, -float(i)) for i, word in enumerate(WORDS)], unk_id=1),
}


@pytest.mark.parametrize("kind", MODELS)
def test_texts_of_used_tokens_become_the_same_tokens(kind, tmp_path):
    whole = tokenizer(MODELS[kind]())
    texts = ["cab bag", "a h cab"]
    tokens = sorted({0, 1, 2, 3, *(t for text in texts for t in whole(text)["input_ids"])})
    assert len(tokens) < len(whole)
    trimmed = written(trimmed_tokenizer(whole, tokens), tmp_path)
    assert len(trimmed) == len(tokens)
    for text in texts:
        ids = trimmed(text)["input_ids"]
        assert [tokens[i] for i in ids] == whole(text)["input_ids"]
        assert trimmed.decode(ids) == whole.decode(whole(text)["input_ids"])
    assert trimmed.pad_token_id == 0
    assert tokens[trimmed("cab", padding="max_length", max_length=6)["input_ids"][-1]] == 0
    assert trimmed("f")["input_ids"] == [2, 1, 3], "[CLS] [UNK] [SEP]"


def test_tokens_that_are_built_from_others_are_not_trimmed():
    made = tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2, **{t: i + 3 for i, t in enumerate(SPECIAL.values())}}, [("a", "b")], unk_token="[UNK]"))
    assert "of the type BPE, whose tokens are built from others" in trimmed_tokenizer(made, [2, 3, 4, 5, 6])


def test_a_saved_folder_has_the_tokenizer_that_goes_with_it(tmp_path):
    model, inputs, data = case("bert")
    whole = tokenizer(models.WordPiece({**{word: i for i, word in enumerate(WORDS)}, **{f"w{i}": i for i in range(len(WORDS), 60)}}, unk_token="[UNK]"))
    data.special_tokens = tuple(whole.all_special_ids)
    smaller = compress(model, TRIM, inputs, data)
    assert save(smaller, tmp_path / "trimmed", tokenizer=whole) == ""
    vocabulary = json.loads((tmp_path / "trimmed/config.json").read_text())["vocab_size"]
    assert len(AutoTokenizer.from_pretrained(tmp_path / "trimmed")) == vocabulary < 60
    assert save(model, tmp_path / "whole", tokenizer=whole) == ""
    assert len(AutoTokenizer.from_pretrained(tmp_path / "whole")) == len(whole)
    pruned = compress(model, [*TRIM, {"prune": {"ratio": {"heads": 0.5}}}], inputs, data)
    assert "query.weight" in save(pruned, tmp_path / "table", tokenizer=whole)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "table")) == len(whole), "the model itself takes the numbers of all tokens"
