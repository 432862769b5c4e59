"""What runs an artifact: a process that has its runtime, and torch only where that needs it."""

from __future__ import annotations

import io
import logging
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError
from search.load_artifact import Predictor, load_artifact
from search.serving.request_error import RequestError
from search.serving.validation import Question

__all__ = ["Replica", "resident_bytes"]

_MOST_PIXELS = 50_000_000

_log = logging.getLogger(__name__)

Answer = dict[str, Any] | RequestError


class Replica:
    """An artifact that is loaded.

    Args:
        folder: of the artifact.
        threads: within an operator.
        provider: of ONNX Runtime.

    Attributes:
        empty_bytes: resident before the artifact was loaded.
    """

    def __init__(self, folder: str, threads: int = 1, provider: str = "cpu") -> None:
        self.empty_bytes = resident_bytes()
        self._predict: Predictor = load_artifact(folder, threads=threads, provider=provider)
        self._task = str(self._predict.signature["task"])
        self._tokens: Any = None
        if self._task == "causal-lm":
            from tokenizers import Tokenizer

            path = Path(folder) / str(self._predict.signature["preprocessing"].get("tokenizer", "tokenizer")) / "tokenizer.json"
            self._tokens = Tokenizer.from_file(str(path)) if path.is_file() else None

    def status(self) -> dict[str, Any]:
        """Process, memory in bytes, runtime, and whether torch is loaded."""
        return {
            "pid": os.getpid(),
            "resident_bytes": resident_bytes(),
            "empty_bytes": self.empty_bytes,
            "runtime": self._predict.runtime,
            "provider": self._predict.provider,
            "torch": "torch" in sys.modules,
        }

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer a question; those on texts or images run as one batch. A question that cannot be answered does not spoil the others."""
        answers: list[Answer | None] = [None] * len(questions)
        lists = [i for i, question in enumerate(questions) if isinstance(question.inputs, list)]
        if len(lists) > 1:
            try:
                raw = [value for i in lists for value in self._decoded(questions[i])]
                outputs, start = self._run(raw), 0
                for i in lists:
                    stop = start + questions[i].count
                    answers[i] = self._told({name: value[start:stop] for name, value in outputs.items()}, questions[i].top)
                    start = stop
            except Exception:  # noqa: BLE001 - each is asked alone, and what is then raised is its own
                answers = [None] * len(questions)
        return [self._alone(question) if found is None else found for question, found in zip(questions, answers, strict=True)]

    def _alone(self, question: Question) -> Answer:
        try:
            inputs = self._decoded(question) if isinstance(question.inputs, list) else question.inputs
            return self._told(self._run(inputs), question.top)
        except RequestError as refusal:
            return refusal
        except UserError as error:
            return RequestError(400, str(error), key="inputs")
        except Exception as error:  # noqa: BLE001 - a bug: told to this request, and logged, but the others of the batch are answered
            _log.exception("a request could not be answered")
            return RequestError(500, f"{type(error).__name__} in the server")

    def _run(self, inputs: Any) -> dict[str, Any]:
        # What is not finite is refused where it is told.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._predict(inputs)

    def _decoded(self, question: Question) -> Sequence[Any]:
        if "mean" not in self._predict.signature["preprocessing"]:
            return question.inputs  # type: ignore[return-value]  # a list: arrays are not decoded
        from PIL import Image

        for i, value in enumerate(question.inputs):
            try:
                # Reads the header alone: a small file may claim more pixels than there is memory.
                with Image.open(io.BytesIO(value), formats=("PNG", "JPEG")) as image:  # type: ignore[arg-type]  # bytes
                    width, height = image.size
            except Exception as error:
                # Pillow's readers raise classes of their own, and struct's, for what is no image.
                raise RequestError(400, f"input {i} is no PNG or JPEG image", key=f"inputs[{i}]", accepted="a PNG or JPEG file in base64") from error
            if width * height > _MOST_PIXELS:
                message = f"input {i} has {width} x {height} pixels"
                raise RequestError(400, message, key=f"inputs[{i}]", accepted=f"at most {_MOST_PIXELS:,} pixels")
        return question.inputs  # type: ignore[return-value]

    def _told(self, outputs: dict[str, Any], top: int) -> dict[str, Any]:
        logits: NDArray[Any] = np.asarray(outputs["logits"])
        if self._task == "causal-lm":
            mask = outputs.get("attention_mask")
            tokens = np.arange(logits.shape[1])
            last = tokens[-1:].repeat(len(logits)) if mask is None else (np.asarray(mask) * tokens).argmax(-1)
            return {"predictions": [self._next(row, top) for row in _finite(_softmax(logits[np.arange(len(logits)), last]))]}
        if "probabilities" not in outputs:
            return {"outputs": _finite(logits).tolist()}
        probabilities = _finite(np.asarray(outputs["probabilities"]))
        if top == 1:
            best = probabilities.argmax(-1)
            return {"predictions": [[_class(label, row[i])] for label, row, i in zip(outputs["labels"], probabilities, best, strict=True)]}
        names = list(self._predict.signature["labels"]) or list(range(probabilities.shape[-1]))
        return {"predictions": [[_class(names[i], row[i]) for i in _best(row, top)] for row in probabilities]}

    def _next(self, row: NDArray[Any], top: int) -> list[dict[str, Any]]:
        return [
            {"token": int(i), "text": "" if self._tokens is None else self._tokens.decode([int(i)]), "probability": _rounded(row[i])} for i in _best(row, top)
        ]


def resident_bytes() -> int:
    """Of this process: now on Linux, at its peak elsewhere."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def _best(row: NDArray[Any], top: int) -> list[int]:
    return [int(i) for i in np.argsort(-row, kind="stable")[:top]]


def _class(label: Any, probability: Any) -> dict[str, Any]:
    return {"label": label, "probability": _rounded(probability)}


def _rounded(probability: Any) -> float:
    return round(float(probability), 6)


def _softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        shifted = np.exp(np.asarray(logits, dtype=np.float64) - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    """The values, one row an input; a logit of minus infinity is a probability of 0, and so passes."""
    odd = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(-1))
    if odd.size:
        message = f"the model's outputs of input {odd[0]} are not finite"
        raise RequestError(400, message, key="inputs", accepted="inputs of which the model computes finite outputs")
    return values
