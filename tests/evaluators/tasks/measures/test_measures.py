import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

import compareto as cp
from evaluators.tasks.intervals import mean_interval
from evaluators.tasks.measures import measures_of
from evaluators.tasks.specification import MeanMetric, OwnMetric

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 300)
LOGITS = RNG.standard_normal((300, 4)) + 1.5 * np.eye(4)[LABELS]
PREDICTED = LOGITS.argmax(-1)
NUMBERS = RNG.standard_normal((200, 1)).astype(np.float32)
GUESSES = (NUMBERS + 0.5 * RNG.standard_normal((200, 1))).astype(np.float32)
SETS = (RNG.uniform(size=(150, 5)) < 0.3).astype(np.float32)
SCORES = RNG.standard_normal((150, 5)) + 1.5 * (SETS - 0.5)


def value(kind, name, outputs, labels, folder=None):
    found = measures_of([name], kind, folder)[name if isinstance(name, str) else name.named](outputs, labels)
    assert found.shape == (len(labels),)
    return found.mean()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", metrics.accuracy_score(LABELS, PREDICTED)),
        ("f1_macro", metrics.f1_score(LABELS, PREDICTED, average="macro")),
        ("precision_macro", metrics.precision_score(LABELS, PREDICTED, average="macro")),
        ("recall_macro", metrics.recall_score(LABELS, PREDICTED, average="macro")),
        ("matthews", metrics.matthews_corrcoef(LABELS, PREDICTED)),
        ("balanced_accuracy", metrics.balanced_accuracy_score(LABELS, PREDICTED)),
    ],
)
def test_of_classes_they_are_scikit_learns(name, expected):
    assert value("classification", name, LOGITS, LABELS) == pytest.approx(expected)


def test_f1_of_two_classes_is_that_of_the_second():
    labels, logits = LABELS % 2, np.stack([-LOGITS[:, 0], LOGITS[:, 1]], axis=1)
    assert value("classification", "f1", logits, labels) == pytest.approx(metrics.f1_score(labels, logits.argmax(-1)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("f1_micro", metrics.f1_score(SETS, SCORES > 0, average="micro")),
        ("f1_macro", metrics.f1_score(SETS, SCORES > 0, average="macro", zero_division=0)),
        ("subset_accuracy", metrics.accuracy_score(SETS, SCORES > 0)),
    ],
)
def test_of_sets_of_labels_they_are_scikit_learns(name, expected):
    assert value("multi-label", name, SCORES, SETS) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mse", metrics.mean_squared_error(NUMBERS, GUESSES)),
        ("mae", metrics.mean_absolute_error(NUMBERS, GUESSES)),
        ("r2", metrics.r2_score(NUMBERS, GUESSES)),
        ("pearson", stats.pearsonr(NUMBERS[:, 0], GUESSES[:, 0]).statistic),
        ("spearman", stats.spearmanr(NUMBERS[:, 0], GUESSES[:, 0]).statistic),
    ],
)
def test_of_numbers_they_are_scikit_learns_and_scipys(name, expected):
    assert value("regression", name, GUESSES, NUMBERS) == pytest.approx(expected, rel=1e-5)
    assert value("regression", name, GUESSES[:, 0], NUMBERS) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("usual", [0.1, 0.5, 0.0])
def test_a_target_that_hardly_varies_has_the_r2_of_scikit_learn(usual):
    labels = np.full((30, 1), usual)
    assert value("regression", "r2", GUESSES[:30], labels) == 0
    assert value("regression", "r2", labels, labels) == 1
    labels[3] = 0.3
    assert value("regression", "r2", GUESSES[:30], labels) == pytest.approx(metrics.r2_score(labels, GUESSES[:30]))


def test_of_tokens_only_those_with_a_class_count():
    labels = RNG.integers(0, 3, (40, 6))
    labels[:, 4:] = -100
    logits = RNG.standard_normal((40, 6, 3)) + np.eye(3)[np.maximum(labels, 0)]
    known = labels != -100
    assert value("token-classification", "accuracy", logits, labels) == pytest.approx((logits.argmax(-1) == labels)[known].mean())
    expected = metrics.f1_score(labels[known], logits.argmax(-1)[known], average="macro")
    assert value("token-classification", "f1_macro", logits, labels) == pytest.approx(expected)


