"""A new process that knows a checkpoint and the source of the model: ``python -m tests.conformance.reload FOLDER FAMILY...``.

Loads every checkpoint in FOLDER and prints the digests of the outputs as JSON. The FAMILIES given are those whose folders name their architecture; any other
is loaded into a fresh instance whose numbers are all zero.
"""

import json
import sys
from pathlib import Path

import torch

from compressors.checkpoint import load
from tests.conformance.families import build
from tests.conformance.measures import digest, output


def fresh(family: str) -> torch.nn.Module:
    model, _ = build(family)
    for value in model.state_dict().values():
        value.zero_()
    return model


if __name__ == "__main__":
    folder, named = Path(sys.argv[1]), sys.argv[2:]
    inputs = torch.load(folder / "inputs.pt", weights_only=True)
    print(json.dumps({family: digest(output(load(folder / family, None if family in named else fresh(family)), inputs[family])) for family in inputs}))
