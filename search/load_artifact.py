"""An artifact as a function of raw inputs, in its own runtime. Imports no torch where the runtime does not."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError, near_miss
from search.bench import OPENERS, open_model
from search.checksums import LADDER, SIGNATURE, corrupted
from search.ladder_run import Ladder, size_of
from search.raw_inputs import made_smaller, raw_inputs_of

__all__ = ["LadderPredictor", "Predictor", "load_artifact", "require_runtime"]

_MODULES = {
    "onnxruntime": ("onnxruntime", "compareto"),
    "litert": ("ai_edge_litert", "compareto[litert]"),
    "executorch": ("executorch", "compareto[executorch]"),
}
_AT_ONCE = 64


def load_artifact(folder: str | Path, *, threads: int = 0, provider: str = "cpu", alone: bool = True) -> Predictor:
    """Open an artifact that ``compareto export`` wrote.

    An example::

        import compareto as cp

        predict = cp.load_artifact("artifact")
        predict(["transfer ten dollars to my savings"])  # {"labels": ["transfer"], "probabilities": [[...]], "logits": [[...]]}
        predict([PIL.Image.open("cat.png")])  # of an artifact that takes images

    Checksums are compared first: a folder that is not as it was written is not run. Of a ladder (``export --ladder``), each call may say what it has time for:
    ``predict(texts, latency_ms=5)``.

    Args:
        folder: the artifact.
        threads: within an operator; 0 is the runtime's choice.
        provider: of ONNX Runtime, such as ``cuda``; what it lacks runs on the CPU.
        alone: no other model runs in this process. One that is not leaves the processor to the others between its runs, so that its threads take a little
            longer to begin.

    Returns:
        A function of a list of texts or images (see ``Predictor``).

    Raises:
        UserError: no artifact, a file that has changed, an artifact of a newer version, a runtime that is not installed or cannot run the model.
    """
    folder = Path(folder)
    problems = corrupted(folder)
    if problems:
        raise UserError(f"{folder} is not as it was exported: {'; '.join(problems)}")
    if (folder / LADDER).is_file():
        return LadderPredictor(folder, threads=threads, provider=provider)
    signature = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
    require_runtime(signature["runtime"])
    return Predictor(folder, signature, folder / signature["model"], threads=threads, provider=provider, alone=alone)


def require_runtime(name: str) -> None:
    """Nothing where the runtime can be imported.

    Raises:
        UserError: it is not installed; says what to install.
    """
    module, package = _MODULES.get(name, ("", ""))
    if module and find_spec(module) is None:
        raise UserError(f'the artifact runs in {name}, which is not installed: pip install "{package}"')


class Predictor:
    """Raw inputs to outputs.

    Args:
        folder: of the artifact.
        signature: of the artifact.
        path: the model file.
        threads, provider, alone: see ``load_artifact``.

    Attributes:
        signature: inputs, outputs, labels and preprocessing.
        runtime, provider: what runs the model.

    Raises:
        UserError: the runtime cannot load the file.
    """

    def __init__(self, folder: Path, signature: Mapping[str, Any], path: Path, *, threads: int = 0, provider: str = "cpu", alone: bool = True) -> None:
        self.signature = signature
        self._prepare = raw_inputs_of(folder, signature)
        self._model = _opened(path, signature["runtime"], threads, provider, alone)
        self.runtime, self.provider = self._model.runtime, self._model.provider

    def __call__(self, inputs: Sequence[Any] | Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """Run.

        Args:
            inputs: a list of texts; a list of images (PIL images, uint8 arrays ``[height, width(, 3)]``, encoded bytes or paths); or a dict of
                arrays that are model inputs already, as ``signature["inputs"]`` describes them.

        Returns:
            ``logits`` ``[examples, ...]``; of classifiers also ``probabilities`` ``[examples, classes]`` and ``labels``, a list of the most probable
            class of each example; of language models also ``attention_mask`` ``[examples, tokens]``, 0 where a text was filled up.

        Raises:
            UserError: the inputs are not what the model takes; says what it does.
        """
        prepared = self._given(inputs) if isinstance(inputs, Mapping) else self.prepare(inputs)
        count = len(next(iter(prepared.values())))
        pieces = [{name: value[start : start + _AT_ONCE] for name, value in prepared.items()} for start in range(0, count, _AT_ONCE)]
        try:
            logits = np.concatenate([np.asarray(self._model.run(piece)) for piece in pieces])
        except Exception as error:
            # Runtimes raise classes of their own; here they mean inputs of a size that the model does not take.
            raise UserError(f"{self.runtime} cannot run these inputs: {str(error).strip().splitlines()[0]}") from error
        if self.signature["task"] == "causal-lm":
            mask = prepared.get("attention_mask")
            return {"logits": logits} if mask is None else {"logits": logits, "attention_mask": mask}
        if not self.signature["task"].endswith("-classification") or logits.ndim != 2:
            return {"logits": logits}
        names, best = list(self.signature["labels"]), logits.argmax(-1)
        return {"labels": [names[i] if names else int(i) for i in best], "probabilities": _softmax(logits), "logits": logits}

    def prepare(self, inputs: Sequence[Any]) -> dict[str, NDArray[Any]]:
        """Raw inputs as model inputs.

        Raises:
            UserError: they are not what the model takes.
        """
        if isinstance(inputs, str | bytes) or not isinstance(inputs, Sequence | np.ndarray) or not len(inputs):
            preprocessing = self.signature["preprocessing"]
            kind = "texts" if "tokenizer" in preprocessing else "images" if "mean" in preprocessing else "series of numbers"
            described = "an empty list" if isinstance(inputs, Sequence) and not len(inputs) else type(inputs).__name__
            raise UserError(f"the artifact takes a list of {kind}, or a dict of arrays; got {described}")
        return self._prepare(inputs)

    def _given(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        wanted = self.signature["inputs"]
        for name in inputs:
            if name not in wanted:
                raise UserError(f"unknown input {name!r}; accepted: {', '.join(wanted)}{near_miss(str(name), wanted)}")
        missing = [name for name in wanted if name not in inputs]
        if missing:
            raise UserError(f"the input {missing[0]!r} is missing; the model takes {', '.join(wanted)}")
        prepared = {name: np.ascontiguousarray(inputs[name], dtype=described["dtype"]) for name, described in wanted.items()}
        prepared = made_smaller(self.signature, prepared)
        for name, value in prepared.items():
            shape = wanted[name]["shape"]
            if value.ndim != len(shape) or not len(value) or any(isinstance(n, int) and n != m for n, m in zip(shape, value.shape, strict=False)):
                raise UserError(f"the input {name!r} has the shape {list(value.shape)}; accepted: {shape}")
        return prepared


class LadderPredictor(Predictor):
    """Raw inputs to outputs, by the model that the conditions leave time for.

    Args:
        folder: of the ladder.
        threads, provider: see ``load_artifact``.

    Attributes:
        ladder: its rungs, and what is known of this machine.

    Raises:
        UserError: see ``load_artifact``; a ladder of another version.
    """

    def __init__(self, folder: Path, *, threads: int = 0, provider: str = "cpu") -> None:
        try:
            self.ladder = Ladder(folder, models=[])
        except (ValueError, KeyError) as error:
            raise UserError(f"{folder}: {error}") from error
        self._predictors = [load_artifact(folder / rung["folder"], threads=threads, provider=provider, alone=False) for rung in self.ladder.rungs]
        best = self._predictors[-1]
        self.signature, self.runtime, self.provider = best.signature, best.runtime, best.provider
        self._prepare = best._prepare  # noqa: SLF001 - another of this class

    def __call__(
        self, inputs: Sequence[Any] | Mapping[str, NDArray[Any]], *, latency_ms: float | None = None, load: float = 0.0, temperature_c: float | None = None
    ) -> dict[str, Any]:
        """As of ``Predictor``, and ``rung``: the id of the model that answered. The conditions are those of ``search.ladder_run``.

        Raises:
            UserError: see ``Predictor``; a condition that cannot be.
        """
        prepared = inputs if isinstance(inputs, Mapping) else self.prepare(inputs)
        size = size_of(dict(prepared))
        try:
            rung = self.ladder.pick(latency_ms, size, load, temperature_c)
        except ValueError as error:
            raise UserError(str(error)) from error
        started = time.perf_counter()
        outputs = self._predictors[rung](prepared)
        self.ladder.learn(rung, 1e3 * (time.perf_counter() - started), size, load)
        return {**outputs, "rung": self.ladder.rungs[rung]["id"]}


def _opened(path: Path, runtime: str, threads: int, provider: str, alone: bool) -> Any:
    try:
        if path.suffix in OPENERS:
            return open_model(path, threads, provider, alone=alone)
        from search.target_bench import TargetModel

        return TargetModel(path, runtime, threads, provider)
    except UserError:
        raise
    except Exception as error:
        # Each runtime has exceptions of its own for a file that it cannot read or an operator that it lacks.
        raise UserError(f"{runtime} cannot load {path.name}: {str(error).strip().splitlines()[0]}") from error


def _softmax(logits: NDArray[Any]) -> NDArray[np.float32]:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True), dtype=np.float32)
