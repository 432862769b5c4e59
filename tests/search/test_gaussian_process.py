import numpy as np
import pytest
from scipy.optimize import approx_fprime

from search.algorithms import gaussian_process
from search.algorithms.gaussian_process import GaussianProcess, fitted, standard


def data(count=40, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((count, 3))
    return x, np.sin(4 * x[:, 0]) + x[:, 1] + noise * rng.standard_normal(count)


def test_it_predicts_a_smooth_function_and_sees_which_dimension_matters():
    x, y = data()
    theta = fitted(x, y, np.zeros(40))
    mean, deviation = GaussianProcess(x, y, np.zeros(40), theta, *standard(y)).predict(data(200, seed=1)[0])
    error = mean - data(200, seed=1)[1]
    assert np.sqrt(np.mean(error**2)) < 0.05
    assert np.mean(np.abs(error) < 2 * deviation + 1e-3) > 0.85
    assert theta[2] > theta[0]


def test_the_gradient_is_that_of_the_loss(monkeypatch):
    checked = []

    def check(loss, start, **_):
        checked.append(np.abs(loss(start)[1] - approx_fprime(start, lambda t: loss(t)[0], 1e-6)).max())
        return type("Result", (), {"x": start, "fun": 0.0})

    monkeypatch.setattr(gaussian_process, "minimize", check)
    fitted(*data(12, 0.1), np.full(12, 0.01))
    assert checked[0] < 1e-3


def test_a_value_known_to_be_noisy_counts_less():
    x, y = np.array([[0.4], [0.5], [0.6]]), np.array([0.0, 5.0, 0.0])
    theta = np.array([0.0, -6.0])
    sure, doubtful = (GaussianProcess(x, y, np.array([0.0, v, 0.0]), theta, *standard(y)).predict(np.array([[0.5]]))[0][0] for v in (0.0, 400.0))
    assert doubtful < 0.3 * sure


def test_values_that_are_all_the_same_are_no_trouble():
    x, y = data(8)[0], np.full(8, 0.7)
    mean, _ = GaussianProcess(x, y, np.zeros(8), fitted(x, y, np.zeros(8)), *standard(y)).predict(x)
    assert mean == pytest.approx(0.7)
