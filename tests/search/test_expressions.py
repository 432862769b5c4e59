import numpy as np
import pytest

from compressors.errors import UserError
from evaluators.devices.device_model import CostArray
from evaluators.metric import Estimate, Metric
from search.expressions import parse_constraint, parse_pick, parse_where
from search.metric_names import MetricNames

PI, NPU, CPU = "raspberry-pi-5/onnxruntime", "galaxy-s24.npu/litert", "galaxy-s24/litert"
NAMES = MetricNames((Metric("accuracy", "", "max", "observed"), Metric("loss", "nats", "min", "observed")), (PI, NPU))


def test_a_device_may_be_abbreviated_where_only_one_is_meant() -> None:
    for text in (f"latency_ms@{PI}", "latency_ms@raspberry-pi-5"):
        assert NAMES.resolve(text)[0] == f"latency_ms@{PI}"
    assert NAMES.resolve("energy_mj@galaxy-s24.npu")[0] == f"energy_mj@{NPU}"
    assert NAMES.resolve("energy_mj@galaxy-s24")[0] == f"energy_mj@{NPU}"
    assert MetricNames(NAMES.quality, (CPU, NPU)).resolve("latency_ms@galaxy-s24")[0] == f"latency_ms@{CPU}"
    assert MetricNames(NAMES.quality, (PI,)).resolve("latency_ms")[0] == f"latency_ms@{PI}"


