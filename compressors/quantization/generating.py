"""A quantized model's decoding step, or its encoder and decoder: other programs of the same weights, with the integers of the forward pass."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

from compressors.compressor import GraphEdit
from compressors.errors import UnexportableError
from compressors.graph.model_graph import ModelGraph
from compressors.quantization.flow import Prepared, prepare, silent
from compressors.quantization.quantizer import SiteQuantizer, WeightQuantizer
from compressors.targets.exported import PREFIX, capture_program
from compressors.targets.programs import generating_programs
from compressors.targets.target import Target

__all__ = ["GeneratingPrograms"]


@dataclass(frozen=True)
class GeneratingPrograms:
    """Captures them when they are asked for.

    Attributes:
        live: the model before quantization.
        graph, edit, target, example_inputs: as it was quantized.
        state: of its forward pass, prepared (see ``Prepared.state``).
        grids: lowest and highest integer of each quantizer in it, by key, in the order of the graph.
        ranges: keys of those that are not of weights, in that order.
    """

    live: nn.Module
    graph: ModelGraph
    edit: GraphEdit
    target: Target
    example_inputs: Mapping[str, Tensor]
    state: Mapping[str, Tensor]
    grids: Mapping[str, tuple[int, int]]
    ranges: tuple[str, ...]

    def __call__(self) -> dict[str, fx.GraphModule]:
        """Converted graphs by the name of their file, the main one last; empty where the model does not generate.

        Raises:
            UnexportableError: it has no such program, or one whose activations are not those of the forward pass.
        """
        names = list(generating_programs(self.live, self.example_inputs))
        return {name: self._quantized(name, alone=len(names) == 1) for name in names}

    def _quantized(self, name: str, *, alone: bool) -> fx.GraphModule:
        fresh = copy.deepcopy(self.live)

        def program(model: nn.Module, inputs: Mapping[str, Tensor]) -> fx.GraphModule:
            return capture_program(generating_programs(model, inputs)[name], inputs)

        prepared = prepare(fresh, self.graph, self.edit, self.target, self.example_inputs, program)
        assert prepared is not None, "the forward pass has integers"
        for quantizer, key in self._origins(prepared, alone=alone):
            quantizer.set_parameters(self.state[f"{key}:scale"], self.state[f"{key}:zero_point"])
        # Other constants are of the program, not of the model.
        prepared.module.load_state_dict({key: value for key, value in self.state.items() if key.startswith(PREFIX) and ":" not in key}, strict=False)
        with silent(), torch.no_grad():
            return self.target.lower(convert_pt2e(prepared.module))

    def _origins(self, prepared: Prepared, *, alone: bool) -> list[tuple[SiteQuantizer, str]]:
        """Each quantizer with the key of the one in the forward pass that does the same."""
        weights = [quantizer for quantizer in prepared.quantizers.values() if isinstance(quantizer, WeightQuantizer)]
        others = [quantizer for quantizer in prepared.quantizers.values() if not isinstance(quantizer, WeightQuantizer)]
        if others and not (alone and len(others) == len(self.ranges)):
            # The same code runs in the same order, but only a whole step has all of it.
            raise UnexportableError("ranges of activations are those of the forward pass as a whole; accepted: mode: dynamic, or float activations")
        return [*((quantizer, self._weight(quantizer)) for quantizer in weights), *zip(others, self.ranges, strict=True)]

    def _weight(self, quantizer: WeightQuantizer) -> str:
        """A weight that several layers share may have a grid for each kind of kernel."""
        grid = (quantizer.lowest, quantizer.highest)
        return next(key for key, found in self.grids.items() if key.partition("#")[0] == quantizer.key and found == grid)
