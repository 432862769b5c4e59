import pytest

from evaluators.metric import Metric
from search.algorithms import algorithm_named
from search.space import Space

SPACE = Space.from_plain(
    [
        {"prune": {"criterion": {"choice": ["l2", "taylor"]}, "ratio": {"uniform": [0.0, 0.8]}}},
        {"optional": {"distill": {"epochs": {"int": [1, 4]}, "learning_rate": {"loguniform": [1e-4, 1e-2]}}}},
        {"quantize": {"weight_bits": {"choice": [4, 8, 16]}}},
    ]
)
OBJECTIVES = (Metric("accuracy", "", "max", "observed"), Metric("size_bytes", "B", "min", "exact"))

pytestmark = pytest.mark.filterwarnings("ignore")  # Optuna marks parts of its own as experimental


def run(name: str, seed: int, count: int = 30) -> list[dict[str, object]]:
    algorithm = algorithm_named(name, SPACE, OBJECTIVES, seed)
    points = []
    for _ in range(count):
        values = algorithm.ask()
        points.append(values)
        ratio, bits = float(values["prune.ratio"]), int(values["quantize.weight_bits"])
        algorithm.tell(values, [1 - ratio**2 - 0.1 * (bits == 4), (1 - ratio) * bits])
    return points


@pytest.mark.parametrize("name", ["random", "nsga2", "tpe", "auto"])
def test_points_are_valid_recipes_and_repeat_with_the_seed(name: str) -> None:
    points = run(name, 3)
    assert [SPACE.normalise(p) for p in points] == points
    assert points == run(name, 3)
    assert points != run(name, 4)


@pytest.mark.parametrize("name", ["nsga2", "tpe"])
def test_a_point_from_an_earlier_run_can_be_told(name: str) -> None:
    algorithm = algorithm_named(name, SPACE, OBJECTIVES, 0)
    for point in run("random", 1, 20):
        algorithm.tell(point, [0.5, 4.0])
        algorithm.tell(point, None)
    assert SPACE.normalise(algorithm.ask())
