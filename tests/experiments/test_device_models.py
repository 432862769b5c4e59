import numpy as np
import pytest


@pytest.fixture
def models(script):
    return script("device_models")


def test_medians_are_over_devices_and_failures_are_told(models, benchmark_files, capsys):
    from evaluators.devices.fitting.layers import read_layers
    from evaluators.devices.fitting.measurements import read_measurements
    from evaluators.devices.fitting.validate import validate

    measurements, layers = benchmark_files()
    networks = read_layers(layers)
    (result,) = validate(read_measurements(measurements, networks), networks)
    everything = np.ones(len(result.measured.settings), dtype=bool), np.ones(len(result.integer), dtype=bool)
    perfect = models.by_device(result, *everything, result.measured.ms)
    assert perfect == (0, 1, 1)
    mape, within, tau = models.by_device(result, *everything, 1.05 * result.measured.ms)
    assert (mape, within, tau) == pytest.approx((0.05, 1, 1))
    models.table(result)
    assert "cpu 2+ threads int8" in capsys.readouterr().out
