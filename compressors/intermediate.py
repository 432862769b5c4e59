"""What a student may match beside outputs: feature maps through learned projections [Romero2015]_, and attention maps [Zagoruyko2017]_, [Jiao2020]_.

Modules are named as in the trace. A student that was cut has narrower maps: a projection, trained with it and thrown away afterwards, widens them. Where blocks
were dropped, the stream that passes them has to look like the teacher's behind them: of several names of one value of the student the last counts.

.. [Romero2015] Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015.
.. [Zagoruyko2017] Zagoruyko and Komodakis, Paying More Attention to Attention, ICLR 2017.
.. [Jiao2020] Jiao et al., TinyBERT: Distilling BERT for Natural Language Understanding, Findings of EMNLP 2020.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional

from compressors.context import Batch
from compressors.errors import CompressionError, near_miss
from compressors.graph.model_graph import ModelGraph

__all__ = ["Attention", "Features", "Intermediate", "layer_names", "layer_problems"]

_Weight = Annotated[float, pydantic.Field(gt=0)]
_Layers = Annotated[tuple[str, ...], pydantic.BeforeValidator(lambda v: (v,) if isinstance(v, str) else v), pydantic.Field(min_length=1)]


class Features(pydantic.BaseModel):
    """Outputs of modules.

    Attributes:
        layers: names or patterns of modules, the same in student and teacher; or, for a teacher of another architecture, the student's name to the teacher's.
        weight: of the mean over layers of the squared error, as a fraction of the teacher's squares.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    layers: Annotated[dict[str, str], pydantic.Field(min_length=1)] | _Layers
    weight: _Weight = 1.0


class Attention(pydantic.BaseModel):
    """Where a model looks.

    Of attention modules, the probabilities, averaged over heads where their number differs; of convolutional maps, the sum over channels of their squares.

    Attributes:
        layers: as in ``Features``; None is every module that returns probabilities.
        weight: of the mean over layers of the squared error, as a fraction of the teacher's squares.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    layers: Annotated[dict[str, str], pydantic.Field(min_length=1)] | _Layers | None = None
    weight: _Weight = 1.0


_Kind = Literal["features", "attention"]


def layer_names(graph: ModelGraph) -> tuple[str, ...]:
    """Names of all modules that compute something, and of those that hold them."""
    called = dict.fromkeys(operator.module for operator in graph.operators if operator.module)
    return tuple(dict.fromkeys(".".join(path.split(".")[: i + 1]) for path in called for i in range(path.count(".") + 1)))


def layer_problems(names: Iterable[str], layers: Mapping[str, str] | tuple[str, ...] | None) -> Iterator[str]:
    """A message for each of the ``layers`` that is none of a model's modules."""
    known = list(names)
    for pattern in layers or ():
        if not any(fnmatch.fnmatchcase(name, pattern) for name in known):
            yield f"{pattern!r} is no module of the model{near_miss(pattern, known)}"


_SERIES = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.InstanceNorm1d, nn.GroupNorm)
"""What gives series as ``[examples, channels, length]``."""


