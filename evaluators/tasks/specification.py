"""The ``data:`` and ``workload:`` sections of an experiment, typed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

import pydantic

from compressors.errors import near_miss
from evaluators.model_spec import PLACE
from evaluators.tasks.task import SPLITS

__all__ = ["DataSpec", "GenerationSpec", "MeanMetric", "MetricSpec", "OwnMetric", "PartSpec", "Preprocessing", "SplitSpec", "Workload"]

_CONFIG = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
_PART = re.compile(r"[a-z][a-z0-9_]*")
_Count = Annotated[int, pydantic.Field(gt=0)]


def _named(name: str) -> str:
    if not _PART.fullmatch(name):
        raise ValueError("a name is of small letters, digits and _, a letter first")
    return name


_Name = Annotated[str, pydantic.AfterValidator(_named)]


class SplitSpec(pydantic.BaseModel):
    """Which examples a split takes: the source's are shuffled once by ``data.seed`` (running text keeps its order), then ``skip`` and ``take`` cut them.

    Attributes:
        source: the source's split (``from`` in YAML).
        skip: examples to leave out at the start of the shuffled order.
        take: examples to keep after those; None is all.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)

    source: str = pydantic.Field(alias="from")
    skip: Annotated[int, pydantic.Field(ge=0)] = 0
    take: _Count | None = None


def _as_split(value: Any) -> Any:
    return {"from": value} if isinstance(value, str) else value


class Preprocessing(pydantic.BaseModel):
    """From raw examples to model inputs.

    Attributes:
        image_size: height and width that images are resized to; None keeps them.
        mean, std: per channel, of images scaled to [0, 1].
        sequence: tokens per example (padded or cut), or per block for causal language models.
        tokenizer: folder or hub id; None is the model's own.
        augment: of training images.
        shape: of one example of a series, such as ``[16, 2]``; None keeps what the column holds.
        samples: of one recording: longer ones are cut, shorter ones filled with silence; None is the longest's.
    """

    model_config = _CONFIG

    image_size: _Count | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[Annotated[float, pydantic.Field(gt=0)], ...] = (1.0,)
    sequence: _Count = 128
    tokenizer: str | None = None
    augment: tuple[Literal["flip", "crop"], ...] = ()
    shape: tuple[_Count, ...] | None = None
    samples: _Count | None = None


class OwnMetric(pydantic.BaseModel):
    """A metric of the user's.

    Attributes:
        function: ``file.py:function`` or ``package.module:function``; called with outputs and labels, arrays ``[examples, ...]``; returns a number a example,
            ``[examples]``, whose mean is the metric, or one number, the metric of them all.
        direction: ``min`` where less is better.
        unit: of the number.
        name: None is the function's.
    """

    model_config = _CONFIG

    function: Annotated[str, pydantic.Field(pattern=f"^({PLACE.pattern})$")]
    direction: Literal["min", "max"]
    unit: str = ""
    name: _Name | None = None

    @property
    def named(self) -> str:
        """The metric's name."""
        return self.name or self.function.rpartition(":")[2]


class MeanMetric(pydantic.BaseModel):
    """The mean of several metrics, as GLUE has them for tasks with two.

    Attributes:
        mean: of what.
        name: of the mean.
    """

    model_config = _CONFIG

    mean: Annotated[tuple[str | OwnMetric, ...], pydantic.Field(min_length=2)]
    name: _Name = "mean"


MetricSpec = str | OwnMetric | MeanMetric


class GenerationSpec(pydantic.BaseModel):
    """How what a language model says is judged (``rouge_l``, ``bleu``): the most probable next token each time.

    Attributes:
        prompts: how many blocks of a split are continued; of seq2seq, how many texts.
        prompt_tokens: from the start of each block; of causal-lm.
        new_tokens: that follow them; of seq2seq, of each target.
        references: ``uncompressed``: what the model itself says before it is compressed; ``data``: how the block goes on, or the target. None is the first
            of causal-lm, the second of seq2seq.
    """

    model_config = _CONFIG

    prompts: _Count = 64
    prompt_tokens: _Count = 16
    new_tokens: _Count = 32
    references: Literal["uncompressed", "data"] | None = None


_Columns = dict[Literal["image", "text", "series", "audio", "label", "target"], str | tuple[str, ...]]
_Splits = dict[str, Annotated[SplitSpec, pydantic.BeforeValidator(_as_split)]]


class PartSpec(pydantic.BaseModel):
    """One of several data sets that one model is trained on and judged by. What it leaves out is as it stands beside ``parts``.

    Attributes:
        dataset, files: as of the data; either takes the place of both.
        columns, splits: as of the data, name by name.
        max_samples, seed, metrics: as of the data.
        weight: how often training has each example of the part: 2 has them twice, 0.5 the first half of them.
    """

    model_config = _CONFIG

    dataset: str | None = None
    files: dict[str, str] | None = None
    columns: _Columns | None = None
    splits: _Splits | None = None
    max_samples: _Count | None = None
    seed: int | None = None
    metrics: tuple[MetricSpec, ...] | None = None
    weight: Annotated[float, pydantic.Field(gt=0)] = 1.0


