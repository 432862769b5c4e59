"""Attention in a window: what a graph would look like with it, and the module that computes it in blocks [Child2019]_, [Beltagy2020]_.

Queries come in blocks as long as the window, and each block meets the keys of its own and of the two neighbouring blocks; what is further away than the window
is masked. So ``tokens * 3 * window`` pairs are computed instead of ``tokens ** 2``.

.. [Child2019] Child et al., Generating Long Sequences with Sparse Transformers, arXiv 1904.10509.
.. [Beltagy2020] Beltagy et al., Longformer: The Long-Document Transformer, arXiv 2004.05150.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from compressors.errors import CompressionError
from compressors.graph.axes import AxisTable
from compressors.graph.dims import Leaf, leaves
from compressors.graph.model_graph import Axis
from compressors.graph.polynomial import Polynomial
from compressors.graph.propagation import Propagation, Step, Value

__all__ = ["Window", "add_windows", "install_window", "neighbours", "windowed_attention"]

_DECIDED = "the steps of a recipe decide it"
_ATTENTION = "scaled_dot_product_attention"


@dataclass(frozen=True, slots=True)
class Window:
    """What tells how an attention is computed.

    Attributes:
        full: 1 where every token meets every other one, else 0.
        pairs: of queries and keys in blocks, 0 where it is full.
        keys: of all blocks together, those that several blocks read repeated; 0 where it is full.
    """

    full: Polynomial
    pairs: Polynomial
    keys: Leaf


def add_windows(model: nn.Module, found: Propagation, table: AxisTable) -> dict[str, Window]:
    """Add the axes ``MODULE:full``, ``MODULE:pairs`` and ``MODULE:keys`` for each self-attention that can have a window, by the name of its module."""
    modules = dict(model.named_modules())
    steps = [step for step in found.steps if step.call.name == _ATTENTION]
    once = Counter(step.call.module for step in steps)
    windows: dict[str, Window] = {}
    for step in steps:
        path = step.call.module
        module = modules.get(path)
        # Of a mask nobody can tell from outside whether it is causal, but transformers says so. nn.MultiheadAttention has ways around the function.
        if module is None or module is model or getattr(module, "is_causal", False) or isinstance(module, nn.MultiheadAttention):
            continue
        if once[path] == 1 and _attends_to_itself(step):
            keys = Leaf(0, "window", _DECIDED)
            table.index[keys] = len(table.axes) + 2
            windows[path] = Window(Polynomial.axis(len(table.axes)), Polynomial.axis(len(table.axes) + 1), keys)
            for kind, size in (("full", 1), ("pairs", 0), ("keys", 0)):
                table.axes.append(Axis(f"{path}:{kind}", "window", size, _DECIDED, (path,)))
    return windows


def _attends_to_itself(step: Step) -> bool:
    """Whether every token may meet every other one of the same text or picture: no cache, no other sequence, nothing causal."""
    query, key = step.arguments["query"].dims, step.arguments["key"].dims
    if step.call["is_causal"] or step.call.arguments.get("enable_gqa") or len(query) != 4 or [d.size for d in query] != [d.size for d in key]:
        return False
    return query[-2].size > 1 and list(map(id, leaves(query[-2]))) == list(map(id, leaves(key[-2])))


def neighbours(step: Step, window: Window) -> tuple[Value, Value]:
    """Keys and values as the blocks of queries read them."""
    made = []
    for name in ("key", "value"):
        value = step.arguments[name]
        dims = (*value.dims[:-2], window.keys, value.dims[-1])
        made.append(Value(f"{step.call.node.name}_{name}s", "activation", dims, value.floating, value.fake))
    return made[0], made[1]


def windowed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    window: int,
) -> Tensor:
    """As ``torch.nn.functional.scaled_dot_product_attention``, of tokens at most ``window`` apart; a token that sees none gets the mean of its blocks' values.

    Args:
        query: ``[batch, heads, tokens, width]``.
        key: as ``query``, of as many tokens.
        value: as ``query``, of as many tokens.
        attn_mask: broadcasts to ``[batch, heads, tokens, tokens]``: true, or a number that is added, where a query (row) may see a key.
        dropout_p: of the weights of keys.
        is_causal: attention is then full, as torch computes it.
        scale: of the products; None is ``width ** -0.5``.
        enable_gqa: attention is then full, as torch computes it.
        window: tokens to each side, at least 1.
    """
    tokens = query.shape[-2]
    if is_causal or enable_gqa or query.dim() != 4 or (isinstance(tokens, int) and tokens <= window):
        return functional.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    batch, heads = query.shape[:2]
    blocks = (tokens + window - 1) // window
    rest = blocks * window - tokens
    queries = functional.pad(query, (0, 0, 0, rest)).reshape(batch, heads, blocks, window, query.shape[-1]).transpose(1, 2)
    keys, values = (_blocked(tensor, blocks, window, rest) for tensor in (key, value))
    rows = torch.arange(window, device=query.device)[:, None]
    columns = torch.arange(3 * window, device=query.device)
    # Column c of block b is the key at (b - 1) * window + c.
    place = (torch.arange(blocks, device=query.device)[:, None] - 1) * window + columns
    near = ((columns - window - rows).abs() <= window) & ((place >= 0) & (place < tokens))[:, None]
    lowest = torch.finfo(query.dtype).min
    near = near[None, :, None]
    if attn_mask is None:
        added = torch.where(near, 0.0, lowest).to(query.dtype)
    else:
        given = _mask_blocks(attn_mask.expand(*attn_mask.shape[:-2], tokens, tokens), blocks, window, rest)
        seen = torch.where(given, 0.0, lowest) if given.dtype == torch.bool else given
        # Finite, since a padding token may see nothing: its outputs are not read, but must not be NaN either.
        added = torch.where(near, seen, lowest).to(query.dtype)
    added = added.expand(batch, blocks, added.shape[2], window, 3 * window)
    queries, keys, values = (tensor.reshape(batch * blocks, heads, tensor.shape[-2], tensor.shape[-1]) for tensor in (queries, keys, values))
    added = added.reshape(batch * blocks, added.shape[2], window, 3 * window)
    made = functional.scaled_dot_product_attention(queries, keys, values, added, dropout_p, scale=scale)
    joined = made.reshape(batch, blocks, heads, window, value.shape[-1]).transpose(1, 2).reshape(batch, heads, blocks * window, value.shape[-1])
    return joined[:, :, :tokens]


def _blocked(tensor: Tensor, blocks: int, window: int, rest: int) -> Tensor:
    """``[batch, blocks, heads, 3 * window, width]``: each block with the one before it and the one behind it."""
    batch, heads, _, width = tensor.shape
    padded = functional.pad(tensor, (0, 0, window, window + rest)).reshape(batch, heads, blocks + 2, window, width)
    return torch.cat([padded[:, :, :blocks], padded[:, :, 1 : blocks + 1], padded[:, :, 2 : blocks + 2]], dim=3).transpose(1, 2)


def _mask_blocks(mask: Tensor, blocks: int, window: int, rest: int) -> Tensor:
    """A mask ``[batch or 1, heads or 1, tokens, tokens]`` (or without the first dimensions) as ``[batch or 1, blocks, heads or 1, window, 3 * window]``."""
    mask = mask[(None,) * (4 - mask.dim())]
    padded = functional.pad(mask, (window, window + rest, 0, rest), value=0)
    rows = padded.reshape(*mask.shape[:2], blocks, window, (blocks + 2) * window)
    columns = torch.arange(blocks, device=mask.device)[:, None, None] * window + torch.arange(3 * window, device=mask.device)
    return rows.gather(-1, columns.expand(*mask.shape[:2], blocks, window, 3 * window)).transpose(1, 2)


class _Blocks(TorchFunctionMode):
    """While open, attention has a window."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if func is functional.scaled_dot_product_attention:
            return windowed_attention(*args, **(kwargs or {}), window=self.window)
        return func(*args, **(kwargs or {}))


class _Windowed(nn.Module):
    """In front of an attention's own class."""

    attention_window: int

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with _Blocks(self.attention_window):
            return super().forward(*args, **kwargs)


@functools.cache
def _with_window(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (_Windowed, kind), {"__module__": kind.__module__, "__qualname__": f"Windowed.{kind.__qualname__}"})


def install_window(model: nn.Module, path: str, window: int) -> None:
    """Let the attention of the module ``path`` have a window, in place.

    Raises:
        CompressionError: there is no such module.
    """
    module = dict(model.named_modules()).get(path)
    if module is None:
        raise CompressionError(f"the model has no module {path!r} whose attention could have a window")
    if not isinstance(module, _Windowed):
        kind: Any = type(module)
        module.__class__ = _with_window(kind)
    module.attention_window = window
