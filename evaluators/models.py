"""The ``model:`` section of an experiment: a factory function or a pretrained model, as a live module."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compressors.context import logits_of
from compressors.errors import UserError
from compressors.silent_transformers import silent_transformers
from evaluators.functions import load_function
from evaluators.head_names import names_in, require_order
from evaluators.hub import first_line, local_or_hub
from evaluators.model_spec import ModelSpec

if TYPE_CHECKING:
    from evaluators.tasks.task import Task

__all__ = ["ModelSpec", "build_model", "input_names", "load_model", "model_fingerprint"]

_AUTO = {
    "image": "AutoModelForImageClassification",
    "text": "AutoModelForSequenceClassification",
    "audio": "AutoModelForAudioClassification",
    "token-classification": "AutoModelForTokenClassification",
    "causal-lm": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
}
"""By task, or by what goes in."""
_INPUTS = {"image": ("pixel_values",), "audio": ("input_values",), "text": ("input_ids", "attention_mask")}


def _build(spec: ModelSpec, folder: Path) -> nn.Module:
    factory = load_function(str(spec.factory), folder, "model.factory")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        try:
            model = factory(**spec.arguments)
        except (Exception, SystemExit) as error:
            raise UserError(f"model.factory: {spec.factory} raises {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise UserError(f"model.factory: {spec.factory} returns {type(model).__name__}; accepted: a torch.nn.Module")
    return model


def input_names(spec: ModelSpec, folder: Path) -> tuple[str, ...]:
    """The keywords of the model's inputs; of a factory's model, the names of forward's parameters."""
    if spec.pretrained:
        return (*_INPUTS.get(spec.takes, ()), *(("decoder_input_ids",) if spec.task == "seq2seq" else ()))
    return tuple(inspect.signature(_build(spec, folder).forward).parameters)


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"model.weights: no file {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # safetensors and torch.load raise many classes for the one fact that this is not a state dict.
        raise UserError(f"model.weights: {path} is neither safetensors nor a state dict that torch.load reads with weights_only") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"model.weights: {path} does not hold a state dict of tensors")
    return {str(k).removeprefix("module."): v for k, v in state.items()}


def _pretrained(spec: ModelSpec, folder: Path, task: Task) -> nn.Module:
    import transformers

    auto = _AUTO.get(spec.task) or _AUTO.get(spec.takes)
    if auto is None:
        raise UserError(f"model.pretrained: transformers has no models for {spec.task}; accepted: model.factory")
    with local_or_hub("model.pretrained", str(spec.pretrained), folder) as source, silent_transformers():
        options: dict[str, Any] = {"revision": spec.revision} if spec.revision and source == spec.pretrained else {}
        config = transformers.AutoConfig.from_pretrained(source, **options)
        classes: int | None = getattr(task, "classes", None)
        if getattr(config, "use_cache", False):
            # A cache among the outputs is for generating; neither training nor tracing can do with it.
            config.use_cache = False
        if spec.task not in ("causal-lm", "seq2seq"):
            head = names_in(config)
            if head and config.num_labels != classes:
                raise UserError(f"model.pretrained: the head has {config.num_labels} labels, the data {_counted(task)}")
            require_order(head, getattr(task, "label_names", ()))
            config.num_labels = classes
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model: nn.Module = getattr(transformers, auto).from_pretrained(source, config=config, dtype=torch.float32, **options)
    return model


def load_model(spec: ModelSpec, folder: Path, task: Task) -> nn.Module:
    """The model in eval mode.

    Raises:
        UserError: a missing file or function, a factory that raises, weights that do not fit, a hub that cannot be reached, a head
            whose label count is not the data's.
    """
    model = build_model(spec, folder, task)
    _check_head(model, task)
    return model


def build_model(spec: ModelSpec, folder: Path, task: Task) -> nn.Module:
    """The model in eval mode, whatever inputs it takes and whatever a factory's model returns.

    Raises:
        UserError: as ``load_model``, except for what running the model shows.
    """
    if spec.pretrained:
        model = _pretrained(spec, folder, task)
    else:
        model = _build(spec, folder)
        if spec.weights:
            state, own = _read_weights(folder / spec.weights), model.state_dict()
            wrong = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
            wrong += [k for k in state if k not in own or state[k].shape != own[k].shape]
            if wrong:
                raise UserError(f"model.weights: {spec.weights} does not fit the model; {len(wrong)} differ, such as {', '.join(wrong[:3])}")
            model.load_state_dict(state, strict=False)
    return model.eval()


def _check_head(model: nn.Module, task: Task) -> None:
    classes: int | None = getattr(task, "classes", None) or None
    logits = _outputs(model, task.example_inputs)
    # Vocabularies of language models are often padded beyond the tokenizer's.
    if classes is not None and (logits.shape[-1] < classes or (task.name != "causal-lm" and logits.shape[-1] != classes)):
        raise UserError(f"model: the head has {logits.shape[-1]} labels, the data {_counted(task)}")
    if task.name == "image-to-image":
        _check_images(model, task)


def _outputs(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    try:
        with torch.no_grad():
            return logits_of(model(**inputs))
    except Exception as error:
        said = type(error).__name__ + (f": {first_line(error)}" if str(error) else "")
        raise UserError(f"model: does not run on an example of the data: {said}") from error


def _check_images(model: nn.Module, task: Task) -> None:
    """Of an example as it is: those of the workload may have another size than the targets."""
    batch = next(iter(task.batches("train", batch_size=1)))
    found, wanted = list(_outputs(model, batch.inputs).shape[1:]), list(batch.labels.shape[1:])
    if found != wanted:
        size = list(next(iter(batch.inputs.values())).shape[-2:])
        hint = "; data.preprocessing.image_size resizes images, targets stay as they are" if found[1:] == size != wanted[1:] else ""
        raise UserError(f"model: the outputs have the shape {found}, the targets {wanted} (channels, height, width); accepted: the same{hint}")


def _counted(task: Task) -> str:
    return str(getattr(task, "counted_classes", f"{getattr(task, 'classes', 0)} classes"))


def model_fingerprint(model: nn.Module) -> str:
    """Sixteen hexadecimal digits over the class, the structure and the weights."""
    digest = hashlib.sha256(repr(model).encode())
    for name, value in model.state_dict().items():
        digest.update(f"{name}/{value.dtype}/{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if value.ndim else str(value.item()).encode())
    return digest.hexdigest()[:16]
