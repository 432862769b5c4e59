"""One trial of a study for ONNX Runtime as an artifact of every other runtime, and that it computes there what it promises."""

import json

import pytest

from evaluators.tasks import make_task
from search.artifact import Artifact, corrupted
from search.export import export_trial
from search.runtime_process import RuntimeProcess

pytestmark = pytest.mark.filterwarnings("ignore")  # third parties warn about their own internals

NEEDED = {"litert": ("litert_torch", "ai_edge_litert"), "executorch": ("executorch",), "torch": ()}


@pytest.fixture(scope="module", params=list(NEEDED))
def exported(request, trained, tmp_path_factory):
    """Format, folder and lines of the int8 trial."""
    for module in NEEDED[request.param]:
        pytest.importorskip(module)
    lines = []
    folder = tmp_path_factory.mktemp(request.param) / "artifact"
    return request.param, export_trial(trained, "0001", folder, form=request.param, log=lines.append), lines


def test_it_is_whole_and_names_its_runtime(exported):
    form, folder, lines = exported
    assert corrupted(folder) == []
    artifact = Artifact.load(folder)
    assert (artifact.signature["runtime"], artifact.lock.target) == (form, form)
    assert (folder / artifact.model).suffix == {"litert": ".tflite", "executorch": ".pte", "torch": ".safetensors"}[form]
    assert not any("rebuilt model" in line for line in lines), "it is the same model"
    assert any(line.startswith(f"{form} is not the study's target, onnxruntime") for line in lines)


def test_the_promised_bytes_are_those_of_the_format(exported):
    from compressors.targets import target_named

    form, folder, _ = exported
    artifact = Artifact.load(folder)
    stored = target_named(form).file_bytes(folder / artifact.model)
    assert stored == pytest.approx(artifact.promised["size_bytes"].value, rel=0.02)


def test_latency_is_carried_over_or_left_out(exported):
    form, folder, lines = exported
    latency = {name: e["tier"] for name, e in json.loads((folder / "metrics.json").read_text())["metrics"].items() if name.startswith("latency_ms")}
    if form == "torch":
        assert latency == {}
        assert any("raspberry-pi-5/onnxruntime: left out" in line for line in lines)
    else:
        assert latency == {f"latency_ms@raspberry-pi-5/{form}": "transferred"}


def test_the_runtime_computes_the_promised_quality(trained, exported):
    form, folder, _ = exported
    if form == "torch":
        pytest.skip("a checkpoint of a factory's model is opened with a fresh instance")
    experiment = trained.experiment
    task = make_task(experiment.data, experiment.model, experiment.workload, experiment.folder)
    artifact = Artifact.load(folder)
    with RuntimeProcess(folder / artifact.model) as predict:
        found = task.metrics(predict, "report")["accuracy"].value
    assert found == pytest.approx(artifact.promised["accuracy"].value, abs=0.01)


def test_pixels_go_straight_in(trained, exported, tmp_path):
    form, _, _ = exported
    if form == "torch":
        pytest.skip("a checkpoint is the model alone")
    folder = export_trial(trained, "0001", tmp_path / "pixels", form=form, raw_images="nhwc", log=lambda _: None)
    experiment = trained.experiment
    task = make_task(experiment.data, experiment.model, experiment.workload, experiment.folder)
    raw, labels = task.raw("report", 0, 200)
    artifact = Artifact.load(folder)
    with RuntimeProcess(folder / artifact.model) as predict:
        found = predict({"image": raw["image"].transpose(0, 2, 3, 1)})["logits"]
    assert (found.argmax(1) == labels).mean() == pytest.approx(artifact.promised["accuracy"].value, abs=0.1)
