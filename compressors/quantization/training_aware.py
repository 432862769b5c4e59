"""Quantization-aware training [Jacob2018]_ with learned scales [Esser2020]_: the quantized model is trained as it will run.

.. [Jacob2018] Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018.
.. [Esser2020] Esser et al., Learned Step Size Quantization, ICLR 2020.
"""

from __future__ import annotations

import copy
from typing import ClassVar, Self

import pydantic
from torch import nn

from compressors.compressor import STEP_CONFIG, GraphEdit, Scores
from compressors.context import Context
from compressors.distillation import Distill, teach
from compressors.errors import CompressionError
from compressors.graph.model_graph import ModelGraph
from compressors.graph.surgery import weight_names

__all__ = ["QuantizationAwareTraining"]


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class QuantizationAwareTraining(Distill):
    """Train what ``quantize`` has made, on the uncompressed model's outputs; stands behind ``quantize``, and nothing but another ``qat`` behind it.

    In training every value is rounded as it is in the converted model, whose outputs are therefore those that were trained. Weights, biases and the scales
    of weights and activations are learned; batch norms that follow a convolution have become part of it before. Sizes and prices stay those of ``quantize``.

    Attributes:
        epochs, steps: length; give one.
        temperature, alpha: of the distillation, see ``Distill``.
        teacher, kl_limit, views: see ``Distill``; features, attention and other precisions are not those of a graph of integers.
        learning_rate, schedule, optimizer, weight_decay, batch_size, clip, accumulate, early_stop: see ``TrainingSpec``.
        include, exclude: patterns of sites whose weights are trained; with either, all other parameters stay as they are.
    """

    name: ClassVar[str] = "qat"
    resumable: ClassVar[bool] = False

    @pydantic.model_validator(mode="after")
    def _of_integers(self) -> Self:
        if self.features is not None or self.attention is not None or self.precision != "float32":
            raise ValueError("features, attention and precision belong to distill: an exported graph has no modules, and its rounding is simulated in float32")
        return self

    def plan(self, graph: ModelGraph, scores: Scores, edit: GraphEdit) -> GraphEdit:  # noqa: ARG002 - training changes no shape
        """Training changes no shape."""
        if not any(edit.weight_bits[i] <= 8 for i in graph.select_sites(self.include, self.exclude)):
            raise CompressionError("qat: no weight that it is to train is an integer; accepted: a quantize step before it, with weight_bits of at most 8")
        return edit

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:
        """The quantized model with other integers and scales. See ``Compressor.apply``.

        Raises:
            CompressionError: there is no data, no teacher where one is needed, or no integer.
            DivergedError, OutOfMemoryError: see ``train``.
        """
        # torchao takes a second to import; whoever only reads recipes does not wait for it.
        from compressors.quantization import flow, prepared_state
        from compressors.quantization.simulation import Simulation
        from compressors.targets.exported import PREFIX

        live: nn.Module | None = getattr(model, "compareto_live", None)
        if live is None:
            raise CompressionError("qat: the model is not quantized")
        prepared = flow.prepare(copy.deepcopy(live), context.graph, edit, context.target, context.example_inputs)
        assert prepared is not None, "a quantized model has integers"
        prepared.load(prepared_state(model))
        names = {site.name: {PREFIX + alias for alias in _aliases(live, site.name)} for site in context.graph.sites}
        halves = {name for i, site in enumerate(context.graph.sites) if edit.weight_bits[i] == 16 for name in names[site.name]}
        simulation = Simulation(prepared, context.target, halves)
        # So that the training loop keeps the zeros of a sparse model.
        sparse = (getattr(model, "compareto_structure", None) or {}).get("sparse", {})
        simulation.compareto_structure = {"sparse": {f"graph_module.{PREFIX}{name}": noted for name, noted in sparse.items()}}  # type: ignore[assignment]
        simulation.requires_grad_(not (self.include or self.exclude))
        if self.include or self.exclude:
            parameters = dict(prepared.module.named_parameters(remove_duplicate=False))
            for i in context.graph.select_sites(self.include, self.exclude):
                for name in names[context.graph.sites[i].name]:
                    for parameter in (parameters.get(name), *simulation.growth_of(name.removeprefix(PREFIX))):
                        if parameter is not None:
                            parameter.requires_grad_()
        teach(simulation, self, context, prefix="qat: ")
        state = {name: value.to(next(live.parameters()).device) for name, value in simulation.state().items()}
        return flow.restore(live, context.graph, edit, context.target, context.example_inputs, state)


def _aliases(model: nn.Module, weight: str) -> set[str]:
    """Every name of a site's parameters: of a tied one the exported graph keeps any."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    own = [parameters[name] for name in weight_names(model, weight)]
    return {name for name, parameter in parameters.items() if any(parameter is other for other in own)}
