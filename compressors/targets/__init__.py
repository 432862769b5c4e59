"""Runtimes, one file each."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from compressors.errors import UserError, near_miss
from compressors.targets.target import Kernel, Session, Target

__all__ = ["Kernel", "Session", "Target", "target_named"]

_BUILT_IN = {
    "onnxruntime": "compressors.targets.onnxruntime:OnnxRuntime",
    "litert": "compressors.targets.litert:LiteRT",
    "executorch": "compressors.targets.executorch:ExecuTorch",
    "torch": "compressors.targets.torch_target:Torch",
}


def target_named(name: str) -> Target:
    """The runtime called ``name``: one of ours, or an entry point in the group ``compareto.targets``.

    Raises:
        UserError: there is none.
    """
    known = {**{e.name: e.value for e in entry_points(group="compareto.targets")}, **_BUILT_IN}
    if name not in known:
        raise UserError(f"unknown runtime {name!r}; accepted: {', '.join(known)}{near_miss(name, known)}")
    module, _, attribute = known[name].partition(":")
    target: Target = getattr(import_module(module), attribute)()
    return target
