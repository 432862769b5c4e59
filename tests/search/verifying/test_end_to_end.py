import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import search
from evaluators.tasks import make_task
from search.checksums import EXAMPLES, write_checksums
from search.evidence import write_raw


@pytest.fixture
def folder(trained, artifact, tmp_path):
    copy = tmp_path / "artifact"
    shutil.copytree(artifact, copy)
    experiment = trained.experiment
    shutil.rmtree(copy / "raw", ignore_errors=True)
    write_raw(copy, experiment, make_task(experiment.data, experiment.model, experiment.workload, experiment.folder), count=3)
    return copy


def measured(folder, *options):
    write_checksums(folder)
    command = [sys.executable, "-m", "search.verifying.end_to_end", str(folder), "--seconds", "0", *options]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(search.__file__).parents[1]).stdout)


def change(folder, name, values):
    with np.load(folder / EXAMPLES) as stored:
        kept = {key: stored[key] for key in stored.files}
    np.savez(folder / EXAMPLES, **{**kept, name: values(kept[name])})


def test_raw_inputs_give_what_the_examples_give_without_torch(folder, plain):
    found = measured(folder, "--against", str(plain), "--batch", "4")
    assert found["relative_difference"] < 1e-3
    assert found["torch"] is False
    assert found["end_to_end_ms"]["runs"] == found["against"]["end_to_end_ms"]["runs"] > 0


def test_what_differs_is_the_way_from_raw_inputs(folder):
    change(folder, "logits", lambda logits: logits[::-1])
    assert measured(folder)["relative_difference"] < 1e-3, "what is expected of the examples is another check's"
    change(folder, next(name for name in np.load(folder / EXAMPLES).files if name.startswith("input.")), lambda inputs: inputs[::-1])
    assert measured(folder)["relative_difference"] > 0.05
