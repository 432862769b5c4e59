"""A tokenizer with the tokens of a trimmed vocabulary, numbered anew: texts of these tokens become the same tokens as before.

Other words become pieces that are left, or the unknown token. Tokenizers of byte pairs are refused: they build their tokens from others, which the data need
not use.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["trimmed_tokenizer"]

_TRIMMED = ("WordPiece", "WordLevel", "Unigram")


def trimmed_tokenizer(tokenizer: Any, tokens: Sequence[int]) -> dict[str, str] | str:
    """The files of the trimmed tokenizer by their names, or why there is none.

    Args:
        tokenizer: of ``transformers``.
        tokens: numbers of those that stay; their positions are their new numbers.
    """
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = {path.name: path.read_text(encoding="utf-8") for path in Path(folder).iterdir() if path.suffix in (".json", ".jinja")}
    if "tokenizer.json" not in files:
        return "its tokenizer has no tokenizer.json"
    content = json.loads(files["tokenizer.json"])
    model = content["model"]
    if model.get("type") not in _TRIMMED:
        return f"its tokenizer is of the type {model.get('type')}, whose tokens are built from others; those that can be trimmed are {', '.join(_TRIMMED)}"
    rows = {token: row for row, token in enumerate(tokens)}
    if model["type"] == "Unigram":
        if model["unk_id"] is not None and model["unk_id"] not in rows:
            return "its tokenizer's unknown token was dropped"
        model["vocab"] = [model["vocab"][token] for token in tokens if token < len(model["vocab"])]
        model["unk_id"] = None if model["unk_id"] is None else rows[model["unk_id"]]
    else:
        model["vocab"] = {text: rows[token] for text, token in model["vocab"].items() if token in rows}
    content["added_tokens"] = [{**added, "id": rows[added["id"]]} for added in content["added_tokens"] if added["id"] in rows]
    content["post_processor"] = _processor(content["post_processor"], rows)
    if content["padding"] is not None:
        content["padding"]["pad_id"] = rows[content["padding"]["pad_id"]]
    files["tokenizer.json"] = json.dumps(content, ensure_ascii=False)
    settings = json.loads(files["tokenizer_config.json"])
    if "added_tokens_decoder" in settings:
        settings["added_tokens_decoder"] = {str(rows[int(token)]): value for token, value in settings["added_tokens_decoder"].items() if int(token) in rows}
        files["tokenizer_config.json"] = json.dumps(settings, ensure_ascii=False, indent=1)
    return files


def _processor(processor: Any, rows: Mapping[int, int]) -> Any:
    """With the new numbers of the special tokens that it adds."""
    if isinstance(processor, list):
        return [_processor(each, rows) for each in processor]
    if not isinstance(processor, dict):
        return processor
    if processor.get("type") in ("BertProcessing", "RobertaProcessing"):
        return {**processor, **{key: [processor[key][0], rows[processor[key][1]]] for key in ("sep", "cls")}}
    changed = {key: _processor(value, rows) for key, value in processor.items()}
    for special in changed.get("special_tokens", {}).values() if processor.get("type") == "TemplateProcessing" else ():
        special["ids"] = [rows[token] for token in special["ids"]]
    return changed
