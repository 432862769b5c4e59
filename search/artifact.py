"""An artifact folder: a compressed model in its runtime's format, with what it takes to use it and what it promises.

model.onnx        the model (model.tflite, model.pte); of one with early exits model.stages, a plan, and stage-1.onnx and so on
signature.json    inputs, outputs, task, labels, and how raw inputs become model inputs
tokenizer/        of text models
recipe.yaml       what was done to the model; recipe.lock beside it pins what else it depends on
metrics.json      promised figures, of this model and of the uncompressed one
examples.npz      a few inputs with the outputs that are expected; raw/ holds the texts or images that they come from
promised.npz      the quality in torch, example by example of the split report
bench.py          latency, memory and correctness on the device itself, with bench_models.py; needs numpy and the runtime only
provenance.json   study, trial and experiment
README.md         the model card
checksums.json    SHA-256 of every other file
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from compressors.errors import UserError
from compressors.sizing import Sizing
from compressors.targets.onnx_stages import STAGES, stage_files
from evaluators.metric import Estimate
from search.checksums import ARTIFACT_VERSION, EXAMPLES, METRICS, PROVENANCE, SIGNATURE, corrupted, write_checksums, write_json
from search.experiment import Experiment
from search.lock import LOCK_NAME, RecipeLock

__all__ = [
    "ARTIFACT_VERSION",
    "BENCH",
    "EXAMPLES",
    "METRICS",
    "PROVENANCE",
    "SIGNATURE",
    "Artifact",
    "corrupted",
    "file_bytes",
    "new_folder",
    "write_checksums",
    "write_json",
]

BENCH = ("bench.py", "bench_models.py")
"""What runs a model without this installation."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact whose files are whole.

    Attributes:
        model: name of the model file.
        signature: see ``signature.json``.
        promised: by metric; quality is of the split ``report``.
        uncompressed: the same figures of the uncompressed model.
        provenance: study, trial, and the experiment as plain data.
        lock: what the model depends on.
    """

    folder: Path
    model: str
    signature: Mapping[str, Any]
    promised: Mapping[str, Estimate]
    uncompressed: Mapping[str, Estimate]
    provenance: Mapping[str, Any]
    lock: RecipeLock

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read an artifact; call ``corrupted`` first.

        Raises:
            UserError: a file is not what an artifact has.
        """
        try:
            signature, metrics, provenance = (json.loads((folder / name).read_text(encoding="utf-8")) for name in (SIGNATURE, METRICS, PROVENANCE))
            promised, uncompressed = ({k: Estimate.from_plain(v) for k, v in metrics[part].items()} for part in ("metrics", "uncompressed"))
            return cls(folder, signature["model"], signature, promised, uncompressed, provenance, RecipeLock.load(folder / LOCK_NAME))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder} is not an artifact of compareto export: {error}") from error

    @property
    def sizing(self) -> Sizing | None:
        """How the data's inputs are made smaller for the model; None where they are not."""
        described = self.signature["preprocessing"].get("input_size")
        return None if described is None else Sizing.from_plain(described)

    def experiment(self) -> Experiment:
        """The experiment that the model comes from; its data may have moved since.

        Raises:
            UserError: it is not valid here, such as one with a device profile that this installation does not have.
        """
        return Experiment.from_plain(self.provenance["experiment"])


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write into; it becomes ``out`` where all went well, and is removed where it did not.

    Raises:
        UserError: ``out`` exists and is not an empty folder, or it cannot be written.
    """
    partial = out.with_name(f".{out.name}.partial")
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"--out: {out} exists and is not empty; accepted: a new or an empty folder")
        if partial.exists():
            raise UserError(f"--out: {partial} is left from an export that was cut off, or still runs; remove it first")
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--out: cannot write {out}: {error.strerror}") from error
    try:
        yield partial
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise UserError(f"--out: cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def file_bytes(model: Path) -> int:
    """Of a model's file and those that belong to it: external data (``model.onnx.data``), the encoder beside a decoder, the stages of a plan."""
    if model.name == STAGES:
        return model.stat().st_size + sum(file.stat().st_size for file in stage_files(model))
    names = {model.name, model.name.replace("decoder", "encoder")}
    return sum(path.stat().st_size for path in model.parent.iterdir() if any(path.name == n or path.name.startswith(f"{n}.") for n in names))
