from pathlib import Path

import pytest

from search.cache import Cache
from search.experiment import Experiment
from search.preparing import Prepared, prepare

SMALL = ["data.max_samples=100", "fit={steps: 2}", "devices=[raspberry-pi-5/onnxruntime]"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def prepared(root: Path, *overrides: str) -> tuple[Prepared, str]:
    """What was prepared, and what was said about the fit."""
    lines: list[str] = []
    found = prepare(Experiment.load("quickstart", [*SMALL, *overrides]), Cache(root), lines.append)
    return found, next(line for line in lines if not line.startswith("fit epoch"))


def test_a_baseline_is_fitted_once(root: Path) -> None:
    one, said = prepared(root)
    assert said == "fit: training the baseline once"
    again, said = prepared(root)
    assert said == "fit: found in the cache"
    assert again.model_key == one.model_key
    assert not again.model.training


@pytest.mark.parametrize("change", ["constraints=[]", "search.trials=3", "recipe=[{quantize: {}}]", "objectives=[accuracy, macs]", "name=other"])
def test_what_does_not_touch_the_baseline_finds_it(root: Path, change: str) -> None:
    prepared(root)
    assert prepared(root, change)[1] == "fit: found in the cache"


@pytest.mark.parametrize("change", ["fit.learning_rate=0.02", "search.seed=1", "data.seed=1", "data.preprocessing.mean=[0.5]", "model.arguments={width: 4}"])
def test_whatever_touches_the_baseline_fits_another(root: Path, change: str) -> None:
    one, _ = prepared(root)
    other, said = prepared(root, change)
    assert said == "fit: training the baseline once"
    assert other.model_key != one.model_key


def test_a_corrupt_fit_is_made_again(root: Path) -> None:
    one, _ = prepared(root)
    for path in root.rglob("model.safetensors"):
        path.write_bytes(path.read_bytes()[:-4])
    again, said = prepared(root)
    assert said == "fit: training the baseline once"
    assert again.model_key == one.model_key, "the same baseline"