class _Watched:
    """Keeps what some modules of a model return.

    Attributes:
        values: by module, of its last call.
        series: which of them are ``[examples, channels, length]``: of the layers with weights the last before them gave such a series.
    """

    def __init__(self, model: nn.Module, names: Iterable[str]) -> None:
        modules = dict(model.named_modules())
        self.values: dict[str, Any] = {}
        self.series: set[str] = set()
        self._channels = 0
        own = [module for module in modules.values() if any(True for _ in module.parameters(recurse=False))]
        self._hooks = [module.register_forward_hook(self._seen) for module in own]
        self._hooks += [modules[name].register_forward_hook(self._hook(name)) for name in names]

    def _seen(self, module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG002 - torch's signature
        self._channels = output.shape[1] if isinstance(module, _SERIES) and output.dim() == 3 else 0

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001 - torch's signature
            found = _tensors(output)
            if name not in self.values and found and found[0].dim() == 3 and found[0].shape[1] == self._channels:
                self.series.add(name)
            self.values[name] = output

        return hook

    def map(self, form: str, name: str) -> Tensor:
        """``[examples, ...]``, channels last but of images.

        Squares, summed over channels and normalised, are ``[examples, pixels]``: neither width nor depth of a map counts.
        """
        value = _raw(form, self.values[name])
        if form == "squares":
            return functional.normalize(value.float().pow(2).mean(1).flatten(1), dim=1)
        return value.transpose(1, 2) if form == "features" and name in self.series else value

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self.values = {}


class _Projection(nn.Module):
    """Channels to channels: the second dimension of images, the last of everything else (see ``_Watched.map``). Begins as the identity where it can."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        weight = torch.eye(inputs) if inputs == outputs else nn.init.orthogonal_(torch.empty(outputs, inputs))
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 4:
            return functional.conv2d(x, self.weight[:, :, None, None], self.bias)
        return functional.linear(x, self.weight, self.bias)


class Intermediate(nn.Module):
    """The loss of what lies between inputs and outputs. Watches both models until it is closed.

    Args:
        student, teacher: called by others; the last call of each is what is compared.
        features, attention: what to match.
        inputs: of a first call, which shows what there is.
        teacher_inputs: of the teacher, where they differ.

    Raises:
        CompressionError: a module that is not there, or gives no such map.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        features: Features | None,
        attention: Attention | None,
        inputs: Mapping[str, Tensor],
        teacher_inputs: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self._weights = {"features": features.weight if features else 0.0, "attention": attention.weight if attention else 0.0}
        self._eager = [(model, found) for model in (student, teacher) if attention is not None and (found := _attention_of(model)) not in (None, "eager")]
        self._watched: list[_Watched] = []
        try:
            for model, _ in self._eager:
                model.set_attn_implementation("eager")  # type: ignore[operator]
            asked: list[tuple[_Kind, Features | Attention | None]] = [("features", features), ("attention", attention)]
            wanted = {kind: (spec.layers, _pairs(student, teacher, spec.layers)) for kind, spec in asked if spec is not None}
            pairs = [pair for _, found in wanted.values() for pair in found]
            self._watched = [_Watched(student, {s for s, _ in pairs}), _Watched(teacher, {t for _, t in pairs})]
            modes = [(module, module.training) for module in student.modules()]
            student.eval()
            with torch.no_grad():
                student(**inputs)
                teacher(**(teacher_inputs or inputs))
            for module, training in modes:
                module.training = training
            self._pairs = {kind: self._usable(kind, found, everywhere=kind == "attention" and layers is None) for kind, (layers, found) in wanted.items()}
            projections = {f"p{i}": self._projection(pair) for i, pair in enumerate(self._pairs.get("features", ()))}
        except BaseException:
            self.close()
            raise
        self.projections = nn.ModuleDict(projections)

    def forward(self, batch: Batch) -> Tensor:
        """The weighted mean errors of the last calls of both models."""
        student, teacher = self._watched
        mask = batch.inputs.get("attention_mask")
        total = torch.zeros((), device=batch.labels.device)
        for kind, pairs in self._pairs.items():
            errors = []
            for i, pair in enumerate(pairs):
                a, b = student.map(pair.form, pair.ours).float(), teacher.map(pair.form, pair.theirs).detach().float()
                if kind == "features":
                    a, b = _same_size(self.projections[f"p{i}"](a), b)
                elif a.dim() == 4 and a.shape[1] != b.shape[1]:
                    a, b = a.mean(1), b.mean(1)
                errors.append(_error(a, b, mask, tokens=2 if kind == "attention" and a.dim() == 4 else 1))
            total = total + self._weights[kind] * torch.stack(errors).mean()
        return total

    def close(self) -> None:
        """Leave both models as they were."""
        for watched in self._watched:
            watched.close()
        for model, before in self._eager:
            model.set_attn_implementation(before)  # type: ignore[operator]

    def _usable(self, kind: _Kind, pairs: list[tuple[str, str]], *, everywhere: bool) -> list[_Pair]:
        student, teacher = (watched.values for watched in self._watched)
        found: dict[int, _Pair] = {}
        for ours, theirs in pairs:
            forms = _form(kind, student.get(ours)), _form(kind, teacher.get(theirs))
            if everywhere and forms != ("probabilities", "probabilities"):
                continue
            if None in forms:
                name, value = (ours, student.get(ours)) if forms[0] is None else (theirs, teacher.get(theirs))
                wanted = (
                    "a float tensor of [examples, ..., channels]" if kind == "features" else "attention probabilities, or [examples, channels, height, width]"
                )
                raise CompressionError(f"{kind}: {name} gives no map to match, but {_described(value)}; accepted: modules that return {wanted}")
            pair = _Pair(ours, theirs, str(forms[0]))
            a, b = self._maps(pair)
            if (
                forms[0] != forms[1]
                or a.dim() != b.dim()
                or (a.dim() != 4 and a.shape[1:-1] != b.shape[1:-1])
                or (a.dim() != 4 and kind == "attention" and a.shape != b.shape)
            ):
                raise CompressionError(f"{kind}: {ours} gives {list(a.shape)}, the teacher's {theirs} gives {list(b.shape)}")
            # A value that passes a dropped block has several names, of which the last counts; attention's has another from each container that returns it.
            key = id(_raw(pair.form, student[ours]))
            if key not in found or kind == "features":
                found[key] = pair
        if not found:
            raise CompressionError(f"{kind}: no module of the student returns attention probabilities; accepted: layers with names of modules that give maps")
        return list(found.values())

    def _maps(self, pair: _Pair) -> tuple[Tensor, Tensor]:
        student, teacher = self._watched
        return student.map(pair.form, pair.ours), teacher.map(pair.form, pair.theirs)

    def _projection(self, pair: _Pair) -> _Projection:
        a, b = self._maps(pair)
        channel = 1 if a.dim() == 4 else -1
        return _Projection(a.shape[channel], b.shape[channel])


@dataclass(frozen=True, slots=True)
class _Pair:
    """A module of the student, one of the teacher, and what of their outputs is compared."""

    ours: str
    theirs: str
    form: str


def _pairs(student: nn.Module, teacher: nn.Module, layers: Mapping[str, str] | tuple[str, ...] | None) -> list[tuple[str, str]]:
    ours, theirs = (dict(model.named_modules()) for model in (student, teacher))
    if isinstance(layers, Mapping):
        for names, known, whose in ((layers.keys(), ours, "student"), (layers.values(), theirs, "teacher")):
            for name in names:
                if name not in known:
                    raise CompressionError(f"{name!r} is no module of the {whose}{near_miss(name, list(known))}")
        return list(layers.items())
    for pattern in layers or ():
        if not any(fnmatch.fnmatchcase(name, pattern) for name in theirs):
            raise CompressionError(f"{pattern!r} is no module of the teacher{near_miss(pattern, list(theirs))}")
    matched = [name for name in theirs if name and (layers is None or any(fnmatch.fnmatchcase(name, pattern) for pattern in layers))]
    # What lies in a dropped block is not there any more.
    pairs = [(name, name) for name in matched if name in ours]
    if not pairs:
        raise CompressionError(f"no module of the student is left of {', '.join(layers or matched)}")
    return pairs


def _attention_of(model: nn.Module) -> str | None:
    """How a model of transformers computes attention; None of other models."""
    if not hasattr(model, "set_attn_implementation"):
        return None
    found: str | None = getattr(getattr(model, "config", None), "_attn_implementation", None)
    return found


def _tensors(output: Any) -> list[Tensor]:
    parts = output if isinstance(output, (tuple, list)) else [output]
    return [part for part in parts if isinstance(part, Tensor) and part.is_floating_point()]


def _form(kind: _Kind, output: Any) -> str | None:
    """What of a module's output is a map: its first tensor as it is, the probabilities that stand behind it, or where it is large."""
    tensors = _tensors(output)
    if not tensors or not 2 <= tensors[0].dim() <= 4:
        return None
    if kind == "features":
        return "features"
    if any(map(_is_probabilities, tensors[1:])):
        return "probabilities"
    return "features" if _is_probabilities(tensors[0]) else "squares" if tensors[0].dim() == 4 else None


def _raw(form: str, output: Any) -> Tensor:
    tensors = _tensors(output)
    return next(tensor for tensor in tensors[1:] if tensor.dim() in (3, 4)) if form == "probabilities" else tensors[0]


def _is_probabilities(value: Tensor) -> bool:
    return value.dim() in (3, 4) and bool((value >= 0).all()) and torch.allclose(value.float().sum(-1), torch.ones(()), atol=1e-3)


def _same_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.dim() != 4 or a.shape[2:] == b.shape[2:]:
        return a, b
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    return functional.adaptive_avg_pool2d(a, size), functional.adaptive_avg_pool2d(b, size)


def _error(a: Tensor, b: Tensor, mask: Tensor | None, tokens: int) -> Tensor:
    """Squared error as a fraction of the squares of ``b``; padding, at dimension ``tokens``, does not count."""
    if mask is not None and b.dim() > tokens and b.shape[tokens] == mask.shape[1] and a.dim() > 2:
        weights = mask.to(b.dtype).reshape(mask.shape[0], *[1] * (tokens - 1), mask.shape[1], *[1] * (b.dim() - tokens - 1))
        a, b = a * weights, b * weights
    return (a - b).pow(2).sum() / b.pow(2).sum().clamp(min=1e-12)


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}".removeprefix("torch.")
    return "nothing (it is not called)" if value is None else type(value).__name__
