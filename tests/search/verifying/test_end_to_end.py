import json
import shutil
import subprocess
import sys
from pathlib import Path

import search
from evaluators.tasks import make_task
from search.checksums import write_checksums
from search.evidence import write_raw


def test_raw_inputs_give_what_the_examples_say_without_torch(trained, artifact, plain, tmp_path):
    folder = tmp_path / "artifact"
    shutil.copytree(artifact, folder)
    experiment = trained.experiment
    shutil.rmtree(folder / "raw", ignore_errors=True)
    write_raw(folder, experiment, make_task(experiment.data, experiment.model, experiment.workload, experiment.folder), count=3)
    write_checksums(folder)
    command = [sys.executable, "-m", "search.verifying.end_to_end", str(folder), "--against", str(plain), "--seconds", "0", "--batch", "4"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(search.__file__).parents[1])
    found = json.loads(ended.stdout)
    assert found["relative_difference"] < 1e-3
    assert found["torch"] is False
    assert found["end_to_end_ms"]["runs"] == found["against"]["end_to_end_ms"]["runs"] > 0
