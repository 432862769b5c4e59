"""The ``README.md`` of an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from evaluators.metric import Estimate
from search.experiment import Experiment
from search.figures import figure, interval

__all__ = ["model_card"]


def model_card(
    title: str,
    experiment: Experiment,
    signature: Mapping[str, Any],
    promised: Mapping[str, Estimate],
    uncompressed: Mapping[str, Estimate],
    recipe: list[dict[str, Any]],
    widths: Mapping[str, tuple[int, int]],
) -> str:
    """Markdown: what the model is, what it promises, how to run it, how it was made."""
    names = experiment.names
    quality = {m.name for m in names.quality}
    rows = ["| figure | this model | 90 % interval | uncompressed | known |", "|---|---|---|---|---|"]
    for name, e in promised.items():
        metric = names.resolve(name)[1]
        before = uncompressed.get(name)
        where = "report split, in torch" if name in quality else e.tier
        cells = [name, figure(metric, e.value), interval(metric, e.value, e.low, e.high) or "-", figure(metric, before.value) if before else "-", where]
        rows.append(f"| {' | '.join(cells)} |")
    shapes = "\n".join(f"    {name}: {i['dtype']} {i['shape']}" for name, i in signature["inputs"].items())
    preparing = (
        "the tokenizer in `tokenizer/`, padded or cut to the sequence"
        if signature["task"] != "image-classification"
        else "scale, then mean and std per channel"
    )
    cut = "\n".join(f"    {axis}: {before} -> {after}" for axis, (before, after) in widths.items()) or "    none"
    steps = yaml.safe_dump(recipe, sort_keys=False).rstrip() if recipe else "[]"
    feeds = ", ".join(f'"{name}": {name}' for name in signature["inputs"])
    return f"""# {title}

A compressed model for {signature["task"]}, exported by compareto for {signature["runtime"]}. Data: {experiment.data.dataset or "the files of the experiment"}.

## Promised

{chr(10).join(rows)}

Predicted figures (tier `spec-only` and the like) come from a device model. `compareto verify` measures quality, stored bytes and latency again.

## Use

Inputs, prepared by {preparing} (`signature.json`):

{shapes}

```python
import onnxruntime

session = onnxruntime.InferenceSession("{signature["model"]}")
(logits,) = session.run(None, {{{feeds}}})
```

`python bench.py` measures latency on the device itself; it needs numpy and onnxruntime only.

## Recipe

```yaml
{steps}
```

Widths that were cut:

{cut}
"""
