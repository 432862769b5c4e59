"""What teaches a scorer where to look: the frozen model's loss on crops, by place.

Glance and Focus [Wang2020]_ rewards the choice of a crop by the confidence in the true class that the classifier reaches on it, and needs policy gradients
since its crops lie anywhere. Here places are few, so that the frozen model sees some images at every one of them once, and the scorer learns which are best
by plain gradient descent: the cross-entropy between its distribution over places and the one that is proportional to ``exp(-loss)``, of classes the
probability of the true one. A ranking that is learned by its whole distribution is that of ListNet [Cao2007]_.

.. [Wang2020] Wang et al., Glance and Focus: a Dynamic Approach to Reducing Spatial Redundancy in Image Classification, NeurIPS 2020, section 3.3.
.. [Cao2007] Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, ICML 2007.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from compressors.context import Batch, Context, TrainingData, logits_of
from compressors.errors import CompressionError, DivergedError
from compressors.graph.region_scorer import RegionScorer, scorer_in

__all__ = ["teach_scorer"]

_EXAMPLES = 2048
"""Images that the frozen model sees at every place."""
_BATCH = 64
_LEARNING_RATE = 0.01


def teach_scorer(model: nn.Module, context: Context, steps: int) -> None:
    """Train the scorer of ``model``, in place; the rest of it stays as it is.

    Args:
        model: with a scorer, else uncompressed.
        context: its ``train`` data, seed, budget and device; one line is logged.
        steps: batches of the whole budget.

    Raises:
        CompressionError: there are no data.
        DivergedError: the model's loss on the crops is not finite.
    """
    scorer = scorer_in(model)
    assert scorer is not None
    if context.data is None:
        raise CompressionError("input_size.how: informative: needs training data for its scorer; pass data")
    model.to(context.device).eval()
    thumbnails, losses = _seen(model, scorer, context.data, context)
    if not torch.isfinite(losses).all():
        raise DivergedError("input_size: the loss of the model on crops is not finite")
    target = functional.softmax(-losses, dim=1)
    # The score is a mean over the cells of a crop: of their sum the gradients have the size of a layer's.
    cells = scorer.window[0] * scorer.window[1]
    optimizer = torch.optim.Adam(scorer.parameters(), lr=_LEARNING_RATE)
    total = max(1, round(steps * context.budget))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(context.seed)
    with torch.enable_grad():
        for _ in range(total):
            rows = torch.randint(len(target), (min(_BATCH, len(target)),), generator=generator).to(context.device)
            loss = functional.cross_entropy(cells * scorer.scores(thumbnails[rows]), target[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
    with torch.no_grad():
        chosen = losses.gather(1, scorer.scores(thumbnails).argmax(1, keepdim=True)).mean()
    best, any_ = losses.min(1).values.mean(), losses.mean()
    context.log(f"input_size: scorer of {scorer.places} places: loss {chosen:.4f} where it looks, {any_:.4f} anywhere, {best:.4f} at the best place")


def _seen(model: nn.Module, scorer: RegionScorer, data: TrainingData, context: Context) -> tuple[Tensor, Tensor]:
    """Thumbnails ``[examples, channels, cells, cells]`` of training images, and the model's loss ``[examples, places]`` at each place."""
    thumbnails, losses = [], []
    with torch.no_grad():
        for batch in _first(data, context.seed):
            moved = batch.to(context.device)
            (image,) = moved.inputs.values()
            thumbnails.append(scorer.thumbnail(image))
            found = []
            try:
                for place in range(scorer.places):
                    scorer.place = place
                    found.append(_each(data, logits_of(model(**moved.inputs)), moved))
            finally:
                scorer.place = None
            losses.append(torch.stack(found, dim=1))
    return torch.cat(thumbnails), torch.cat(losses)


def _first(data: TrainingData, seed: int) -> Iterator[Batch]:
    """As many batches as it takes."""
    seen = 0
    for batch in data.batches("train", seed=seed):
        yield batch
        seen += len(batch.labels)
        if seen >= _EXAMPLES:
            return


def _each(data: TrainingData, logits: Tensor, batch: Batch) -> Tensor:
    """The loss of each example, ``[examples]``: data only say that of a batch."""
    ones = (Batch({name: value[i : i + 1] for name, value in batch.inputs.items()}, batch.labels[i : i + 1]) for i in range(len(logits)))
    return torch.stack([data.loss(logits[i : i + 1], one) for i, one in enumerate(ones)])