def test_of_images_psnr_is_in_decibels_and_ends_somewhere():
    images = RNG.uniform(size=(6, 3, 16, 16)).astype(np.float32)
    noisy = images + np.float32(0.1)
    assert value("image-to-image", "psnr", noisy, images) == pytest.approx(20, abs=1e-3)
    assert value("image-to-image", "psnr", images, images) == 100
    assert value("image-to-image", "ssim", images, images) == pytest.approx(1)
    assert value("image-to-image", "ssim", RNG.uniform(size=images.shape).astype(np.float32), images) < 0.3


@pytest.mark.parametrize(
    ("kind", "name", "outputs", "labels"),
    [
        ("classification", "f1_macro", LOGITS, LABELS),
        ("classification", "matthews", LOGITS, LABELS),
        ("multi-label", "f1_micro", SCORES, SETS),
        ("regression", "pearson", GUESSES, NUMBERS),
        ("regression", "r2", GUESSES, NUMBERS),
    ],
)
def test_contributions_spread_as_the_metric_varies(kind, name, outputs, labels):
    """The standard error that follows from them, against a bootstrap."""
    measure = measures_of([name], kind, None)[name]
    estimate = mean_interval(measure(outputs, labels))
    rng = np.random.default_rng(1)
    rows = [rng.integers(len(labels), size=len(labels)) for _ in range(200)]
    again = [measure(outputs[r], labels[r]).mean() for r in rows]
    assert estimate.high - estimate.low == pytest.approx(2 * 1.645 * np.std(again), rel=0.25)


OWN = """
import numpy as np

def share_of_first(outputs, labels):
    return (outputs.argmax(-1) == 0).astype(float)

def whole(outputs, labels):
    return float((outputs.argmax(-1) == labels).mean())

def odd(outputs, labels):
    return np.zeros((2, 2))

def fails(outputs, labels):
    raise KeyError("class")
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


def test_a_users_metric_gives_a_number_an_example_or_one_of_all(folder):
    of = {name: OwnMetric(function=f"own.py:{name}", direction="max") for name in ("share_of_first", "whole")}
    assert value("classification", of["share_of_first"], LOGITS, LABELS, folder) == (PREDICTED == 0).mean()
    found = measures_of([of["whole"]], "classification", folder)["whole"](LOGITS, LABELS)
    assert found.mean() == pytest.approx((PREDICTED == LABELS).mean())
    accuracy = mean_interval((PREDICTED == LABELS).astype(float))
    estimate = mean_interval(found)
    assert estimate.high - estimate.low == pytest.approx(accuracy.high - accuracy.low, rel=0.25)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("own.py:nothing", "has no function 'nothing'"),
        ("other.py:whole", r"data\.metrics: no file"),
        ("no_such_package.module:whole", "cannot import 'no_such_package.module'"),
        ("own.py:odd", r"returns the shape \[2, 2\]; accepted: one number, or one of each of 300 examples"),
        ("own.py:fails", "own.py:fails raises KeyError: 'class'"),
    ],
)
def test_a_users_metric_that_does_not_work_is_one_message(folder, function, said):
    with pytest.raises(cp.UserError, match=said):
        value("classification", OwnMetric(function=function, direction="max"), LOGITS, LABELS, folder)


def test_a_mean_of_metrics_is_their_mean():
    measure = measures_of([MeanMetric(mean=("pearson", "spearman"), name="sts")], "regression", None)["sts"]
    expected = (stats.pearsonr(NUMBERS[:, 0], GUESSES[:, 0]).statistic + stats.spearmanr(NUMBERS[:, 0], GUESSES[:, 0]).statistic) / 2
    assert measure(GUESSES, NUMBERS).mean() == pytest.approx(expected, rel=1e-5)
