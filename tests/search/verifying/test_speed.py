import numpy as np
import onnxruntime

from evaluators.tasks import make_task
from search.artifact import Artifact
from search.verifying.speed import uncompressed_file


def test_the_uncompressed_model_has_the_artifacts_inputs_and_all_its_channels(trained, artifact, tmp_path):
    experiment = trained.experiment
    task = make_task(experiment.data, experiment.model, experiment.workload, experiment.folder)
    path = uncompressed_file(Artifact.load(artifact), experiment, task, tmp_path)
    session = onnxruntime.InferenceSession(str(path))
    assert [i.name for i in session.get_inputs()] == ["image"]
    assert session.run(["logits"], {"image": np.zeros((3, 1, 8, 8), np.float32)})[0].shape == (3, 10)
    assert path.stat().st_size > 4 * 16_000, "the uncompressed network's parameters"


def test_it_takes_pixels_where_the_artifact_does(trained, artifact, tmp_path):
    import dataclasses

    experiment = trained.experiment
    task = make_task(experiment.data, experiment.model, experiment.workload, experiment.folder)
    loaded = Artifact.load(artifact)
    signature = {**loaded.signature, "preprocessing": {**loaded.signature["preprocessing"], "layout": "nhwc"}}
    session = onnxruntime.InferenceSession(str(uncompressed_file(dataclasses.replace(loaded, signature=signature), experiment, task, tmp_path)))
    assert session.run(["logits"], {"image": np.zeros((3, 8, 8, 1), np.uint8)})[0].shape == (3, 10)
