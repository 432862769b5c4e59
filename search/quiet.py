"""Keeps third parties' start-up messages out of what a command prints."""

from __future__ import annotations

import logging
import os
import warnings

__all__ = ["quiet_libraries"]

_CHATTY = ("torchao", "torch.utils._pytree", "torch.onnx", "onnxscript", "transformers", "datasets", "huggingface_hub")


def quiet_libraries() -> None:
    """Errors only, and no progress bars of their own; what users have set in the environment stands. Imports none of them."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    # Deprecations inside of libraries are for their authors; our own tests turn every warning into an error.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
