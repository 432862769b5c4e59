"""An export to another runtime than the study's target: quantized, priced and evaluated again, and said so."""

import dataclasses
import json

import pytest

from compressors import targets
from compressors.errors import UnexportableError, UserError
from compressors.targets.onnxruntime import OnnxRuntime
from search.cache import Cache
from search.export import FORMATS, export_trial
from search.lock import RecipeLock
from search.preparing import prepare
from search.results import Results
from search.stages import StageRunner
from search.transfer import device_in, transferred

pytestmark = pytest.mark.filterwarnings("ignore")  # torchao warns about its own internals


class Other(OnnxRuntime):
    """A runtime with rounding and bytes of its own, whose files ONNX Runtime happens to read."""

    name = "litert"

    def annotator(self, sites, *, dynamic):
        return super().annotator({name: dataclasses.replace(site, weight_bits=4) for name, site in sites.items()}, dynamic=dynamic)

    def stored_bytes(self, graph, shapes):
        return 2 * super().stored_bytes(graph, shapes)


@pytest.fixture
def other(monkeypatch):
    monkeypatch.setitem(targets._BUILT_IN, "litert", f"{__name__}:Other")


@pytest.fixture(scope="module")
def on_pixel(trained):
    """The trained study on a device that other runtimes are known for, and on one that they are not."""
    from search.experiment import Experiment

    plain = {**trained.experiment.to_plain(), "devices": ["pixel-7/onnxruntime", "loongson-3a6000/onnxruntime"]}
    plain["objectives"] = ["accuracy", "latency_ms@pixel-7/onnxruntime", "latency_ms@loongson-3a6000/onnxruntime", "size_bytes"]
    plain["constraints"] = ["latency_ms@pixel-7/onnxruntime <= 100", "latency_ms@loongson-3a6000/onnxruntime <= 100", "accuracy >= 0.1"]
    experiment = Experiment.from_plain(plain)
    runner = StageRunner(prepare(experiment, Cache(), lambda _: None), Cache())
    from compressors.recipe import Recipe

    records = [dataclasses.replace(r, metrics=runner.run(Recipe.from_plain(r.recipe)).metrics) if r.status == "ok" else r for r in trained.records]
    return Results(experiment, tuple(records), trained.folder)


def test_devices_keep_their_place_and_threads_in_another_runtime():
    assert device_in("pixel-7/onnxruntime", "litert") == "pixel-7/litert"
    assert device_in("raspberry-pi-4/onnxruntime:1t", "litert") == "raspberry-pi-4/litert:1t"
    assert device_in("loongson-3a6000/onnxruntime", "litert") is None


@pytest.mark.usefixtures("other")
def test_objectives_and_constraints_move_with_their_devices_or_go(on_pixel):
    prepared = prepare(on_pixel.experiment, Cache(), lambda _: None)
    moved = transferred(prepared, Other())
    assert moved.experiment.target == "litert"
    assert moved.experiment.devices == ("pixel-7/litert",)
    assert moved.experiment.objectives == ("accuracy", "latency_ms@pixel-7/litert", "size_bytes")
    assert moved.experiment.constraints == ("latency_ms@pixel-7/litert <= 100", "accuracy >= 0.1")
    latency = moved.costs(moved.graph.baseline())[0]["latency_ms@pixel-7/litert"]
    assert latency.tier == "transferred"
    assert latency.low < latency.value < latency.high


@pytest.mark.usefixtures("other")
def test_the_artifact_promises_what_was_measured_for_its_runtime_and_the_export_says_what_changed(on_pixel, tmp_path):
    lines = []
    folder = export_trial(on_pixel, "0001", tmp_path / "out", form="litert", log=lines.append)
    said = "\n".join(lines)
    record = on_pixel.record("0001")
    assert "litert is not the study's target, onnxruntime: the trial is quantized, priced and evaluated again for litert" in said
    promised = json.loads((folder / "metrics.json").read_text())["metrics"]
    assert promised["size_bytes"]["value"] == 2 * record.metrics["size_bytes"].value
    assert promised["latency_ms@pixel-7/litert"]["tier"] == "transferred"
    assert not [name for name in promised if "onnxruntime" in name]
    assert promised["accuracy"]["value"] != record.report["accuracy"].value, "four bits are not eight"
    assert f"accuracy: {100 * record.report['accuracy'].value:.1f} % -> {100 * promised['accuracy']['value']:.1f} %, on report" in said
    assert "size_bytes: " in said
    assert "on pixel-7/onnxruntime -> " in said
    assert "loongson-3a6000/onnxruntime: left out" in said
    assert RecipeLock.load(folder / "recipe.lock").target == "litert"
    assert json.loads((folder / "signature.json").read_text())["runtime"] == "litert"
    assert json.loads((folder / "provenance.json").read_text())["experiment"]["target"] == "litert"


@pytest.mark.usefixtures("other")
def test_what_was_trained_is_not_trained_again(on_pixel, trained, tmp_path):
    prepared = prepare(on_pixel.experiment, Cache(), lambda _: None)
    from compressors.recipe import Recipe

    for trial in ("0001", "0002"):
        recipe = Recipe.from_plain(trained.record(trial).recipe)
        ours, theirs = StageRunner(prepared, Cache()), StageRunner(transferred(prepared, Other()), Cache())
        pruned = Recipe(recipe.steps[:1])
        assert ours.key(pruned) == theirs.key(pruned)
        assert (ours.key(recipe) == theirs.key(recipe)) is (trial == "0002"), "only quantization depends on the runtime"


@pytest.mark.usefixtures("other")
def test_what_the_format_lacks_is_named_and_leaves_nothing_behind(on_pixel, tmp_path, monkeypatch):
    def export(*_):
        raise UnexportableError("LiteRT cannot express the model: aten.grid_sampler_2d")

    monkeypatch.setattr(Other, "export", export)
    with pytest.raises(UnexportableError, match=r"aten\.grid_sampler_2d"):
        export_trial(on_pixel, "0001", tmp_path / "out", form="litert", log=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_that_is_not_installed_names_its_extra(on_pixel, tmp_path, monkeypatch):
    def target(name):
        raise UserError(f'{name} is not installed: pip install "compareto[{name}]"')

    monkeypatch.setattr("search.export.target_named", target)
    with pytest.raises(UserError, match=r"compareto\[litert\]"):
        export_trial(on_pixel, "0001", tmp_path / "out", form="litert", log=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_every_format_is_for_a_runtime_of_its_own():
    assert len(set(FORMATS.values())) == len(FORMATS)
