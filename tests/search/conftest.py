import dataclasses

import numpy as np
import pytest

from evaluators.metric import Estimate
from search.experiment import Experiment
from search.record import TrialRecord
from search.results import Results

PI, PIXEL = "raspberry-pi-5/onnxruntime", "pixel-7/onnxruntime"
CONSTRAINTS = f"constraints=['accuracy >= baseline - 0.2', 'peak_memory_bytes@{PI} <= 200MB']"


def estimates(accuracy, size, macs=1e6):
    """Costs that follow from the size, as a device model's would."""
    costs = {"parameters": Estimate.exact(size / 4), "macs": Estimate.exact(macs), "size_bytes": Estimate.exact(size)}
    for device, rate in ((PI, 1e5), (PIXEL, 3e5)):
        ms = size / rate
        costs[f"latency_ms@{device}"] = Estimate(ms, 0.4 * ms, 2.5 * ms, "spec-only")
        costs[f"peak_memory_bytes@{device}"] = Estimate(size + 5e6, size + 4e6, size + 6e6, "spec-only")
        costs[f"energy_mj@{device}"] = Estimate(2 * ms, ms, 5 * ms, "spec-only")
    quality = {"accuracy": Estimate(accuracy, accuracy - 0.02, accuracy + 0.02), "loss": Estimate(1 - accuracy, 0.9 - accuracy, 1.1 - accuracy)}
    return {**costs, **quality}


def record(name, accuracy, size, *, published=None, baseline=None, recipe=None, **changes):
    """A finished record; ``published`` is its accuracy on the report split."""
    report = {} if published is None else {"accuracy": Estimate(published, published - 0.02, published + 0.02), "loss": Estimate(0.3, 0.2, 0.4)}
    recipe = recipe if recipe is not None else [{"prune": {"criterion": "l2", "ratio": {"channels": round(1 - size / 1e5, 3)}, "exclude": []}}]
    return TrialRecord(name, recipe, "ok", metrics=estimates(accuracy, size), report=report, baseline=baseline, **changes)


STUDY = (
    record("0000", 0.97, 30e3, published=0.96, widths={"conv1": (16, 9), "conv2": (32, 12)}, values={"prune.ratio.channels": 0.7}),
    record("0001", 0.95, 20e3, published=0.94),
    record("0002", 0.90, 10e3, published=0.90),
    record("0003", 0.94, 25e3),
    record("0004", 0.60, 2e3, published=0.60),
    TrialRecord("0005", [{"prune": {"criterion": "taylor"}}], "diverged", reason="the loss was NaN at step 3"),
    record("baseline-fp32", 0.98, 100e3, published=0.975, baseline="fp32", recipe=[]),
    record("baseline-int8", 0.975, 28e3, published=0.965, baseline="int8", recipe=[{"quantize": {"weight_bits": 8}}]),
    record("baseline-prune-50", 0.93, 50e3, published=0.92, baseline="prune-50"),
)
"""The front on report: fp32, int8, 0001, 0002 (0000 is worse and larger than int8; 0004 breaks the constraint; 0003 was never published)."""


@pytest.fixture
def study(tmp_path):
    """Results of a study on disk; call with records, or without for ``STUDY``."""

    def make(records=STUDY, overrides=()):
        folder = tmp_path / "digits"
        for name in ("records", "reports"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "experiment.yaml").write_text(Experiment.load("quickstart", [CONSTRAINTS, *overrides]).to_yaml())
        for r in records:
            (folder / "records" / f"{r.id}.json").write_text(dataclasses.replace(r, report={}).to_json())
            if r.report:
                (folder / "reports" / f"{r.id}.json").write_text(r.to_json())
        return Results.load(folder)

    return make


@pytest.fixture
def random_records():
    """Sixty trials and five baselines whose accuracy falls as they shrink."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(60):
        size = float(10 ** rng.uniform(3.6, 4.9))
        quality = 0.985 - 0.25 * np.exp(-size / 9e3) - abs(rng.normal(0, 0.02))
        recipe = [
            {"prune": {"criterion": str(rng.choice(["l2", "taylor"])), "ratio": {"channels": float(rng.uniform(0, 0.8))}, "scope": "global", "exclude": []}},
            {"distill": {"epochs": 2.0, "temperature": float(rng.uniform(1, 8)), "alpha": float(rng.uniform(0.1, 0.9))}},
            {"quantize": {"weight_bits": int(rng.choice([4, 8, 16])), "activation_bits": 8, "mode": "static"}},
        ]
        records.append(record(f"{i:04d}", quality, size, published=quality - rng.normal(0.005, 0.004) if i % 2 else None, recipe=recipe))
        if i % 2:
            records[-1] = dataclasses.replace(records[-1], widths={"conv1": (16, 16 - i // 8), "conv2": (32, 20)}, seconds=3.2)
    sizes = {"fp32": (0.98, 1e5), "fp16": (0.98, 5e4), "int8": (0.975, 2.7e4), "int4": (0.91, 1.5e4), "prune-50": (0.93, 5e4)}
    records += [record(f"baseline-{n}", a, s, published=a - 0.004, baseline=n, recipe=[]) for n, (a, s) in sizes.items()]
    return tuple(sorted(records, key=lambda r: r.id))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """An empty folder of a module's tests, with a stage cache of their own."""
    folder = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPARETO_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A real study of the digits: the uncompressed model and two trials, evaluated and published; with its own stage cache."""
    from search.cache import Cache
    from search.preparing import prepare
    from search.stages import StageRunner
    from tests.search.finished import finished_study

    root = tmp_path_factory.mktemp("trained")
    patch = pytest.MonkeyPatch()
    patch.setenv("COMPARETO_CACHE", str(root / "cache"))
    experiment = Experiment.load("quickstart", ["fit.epochs=2", "constraints=[]", "devices=[raspberry-pi-5/onnxruntime]"])
    recipes = {
        "baseline-fp32": [],
        "0001": [{"prune": {"ratio": {"channels": 0.25}}}, {"quantize": {"weight_bits": 8, "activation_bits": 8}}],
        "0002": [{"prune": {"ratio": {"channels": 0.5}}}],
    }
    runner = StageRunner(prepare(experiment, Cache(), lambda _: None), Cache())
    results = finished_study(root / "digits", runner, recipes)
    failed = TrialRecord("0003", recipes["0002"], "diverged", reason="the loss was NaN at step 3")
    (results.folder / "records" / "0003.json").write_text(failed.to_json())
    yield Results.load(results.folder)
    patch.undo()


@pytest.fixture(scope="session")
def artifact(trained):
    """The artifact of the quantized trial; copy it before changing it."""
    from search.export import export_trial

    return export_trial(trained, "0001", trained.folder.parent / "artifact", log=lambda _: None)


@pytest.fixture(scope="session")
def plain(trained, tmp_path_factory):
    """The uncompressed model's file."""
    from compressors.targets import target_named
    from evaluators.models import load_model
    from evaluators.tasks import make_task

    experiment = trained.experiment
    task = make_task(experiment.data, experiment.model, experiment.workload, experiment.folder)
    model = load_model(experiment.model, experiment.folder, task).eval()
    return target_named("onnxruntime").export(model, task.example_inputs, tmp_path_factory.mktemp("plain"))
