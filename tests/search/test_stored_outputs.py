import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from compressors.recipe import Recipe
from search.cache import Cache
from search.experiment import Experiment
from search.preparing import Prepared, prepare
from search.stages import StageRunner

PRUNE = {"prune": {"ratio": {"channels": 0.5}}}
DISTILL = {"distill": {"epochs": 2, "batch_size": 32}}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    overrides = ["data.max_samples=90", "fit=null", "devices=[raspberry-pi-5/onnxruntime]", "data.preprocessing.augment=[crop]"]
    return prepare(Experiment.load("quickstart", overrides), Cache(tmp_path_factory.mktemp("cache")), lambda _: None)


def tables(cache: Cache) -> list[str]:
    return [entry.key for store in cache.stores.values() for entry in store.entries() if entry.kind == "teacher outputs"]


def test_metrics_and_weights_are_the_same_with_stored_outputs_and_without(prepared: Prepared, tmp_path: Path) -> None:
    recipe = Recipe.from_plain([PRUNE, DISTILL])
    without = StageRunner(prepared, Cache(tmp_path / "without"))
    without.outputs = None
    expected = without.run(recipe)
    assert not tables(without.cache)
    # Other trials find what the first one has stored: of another recipe, and of the same one with other seeds.
    stored = StageRunner(prepared, Cache(tmp_path / "with"))
    stored.run(Recipe.from_plain([{"distill": {**DISTILL["distill"], "alpha": 0.3}}]))
    assert len(tables(stored.cache)) == 2, "one for each of the two variants that two epochs see"
    found = stored.run(recipe)
    assert found.metrics == expected.metrics
    states = [runner.model(recipe).state_dict() for runner in (without, stored)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    stored.run(recipe, replicate=1)
    assert len(tables(stored.cache)) == 2
    assert not any("computed" in line for line in found.logs)


def test_a_row_belongs_to_the_variant_that_the_student_sees(prepared: Prepared, tmp_path: Path) -> None:
    runner = StageRunner(prepared, Cache(tmp_path))
    runner.run(Recipe.from_plain([DISTILL]))
    found = {}
    for key in tables(runner.cache):
        folder = runner.cache.get(key)
        assert folder is not None
        table = np.load(folder / "outputs.npy", mmap_mode="r")
        for view in (0, 1):
            batch = prepared.task.take("train", np.array([17, 3, 60, 8, 9]), view=view)
            with torch.no_grad():
                said = prepared.model(**batch.inputs).numpy()
            if np.allclose(table[[17, 3, 60, 8, 9]], said, atol=1e-5):
                found[view] = key
    assert len(set(found.values())) == 2


def test_of_two_trials_at_once_one_computes(prepared: Prepared, tmp_path: Path) -> None:
    runners = [StageRunner(prepared, Cache(tmp_path)) for _ in range(2)]
    recipes = [Recipe.from_plain([{"distill": {**DISTILL["distill"], "alpha": alpha}}]) for alpha in (0.2, 0.8)]
    threads = [threading.Thread(target=runner.run, args=(recipe,)) for runner, recipe in zip(runners, recipes, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("computed" in line for runner in runners for line in runner.logs) == 2
    assert len(tables(runners[0].cache)) == 2


def test_plain_fine_tuning_and_fresh_augmentation_store_nothing(prepared: Prepared, tmp_path: Path) -> None:
    runner = StageRunner(prepared, Cache(tmp_path))
    runner.run(Recipe.from_plain([{"distill": {**DISTILL["distill"], "alpha": 0}}, {"distill": {"steps": 2, "views": None}}]))
    assert not tables(runner.cache)
