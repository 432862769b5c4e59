"""Which operators are handed to XNNPACK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import fx

__all__ = ["partitioners"]


def partitioners() -> list[Any]:
    """XNNPACK's, which is also given linear layers of integer weights and float activations: its kernels have them, ExecuTorch's own configuration has not."""
    from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
    from executorch.backends.xnnpack.partition.config.gemm_configs import LinearConfig
    from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.utils.quant_utils import is_dequant, is_dynamic_qdq, is_quant

    class Linear(LinearConfig):  # type: ignore[misc]  # executorch ships no types
        def _detect_precision(self, node: fx.Node) -> Any:
            # Of this precision nothing is asked about the output.
            return ConfigPrecisionType.DYNAMIC_QUANT if self._only_weights(node) else super()._detect_precision(node)

        def _get_act_deps(self, node: fx.Node, ep: Any, precision: Any) -> Any:
            return (True, []) if self._only_weights(node) else super()._get_act_deps(node, ep, precision)

        def _only_weights(self, node: fx.Node) -> bool:
            activation, weight = node.args[:2]
            if not is_dequant(weight) or is_dynamic_qdq(activation):
                return False
            return len(node.args) < 3 and not (is_dequant(activation) and all(is_quant(user) for user in node.users))

    return [XnnpackPartitioner(configs=[Linear if config is LinearConfig else config for config in ALL_PARTITIONER_CONFIGS])]
