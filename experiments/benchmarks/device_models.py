"""Are latencies of devices that are not at hand right? Networks or devices are held out of public measurements, predicted, and compared.

    python experiments/benchmarks/device_models.py --measurements ncnn_bench.csv --layers ncnn_layers.json
    python experiments/benchmarks/device_models.py --measurements aihub_perf.csv --layers aihub_layers.json      # written by aihub_networks.py

Networks are held out one by one, each with its 8-bit twin. Devices are held out an eighth at a time and predicted from one measured network each. ``median``
columns are medians over devices, as a device's user sees them; the others pool rows. Exit status 1 where, with networks held out, the model errs by more than
0.6 of what multiply-accumulates alone do (any group of a cpu's or npu's rows, all rows of a gpu), or a 90 % interval holds less than 86 % or more than 94 %
of a group.
"""

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from evaluators.devices.fitting.layers import read_layers  # noqa: E402 - the project's root is on the path only now
from evaluators.devices.fitting.measurements import Measurements, read_measurements  # noqa: E402
from evaluators.devices.fitting.metrics import kendall_tau  # noqa: E402
from evaluators.devices.fitting.validate import validate  # noqa: E402
from evaluators.devices.fitting.validation import Validation  # noqa: E402

_RATIO, _COVERAGE = 0.6, (0.86, 0.94)


def by_device(result: Validation, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """Medians over devices: mean absolute percentage error, share within 10 %, Kendall's tau (the mean over a device's settings)."""
    found = []
    measured = result.measured
    for device in dict.fromkeys(s.device for s in measured.settings):
        own = [i for i in np.flatnonzero(rows) if measured.settings[i].device == device]
        cells = np.ix_(own, np.flatnonzero(columns))
        errors = np.abs(values[cells] / measured.ms[cells] - 1)
        errors = errors[np.isfinite(errors)]
        taus = [tau for i in own if (tau := _tau(values[i, columns], measured.ms[i, columns])) is not None]
        if len(errors) and taus:
            found.append((errors.mean(), (errors <= 0.1).mean(), np.mean(taus)))
    a, b, c = np.median(found, axis=0)
    return float(a), float(b), float(c)


def _tau(a: np.ndarray, b: np.ndarray) -> float | None:
    both = np.isfinite(a) & np.isfinite(b)
    return kendall_tau(a[both], b[both])


def table(result: Validation) -> bool:
    """Print a unit's figures; whether all of them hold."""
    holds = True
    single = np.array([s.threads == 1 for s in result.measured.settings])
    ways = (("1 thread", single), ("2+ threads", ~single), ("all", single | True))
    kinds = (("fp32", ~result.integer), ("int8", result.integer), ("both", result.integer | True))
    heads = (("median MAPE", 12), ("<=10 %", 8), ("tau", 6), ("| MAPE", 9), ("median", 8), ("<=10 %", 8), ("90 %", 6), ("| of MACs", 11), ("of parameters", 15))
    print(f"{'':<22}{'rows':>6} |" + "".join(f"{name:>{width}}" for name, width in heads))
    for way, rows in ways:
        for kind, columns in kinds:
            cells = np.ix_(np.flatnonzero(rows), np.flatnonzero(columns))
            measured, predicted = result.measured.ms[cells], result.predicted[cells]
            known = np.isfinite(measured * predicted)
            if not known.any():
                continue
            errors = np.abs(predicted / measured - 1)[known]
            inside = ((result.low[cells] <= measured) & (measured <= result.high[cells]))[known].mean()
            against = {name: errors.mean() / np.abs(values[cells] / measured - 1)[known].mean() for name, values in result.baselines.items()}
            mape, within, tau = by_device(result, rows, columns, result.predicted)
            print(
                f"{result.measured.settings[0].unit} {way:<11}{kind:<7}{known.sum():>6} |{mape:>12.1%}{within:>8.0%}{tau:>6.2f} |{errors.mean():>7.1%}"
                f"{np.median(errors):>8.1%}{(errors <= 0.1).mean():>8.0%}{inside:>6.0%} |{against['macs']:>9.2f}{against['parameters']:>15.2f}"
            )
            judged = result.measured.settings[0].unit != "gpu" or (way, kind) == ("all", "both")
            holds &= bool((against["macs"] <= _RATIO or not judged) and _COVERAGE[0] <= inside <= _COVERAGE[1])
    return holds


def noise(measured: Measurements) -> None:
    """How far two runs of the same setting differ, beyond one factor: what no model can be better than."""
    spreads = []
    for i, setting in enumerate(measured.settings):
        for j, other in enumerate(measured.settings[:i]):
            if dataclasses.replace(setting, run=0) == dataclasses.replace(other, run=0):
                ratio = np.log(measured.ms[i] / measured.ms[j])
                spreads.append(np.nanmean(np.abs(ratio - np.nanmedian(ratio))))
    if spreads:
        print(f"the same device and setting measured again, {len(spreads)} times: differs by {np.median(spreads):.1%} beside one factor (median)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measurements", type=Path, required=True)
    parser.add_argument("--layers", type=Path, required=True)
    args = parser.parse_args()
    layers = read_layers(args.layers)
    measured = read_measurements(args.measurements, layers)
    print(f"{np.isfinite(measured.ms).sum()} rows, {measured.disturbed} disturbed ones left out; {len(measured.settings)} settings of devices")
    noise(measured)
    holds = True
    for hold_out, anchors in (("networks", 0), ("devices", 1), ("devices", 4)):
        start = time.perf_counter()
        results = validate(measured, layers, hold_out, anchors)
        print(
            f"\n{hold_out} held out"
            + (f", {anchors} measured networks of each device and thread count" if anchors else "")
            + f" ({time.perf_counter() - start:.0f} s)"
        )
        for result in results:
            holds &= table(result) or hold_out == "devices"
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
