"""Why a compressed model is not faster than the uncompressed one: read from what the runtime really runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from compressors.targets import target_named

__all__ = ["reasons"]

_BLOCK = 8
_MOST = 6


def reasons(model: Path, plain: Path, runtime: str) -> list[str]:
    """What was found, most telling first; at least one line.

    Args:
        model: the compressed model's file.
        plain: the uncompressed model in the same runtime.
        runtime: name of its target.
    """
    if model.suffix == ".onnx":
        return _of_onnx(model, plain)
    count = _counter(runtime)
    if count is None:
        return [f"{runtime} does not say which kernels it runs"]
    return _of_operators(count(model), count(plain)) or ["no operator of it explains that: at this size the time may go into calls rather than into arithmetic"]


def _counter(runtime: str) -> Any:
    """What counts the operators that a file runs: the target's, or that of the module beside it; None where there is neither."""
    target = target_named(runtime)
    found = getattr(target, "executed_operators", None)
    if found is None:
        with suppress(ImportError):
            found = getattr(import_module(f"{type(target).__module__}_file"), "executed_operators", None)
    return found


def _of_onnx(model: Path, plain: Path) -> list[str]:
    from compressors.targets.onnx_optimised import FLOAT_PRODUCTS, layer_widths, optimised

    after, before = optimised(model), optimised(plain)
    found = []
    if after.float_products:
        first, products = after.float_products[0], after.integer + sum(n for name, n in after.operators.items() if name in FLOAT_PRODUCTS)
        what = " and ".join(f"its {part} behind {chain}" for part, chain in (("weight", first.weight), ("activation", first.activation)) if chain)
        count = f"{len(after.float_products)} of {products} products"
        found.append(f"{count} run in float on what is converted at every run; first {first.name} ({first.operator}), {what}")
    widths, widths_before = layer_widths(model), layer_widths(plain)
    old = {n for _, *ends in widths_before for n in ends}
    odd = [(name, n) for name, *ends in widths for n in ends if n % _BLOCK and n not in old]
    if odd:
        count, (name, width) = f"{len({name for name, _ in odd})} of {len(widths)} layers", odd[0]
        found.append(f"{count} have widths that are no multiple of {_BLOCK}, to which kernels fill up; first {name} with {width}")
    same_widths = [tuple(w[1:]) for w in widths] == [tuple(w[1:]) for w in widths_before]
    found += _of_operators(after.operators, before.operators, same_widths=same_widths)
    return found or ["its products are fused; at this size they are no faster than float ones on this machine"]


def _of_operators(after: Mapping[str, int], before: Mapping[str, int], *, same_widths: bool = True) -> list[str]:
    """What only the compressed model runs: conversions, float arithmetic on narrow weights, fallbacks; or that there is no difference."""
    extra, gone = Counter(after) - Counter(before), Counter(before) - Counter(after)
    if not extra and not gone and same_widths:
        return [f"the same kernels run as without compression ({_listed(Counter(after))}): only the stored weights are smaller"]
    kinds: dict[str, Callable[[str], object]] = {
        "products in float that widen narrow weights at every run": lambda name: re.search(r"(float|fp|f)\d* x ", name),
        "operators that fall back to kernels that are not the fast ones": lambda name: name.startswith("portable."),
        "conversions that the uncompressed model does not run": _converts,
    }
    found = []
    for what, belongs in kinds.items():
        counts = Counter({name: n for name, n in extra.items() if belongs(name)})
        found += [f"{what}: {_listed(counts)}"] if counts else []
        extra -= counts
    return found or ([f"operators that the uncompressed model does not run: {_listed(extra)}"] if extra and not gone else [])


def _converts(name: str) -> bool:
    return any(part in name.lower() for part in ("quantize", "cast", "transpose", "reorder", "convert", "_to_copy")) and not any(
        part in name.lower() for part in ("matmul", "gather", "lstm", "attention")
    )


def _listed(counts: Counter[str]) -> str:
    shown = [f"{n} {name}" for name, n in counts.most_common(_MOST)]
    return ", ".join(shown) + (f" and {len(counts) - _MOST} more kinds" if len(counts) > _MOST else "")
