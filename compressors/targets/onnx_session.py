"""A loaded ONNX model. Needs ONNX Runtime and NumPy only."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from compressors.targets.onnx_generation import PRESENT, encoded, encoder_beside, with_states

__all__ = ["OnnxSession", "optimised_operators"]


class OnnxSession:
    """Runs a model file on the CPU; one that keeps a cache as if there were none.

    Args:
        path: the model file; of an encoder-decoder that of the decoder, its encoder beside it.
        threads: within an operator; 0 is ONNX Runtime's choice.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # An encoder and its decoder, and the models of a calibration, take turns: threads would spin into another one's run.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        encoder = encoder_beside(path)
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        self._encoder = onnxruntime.InferenceSession(str(encoder), options, providers=providers) if encoder else None
        self._outputs = [o.name for o in self._session.get_outputs() if not o.name.startswith(PRESENT)]

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once; inputs that the model does not read are left out."""
        given = inputs if self._encoder is None else {**inputs, **encoded(self._encoder, inputs)}
        return dict(zip(self._outputs, self._session.run(self._outputs, with_states(self._session, given)), strict=True))


def optimised_operators(path: Path) -> Counter[str]:
    """How many of each operator ONNX Runtime really runs, read from its optimised graph."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath, load_external_data=False).graph.node)
