"""The one training loop: fitting, recovery after pruning and distillation all run it."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compressors.accelerated import Accelerated, accelerated
from compressors.context import Batch, TrainingData, logits_of
from compressors.early_stopping import Stopping
from compressors.errors import CompressionError, DivergedError, OutOfMemoryError
from compressors.objective import Objective
from compressors.sparsity import zeros_held
from compressors.stream import Stream, indexed
from compressors.training_spec import Schedule, TrainingSpec

__all__ = ["Schedule", "TrainingSpec", "learning_rate_at", "train"]


def learning_rate_at(schedule: Schedule, progress: float) -> float:
    """The factor on the peak learning rate at ``progress`` in [0, 1] of the full schedule."""
    if schedule == "linear":
        return 1 - progress
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    if schedule == "exponential":
        return float(0.01**progress)
    if schedule == "onecycle":
        warm = 0.1
        return 0.04 + 0.96 * progress / warm if progress < warm else 0.5 * (1 + math.cos(math.pi * (progress - warm) / (1 - warm)))
    return 1.0


def train(
    model: nn.Module,
    data: TrainingData,
    spec: TrainingSpec,
    *,
    loss: Callable[[Tensor, Batch], Tensor],
    seed: int,
    budget: float = 1.0,
    device: torch.device | None = None,
    log: Callable[[str], None] | None = None,
    prefix: str = "",
    baseline: float | None = None,
    begun: Mapping[str, Tensor] | None = None,
    keep: Callable[[dict[str, Tensor]], None] | None = None,
    views: int | None = None,
    first_view: int = 0,
) -> nn.Module:
    """Train ``model`` in place and leave it in eval mode. Zeros of weights that were made sparse stay zeros.

    Args:
        model: any module; called with keyword inputs.
        data: batches of the ``train`` split; the metric of a progress line is read on ``search``.
        spec: the schedule, laid out for the whole budget.
        loss: mean loss of logits and batch; an ``Objective`` is trained and kept with the model.
        seed: of the order of examples, augmentation and dropout.
        budget: fraction of the schedule to run, in (0, 1].
        device: where to train.
        log: receives one line an epoch: loss, metric, drop.
        prefix: put in front of each line.
        baseline: the uncompressed model's metric, for the drop.
        begun: what an earlier call of the same arguments with a smaller budget gave to ``keep``; ``model`` is then the one that it left. What comes out is
            bit for bit what one call would have made.
        keep: receives what going on from here takes beside the model: the optimizer's state, the step, the random state.
        views: how many variants of the training examples there are, see ``compressors.stream``; None augments anew in each epoch.
        first_view: the variant that the first epoch has.

    Raises:
        CompressionError: ``early_stop`` with data whose examples have no numbers, or a precision that the device has not.
        DivergedError: the loss is not finite; names the step.
        OutOfMemoryError: the device has too little memory.
    """
    device = device or torch.device("cpu")
    if spec.early_stop is not None and indexed(data) is None:
        raise CompressionError("early_stop needs data whose examples have numbers, with the methods examples and take: some of them are held out")
    stream = Stream(data, spec.batch_size, views, spec.early_stop.held_out if spec.early_stop else 0.0, first_view)
    per_epoch = stream.steps
    total = spec.steps or int(spec.epochs or 0) * per_epoch
    last = max(1, round(total * budget))
    own = list(loss.to(device).parameters()) if isinstance(loss, Objective) else []
    parameters = [p for p in (*model.parameters(), *own) if p.requires_grad]
    if spec.optimizer == "adamw":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(parameters, lr=spec.learning_rate, weight_decay=spec.weight_decay)
    else:
        optimizer = torch.optim.SGD(parameters, lr=spec.learning_rate, weight_decay=spec.weight_decay, momentum=0.9, nesterov=True)
    # Convolutions of this layout train about 1.25 times faster on CPUs; other weights have no layout.
    model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    stopping = None if spec.early_stop is None else Stopping(spec.early_stop, data, stream, per_epoch, device)
    started, step, over = time.monotonic(), 0, False
    with torch.random.fork_rng(), zeros_held(model), accelerated(spec, optimizer, device) as runner:
        torch.manual_seed(seed)
        if begun is not None:
            step = _go_on(optimizer, loss, runner, begun)
            if stopping is not None:
                stopping.go_on(model, begun)
                over = stopping.over
        epoch, first, held = step // per_epoch, step, ""
        while step < last and not over:
            running, done = 0.0, 0
            # Those that an earlier part has seen are passed over.
            for batch in itertools.islice(stream.epoch(epoch, seed), max(0, first - epoch * per_epoch), None):
                if step >= last or over:
                    break
                for group in optimizer.param_groups:
                    group["lr"] = spec.learning_rate * learning_rate_at(spec.schedule, step / total)
                if isinstance(loss, Objective):
                    loss.progress = step / total
                running += _step(model, optimizer, parameters, batch.to(device), loss, spec.clip, step, runner)
                step, done = step + 1, done + 1
                if stopping is not None and stopping.due(step):
                    over, value = stopping.check(model)
                    held = f", held out {value:.4f}" + (", which ends it" if over else "")
            epoch += 1
            if (step >= last or over) and keep is not None:
                keep(_state(optimizer, step, loss, runner) | (stopping.state(model) if stopping is not None else {}))
            if log is not None:
                model.eval()
                name, value = data.score(model, "search")
                model.train()
                drop = "" if baseline is None else f", drop {baseline - value:+.4f}"
                where = f"step {step}/{total}, {time.monotonic() - started:.0f} s"
                log(f"{prefix}epoch {epoch}: loss {running / max(1, done):.4f}, {name} {value:.4f}{drop}, {where}{held}")
        if stopping is not None:
            stopping.settle(model)
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return model.eval()


def _state(optimizer: torch.optim.Optimizer, step: int, loss: object, runner: Accelerated | None) -> dict[str, Tensor]:
    found = {"step": torch.tensor(step), "random": torch.get_rng_state()}
    if torch.cuda.is_available():
        found["random.cuda"] = torch.cuda.get_rng_state()
    for i, values in optimizer.state_dict()["state"].items():
        found |= {f"{i}.{name}": value.detach().cpu().contiguous() for name, value in values.items() if isinstance(value, Tensor)}
    if isinstance(loss, Objective):
        found |= {f"objective.{name}": value.detach().cpu().clone().contiguous() for name, value in loss.state_dict().items()}
    return found | (runner.state() if runner is not None else {})


def _go_on(optimizer: torch.optim.Optimizer, loss: object, runner: Accelerated | None, begun: Mapping[str, Tensor]) -> int:
    """Put back what ``_state`` took; the steps that are done."""
    values: dict[int, dict[str, Any]] = {}
    for name, value in begun.items():
        position, _, key = name.partition(".")
        if position.isdigit():
            values.setdefault(int(position), {})[key] = value
    optimizer.load_state_dict({"state": values, "param_groups": optimizer.state_dict()["param_groups"]})
    if isinstance(loss, Objective):
        loss.load_state_dict({name.removeprefix("objective."): value for name, value in begun.items() if name.startswith("objective.")})
    if runner is not None:
        runner.go_on(begun)
    torch.set_rng_state(begun["random"])
    if torch.cuda.is_available() and "random.cuda" in begun:
        torch.cuda.set_rng_state(begun["random.cuda"])
    return int(begun["step"])


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    batch: Batch,
    loss: Callable[[Tensor, Batch], Tensor],
    clip: float | None,
    step: int,
    runner: Accelerated | None,
) -> float:
    try:
        if runner is None:
            value = loss(logits_of(model(**batch.inputs)), batch)
            _require_finite(value, step)
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            if clip is not None:
                nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
        else:
            optimizer.zero_grad(set_to_none=True)
            value = runner.gradients(model, batch, loss)
            _require_finite(value, step)
            if clip is not None:
                runner.clip(parameters, clip)
            runner.step()
    except (MemoryError, RuntimeError) as error:
        # On CPU, torch raises a plain RuntimeError of its allocator.
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
            said = next(iter(str(error).splitlines()), type(error).__name__)
            raise OutOfMemoryError(f"training ran out of memory at step {step}: {said}") from error
        raise
    return float(value.item())


def _require_finite(value: Tensor, step: int) -> None:
    if not torch.isfinite(value):
        raise DivergedError(f"the loss is {value.item()} at step {step}; lower the learning rate")