def test_metrics_of_parts_have_a_dot_in_their_names() -> None:
    parts = MetricNames(tuple(Metric(name, "", "max", "observed") for name in ("average", "news.accuracy", "news.f1_macro")), (PI,))
    constraint = parse_constraint("news.f1_macro >= baseline - 0.02", parts)
    assert constraint.names == ("news.f1_macro",)
    assert constraint.satisfied({"news.f1_macro": Estimate(0.79, 0, 1)}, {"news.f1_macro": Estimate(0.8, 0, 1)})
    assert [c.names for c in parse_where("average>=.5 and 2*news.accuracy-.1 >= 1", parts)] == [("average",), ("news.accuracy",)]
    assert parse_pick("max news.accuracy where average >= 0.5", parts).name == "news.accuracy"
    with pytest.raises(UserError, match=r"unknown metric 'news.acuracy'.*did you mean 'news.accuracy'"):
        parse_constraint("news.acuracy >= 0.5", parts)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("accurracy", "did you mean 'accuracy'"),
        ("latency_ms@raspberry-pi-4", "not listed under devices"),
        ("latency_ms", "needs a device"),
        ("accuracy@raspberry-pi-5", "the same on every device"),
    ],
)
def test_unknown_names_are_errors_that_list_what_is_accepted(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        NAMES.resolve(text)


@pytest.mark.parametrize(
    ("text", "value", "kept"),
    [
        ("accuracy >= 0.9", 0.9, True),
        ("accuracy > 0.9", 0.9, False),
        ("accuracy >= 90%", 0.91, True),
        ("0.9 <= accuracy", 0.89, False),
        ("accuracy >= baseline - 0.05", 0.93, True),
        ("accuracy >= baseline - 0.05", 0.929, False),
        ("accuracy >= 95% * baseline", 0.93, False),
        ("accuracy >= (1 - 0.05) * baseline", 0.9311, True),
        ("-accuracy <= -.5", 0.6, True),
    ],
)
def test_quality_constraints(text: str, value: float, kept: bool) -> None:
    constraint = parse_constraint(text, NAMES)
    assert constraint.observed
    assert constraint.satisfied({"accuracy": Estimate(value, 0.0, 1.0)}, {"accuracy": Estimate(0.98, 0.9, 1.0)}) is kept


@pytest.mark.parametrize(
    ("bound", "bytes_"),
    [("50MB", 50e6), ("50 MB", 50e6), ("2KiB", 2048), ("1.5 MiB", 1.5 * 2**20), ("3GB", 3e9), ("7B", 7), ("2k", 2000)],
)
def test_units_of_bytes(bound: str, bytes_: float) -> None:
    constraint = parse_constraint(f"size_bytes <= {bound}", NAMES)
    assert constraint.satisfied({"size_bytes": bytes_})
    assert not constraint.satisfied({"size_bytes": bytes_ * 1.001})


def test_units_of_time_and_energy() -> None:
    name = f"latency_ms@{PI}"
    assert parse_constraint("latency_ms@raspberry-pi-5<=0.01s", NAMES).satisfied({name: 10})
    assert not parse_constraint("latency_ms@raspberry-pi-5 <= 900us", NAMES).satisfied({name: 1})
    assert parse_constraint("energy_mj@raspberry-pi-5 <= 1J", NAMES).satisfied({f"energy_mj@{PI}": 1000})


def test_predictions_count_with_their_worse_end() -> None:
    name = f"latency_ms@{PI}"
    at_most = parse_constraint("latency_ms@raspberry-pi-5 <= 10", NAMES)
    assert not at_most.observed
    assert not at_most.satisfied({name: Estimate(5, 2, 12, "spec-only")})
    assert at_most.satisfied({name: Estimate(5, 2, 9, "spec-only")})
    relative = parse_constraint("latency_ms@raspberry-pi-5 <= 0.6 * baseline", NAMES)
    assert relative.satisfied({name: Estimate(5, 2, 12, "spec-only")}, {name: Estimate(10, 4, 25, "spec-only")})


def test_arrays_are_judged_at_once_and_nan_never_passes() -> None:
    cost = CostArray(np.array([5.0, 5.0, np.nan]), np.array([4.0, 4.0, np.nan]), np.array([9.0, 11.0, np.nan]), "spec-only")
    constraint = parse_constraint("latency_ms@raspberry-pi-5 <= 10ms", NAMES)
    assert constraint.satisfied({f"latency_ms@{PI}": cost}).tolist() == [True, False, False]
    violation = constraint.violation({f"latency_ms@{PI}": cost})
    assert violation[0] < 0 < violation[1] < 1
    assert np.isnan(violation[2])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a metric or a number"),
        ("accuracy", "expected <= or < or >= or >"),
        ("accuracy >=", "expected a metric or a number"),
        ("accuracy >= 0.9 0.8", "expected the end"),
        ("accuracy >= (0.9", r"expected \)"),
        ("accuracy == 0.9", "cannot read"),
        ("0.8 <= 0.9", "names no metric"),
        ("baseline >= 1", "names no metric"),
        ("size_bytes <= 5ms", "unit 'ms'"),
        ("size_bytes <= 5parsec", "unknown unit 'parsec'"),
        ("accuracy >= loss - baseline", "write one comparison for each"),
        ("accurac >= 0.9", "did you mean 'accuracy'"),
        ("__import__('os').system('true') >= 1", "cannot read|unknown metric"),
        (3, "expected text"),
    ],
)
def test_what_cannot_be_read_is_quoted(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_constraint(text, NAMES)


def test_where_joins_comparisons() -> None:
    where = parse_where("latency_ms@raspberry-pi-5<=10, size_bytes <= 1MB and accuracy>=0.9", NAMES)
    assert [c.names for c in where] == [(f"latency_ms@{PI}",), ("size_bytes",), ("accuracy",)]
    assert [c.text for c in where] == ["latency_ms@raspberry-pi-5<=10", "size_bytes <= 1MB", "accuracy>=0.9"]


def test_pick_takes_the_best_among_the_allowed() -> None:
    columns = {"accuracy": np.array([0.99, 0.97, 0.90]), f"latency_ms@{PI}": np.array([9.0, 4.0, 1.0])}
    baseline = {"accuracy": 0.98}
    pick = parse_pick("min latency_ms@raspberry-pi-5 where accuracy >= baseline - 0.01", NAMES)
    assert pick.best(columns, 3, baseline) == 1
    assert parse_pick("max accuracy", NAMES).best(columns, 3) == 0
    assert parse_pick("max accuracy where accuracy > 1", NAMES).best(columns, 3) is None
    knee = parse_pick("knee where accuracy >= 0.95", NAMES)
    assert knee.name is None
    assert knee.allowed(columns, 3).tolist() == [True, True, False]


@pytest.mark.parametrize("text", ["accuracy", "best accuracy", "min", "max 3", "knee accuracy", "min accuracy where"])
def test_bad_picks_are_errors(text: str) -> None:
    with pytest.raises(UserError):
        parse_pick(text, NAMES)
