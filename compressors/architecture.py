"""The architecture of a ``transformers`` model as plain data, from which the library alone builds a fresh instance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["architecture_of", "build"]

_ATTENTION = ("eager", "sdpa")


def architecture_of(model: nn.Module) -> dict[str, Any] | None:
    """Class and configuration of a model of ``transformers``, or of what it was quantized from; None for any other."""
    kept: dict[str, Any] | None = getattr(model, "compareto_architecture", None)
    if kept is not None or not type(model).__module__.startswith("transformers."):
        return kept
    config = getattr(model, "config", None)
    attention = getattr(config, "_attn_implementation", None)
    if config is None or attention not in _ATTENTION:
        return None
    return {"class": type(model).__name__, "attention": attention, "config": json.loads(config.to_json_string(use_diff=False))}


def build(architecture: Mapping[str, Any]) -> nn.Module:
    """A fresh instance in eval mode, with random weights.

    The data may come from a file: only model classes of the library itself are built, never code that a configuration points to.

    Raises:
        LookupError: no such class, or an attention implementation other than eager and sdpa.
        TypeError, ValueError: a configuration that the class does not accept.
    """
    import transformers

    name, attention = architecture["class"], architecture["attention"]
    found: Any = getattr(transformers, str(name), None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise LookupError(f"{name!r} is no model of transformers {transformers.__version__}")  # noqa: TRY004 - the class is what is not found
    if attention not in _ATTENTION:
        raise LookupError(f"attention implementation {attention!r}; accepted: {', '.join(_ATTENTION)}")
    cls: Any = found
    config = cls.config_class.from_dict({k: v for k, v in architecture["config"].items() if k != "auto_map"})
    config._attn_implementation = attention  # noqa: SLF001 - the library's constructors read it there
    with torch.random.fork_rng():
        model: nn.Module = cls(config)
    return model.eval()
