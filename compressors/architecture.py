"""The architecture of a ``transformers`` model as plain data, from which the library alone builds a fresh instance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["architecture_of", "build", "config_of"]

_ATTENTION = ("eager", "sdpa")


def architecture_of(model: nn.Module) -> dict[str, Any] | None:
    """Class and configuration of a model of ``transformers``, or of what it was quantized from; None for any other."""
    kept: dict[str, Any] | None = getattr(model, "compareto_architecture", None)
    if kept is not None or not type(model).__module__.startswith("transformers."):
        return kept
    import transformers

    # Parts of models, such as the encoder of one, have names in their own module alone.
    config = getattr(model, "config", None) if getattr(transformers, type(model).__name__, None) is type(model) else None
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
    config = config_of(architecture)
    with torch.random.fork_rng():
        model: nn.Module = _class_of(architecture)(config)
    return model.eval()


def config_of(architecture: Mapping[str, Any]) -> Any:
    """The configuration as an object of the library.

    Raises:
        LookupError, TypeError, ValueError: see ``build``.
    """
    from huggingface_hub.errors import StrictDataclassError

    attention = architecture["attention"]
    if attention not in _ATTENTION:
        raise LookupError(f"attention implementation {attention!r}; accepted: {', '.join(_ATTENTION)}")
    try:
        config = _class_of(architecture).config_class.from_dict({k: v for k, v in architecture["config"].items() if k != "auto_map"})
    except StrictDataclassError as error:
        raise ValueError(str(error)) from error
    config._attn_implementation = attention  # noqa: SLF001 - the library's constructors read it there
    return config


def _class_of(architecture: Mapping[str, Any]) -> Any:
    import transformers

    name = architecture["class"]
    found: Any = getattr(transformers, str(name), None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise LookupError(f"{name!r} is no model of transformers {transformers.__version__}")  # noqa: TRY004 - the class is what is not found
    return found
