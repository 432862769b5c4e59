"""The ``README.md`` of an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from compressors.sizing import Sizing
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
    file_bytes: int | None = None,
) -> str:
    """Markdown: what the model is, what it promises, how to run it, how it was made.

    Args:
        title: of the page.
        experiment: that the model comes from.
        signature: of the artifact.
        promised: figures by metric.
        uncompressed: the same of the uncompressed model.
        recipe: plain steps.
        widths: units before and after, of the axes that were cut.
        file_bytes: of the model's files, where its overhead is to be shown.
    """
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
    overhead = ""
    if file_bytes is not None:
        size, stored = names.resolve("size_bytes")[1], promised["size_bytes"].value
        around = f"the graph around the weights is {figure(size, file_bytes - stored)} of it"
        overhead = f"\nThe file has {figure(size, file_bytes)}: `size_bytes` counts weights, scales, zero points and biases; {around}.\n"
    cut = "\n".join(f"    {axis}: {before} -> {after}" for axis, (before, after) in widths.items()) or "    none"
    steps = yaml.safe_dump(recipe, sort_keys=False).rstrip() if recipe else "[]"
    return f"""# {title}

A compressed model for {signature["task"]}, exported by compareto for {signature["runtime"]}. Data: {experiment.data.told}.

## Promised

{chr(10).join(rows)}
{overhead}
Predicted figures (tier `spec-only` and the like) come from a device model. `compareto verify` measures quality, bytes, latency, load time and memory again.

## Use

{_use(signature)}
Without compareto: the model takes, prepared by {_preparing(signature)} (`signature.json`),

{shapes}

```python
{_plain_use(signature)}
```

`python bench.py` measures latency, load time and memory on the device itself; it needs {_needs(signature)} only.

## Recipe

```yaml
{steps}
```

Widths that were cut:

{cut}
"""


def _use(signature: Mapping[str, Any]) -> str:
    described = signature["preprocessing"]
    example = '["a text"]' if "tokenizer" in described else '[PIL.Image.open("image.png")]' if "mean" in described else "[[0.0, ...]]"
    keys = "labels, probabilities, logits" if signature["task"].endswith("-classification") else "logits"
    extra = {"litert": "[litert]", "executorch": "[executorch]"}.get(signature["runtime"], "")
    return f"""From raw inputs, with `pip install "compareto{extra}"`:

```python
import compareto as cp

predict = cp.load_artifact("this folder")
predict({example})  # a dict: {keys}
```
"""


def _preparing(signature: Mapping[str, Any]) -> str:
    described = signature["preprocessing"]
    if "input_size" in described and "tokenizer" not in described:
        sizing = Sizing.from_plain(described["input_size"])
        rest = {name: value for name, value in described.items() if name != "input_size"}
        if sizing.how == "informative":
            return f"{_preparing({**signature, 'preprocessing': rest})}; the model itself crops it where it says most"
        done = "resized (bilinear, antialiased)" if sizing.how == "resize" else "cropped to its middle"
        return f"{_preparing({**signature, 'preprocessing': rest})}, then {done} to {sizing.label}"
    if "tokenizer" in described:
        return "the tokenizer in `tokenizer/`, padded or cut to the sequence"
    if "mean" not in described:
        return f"nothing: numbers of the shape {described['shape']}"
    return f"decoding into pixels in the order {described['layout']}" if "in_graph" in described else "scale, then mean and std per channel"


def _plain_use(signature: Mapping[str, Any]) -> str:
    names, model = list(signature["inputs"]), signature["model"]
    feeds = ", ".join(f'"{name}": {name}' for name in names)
    cache = "  # past_key_values.*, where it takes them, are empty at first" if signature["task"] == "causal-lm" else ""
    return {
        "onnxruntime": f'import onnxruntime\n\nsession = onnxruntime.InferenceSession("{model}")\nlogits = session.run(["logits"], {{{feeds}}})[0]{cache}',
        "litert": (
            f'from ai_edge_litert.interpreter import Interpreter\n\nmodel = Interpreter(model_path="{model}")\n'
            "print(model.get_input_details(), model.get_output_details())  # integers are quantized by scale and zero point"
        ),
        "executorch": (
            f'from executorch.runtime import Runtime\n\nmodel = Runtime.get().load_program("{model}").load_method("forward")\n'
            f"logits = model.execute([{', '.join(names)}])[0]  # torch tensors"
        ),
    }.get(signature["runtime"], 'import compareto as cp\n\nmodel = cp.load("this folder")  # model=a fresh instance, where it is from a factory')


def _needs(signature: Mapping[str, Any]) -> str:
    runtimes = {"onnxruntime": "onnxruntime", "litert": "ai-edge-litert", "executorch": "executorch (whose Python runtime needs torch)"}
    return f"Python, numpy and {runtimes.get(signature['runtime'], 'compareto')}"