class DataSpec(pydantic.BaseModel):
    """Where examples come from and how they are split.

    Attributes:
        dataset: ``sklearn/digits``, a hub id, or a folder of images (one sub-folder a class).
        files: source split to parquet, csv, json or jsonl file, instead of ``dataset``.
        columns: the names of ``image``, ``text``, ``series``, ``audio``, ``label`` and ``target`` (an image) in the source; of series, and of labels that
            are several, a list of columns of one number each.
        splits: for ``train``, ``search``, ``report`` and ``calibration`` a source split or ``{from, skip, take}``. Left out: ``report`` is the source's
            test or validation split (or a quarter of what there is), ``search`` a fifth of the rest, ``train`` what remains, ``calibration`` 256 of train.
        max_samples: upper bound for every split.
        seed: of the shuffle that splits.
        metrics: what models are judged by, the main one first; left out, what is usual for the task.
        generation: of causal language models that are judged by what they say.
        parts: several data sets by name, instead of one; what stands beside them is meant for each.
    """

    model_config = _CONFIG

    dataset: str | None = None
    files: dict[str, str] = pydantic.Field(default_factory=dict)
    columns: _Columns = pydantic.Field(default_factory=dict)
    splits: _Splits = pydantic.Field(default_factory=dict)
    max_samples: _Count | None = None
    preprocessing: Preprocessing = pydantic.Field(default_factory=Preprocessing)
    seed: int = 0
    metrics: tuple[MetricSpec, ...] = ()
    generation: GenerationSpec = pydantic.Field(default_factory=GenerationSpec)
    parts: dict[str, PartSpec] | None = None

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> Self:
        source = "give either dataset (sklearn/digits, a hub id or a folder) or files (source split: path)"
        if self.parts is None and bool(self.dataset) == bool(self.files):
            raise ValueError(f"{source}, or parts of several")
        if self.parts is not None and not self.parts:
            raise ValueError("parts: {} names no data set; accepted: NAME: {files: ..., columns: ..., metrics: ...}, one or more")
        _known_splits(self.splits)
        for name, part in (self.parts or {}).items():
            if not _PART.fullmatch(name):
                raise ValueError(f"parts: the name {name!r} is not accepted; accepted: small letters, digits and _, a letter first")
            _known_splits(part.splits or {}, f"parts.{name}: ")
            whole = self._of(part)
            if bool(whole["dataset"]) == bool(whole["files"]):
                raise ValueError(f"parts.{name}: {source}, there or beside parts")
        return self

    def _of(self, part: PartSpec) -> dict[str, Any]:
        """What a part's data is, as keywords."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "parts"}
        if part.dataset or part.files:
            values |= {"dataset": None, "files": {}}
        for name in (name for name in PartSpec.model_fields if name != "weight"):
            own = getattr(part, name)
            if own is not None:
                values[name] = {**values[name], **own} if name in ("columns", "splits") else own
        return values

    @property
    def each(self) -> dict[str, DataSpec]:
        """The data of each part by its name; the data itself, under an empty one, where there are no parts."""
        return {"": self} if self.parts is None else {name: DataSpec(**self._of(part)) for name, part in self.parts.items()}

    @property
    def told(self) -> str:
        """Where examples come from, for people."""
        sources = {name: one.dataset or ", ".join(PurePath(path).name for path in one.files.values()) for name, one in self.each.items()}
        return "; ".join(f"{name}: {source}" if name else source for name, source in sources.items())


def _known_splits(splits: Mapping[str, Any], place: str = "") -> None:
    for name in splits:
        if name not in SPLITS:
            raise ValueError(f"{place}unknown split {name!r}; accepted: {', '.join(SPLITS)}{near_miss(name, SPLITS)}")


class Workload(pydantic.BaseModel):
    """What one inference is, for latency, memory and energy.

    Attributes:
        batch: examples at a time.
        sequence: tokens; None is the preprocessing's.
        image_size: height and width of images; None is the data's.
        prompt_tokens: that a causal language model reads before it tells the first new one; None is ``sequence``.
        new_tokens: that it tells after them; None is 128, or what the model can still count.
        requests_per_hour: inferences that ``energy_per_hour_mwh`` counts; None is 60.
    """

    model_config = _CONFIG

    batch: _Count = 1
    sequence: _Count | None = None
    image_size: _Count | None = None
    prompt_tokens: _Count | None = None
    new_tokens: _Count | None = None
    requests_per_hour: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] | None = None
