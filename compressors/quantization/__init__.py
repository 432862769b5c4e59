"""Quantization through torchao's PT2E flow: what a recipe asks for (``quantize``), and how it is done (``flow``)."""

from compressors.quantization.quantize import Quantize, prepared_state

__all__ = ["Quantize", "prepared_state"]
