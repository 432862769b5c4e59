"""Post-training quantization through torchao's PT2E flow."""

from compressors.quantization.quantize import Quantize, prepared_state, restore

__all__ = ["Quantize", "prepared_state", "restore"]
