"""The energy model against MLPerf Tiny results that were taken with a power meter.

    python experiments/benchmarks/tiny_energy.py RESULTS.csv

RESULTS.csv is a table of mlcommons/tiny_results (columns BoardName, MlperfModel, Result in inferences a second, HasPower, Power in microjoules). None of its
rows was used for any figure. As on every device, energy is power at rest for the whole inference, plus multiply-accumulates at what a busy cycle of the core
takes over half of its peak. The time is the measured one, so that only the energy is judged; power at rest is an estimate from the data sheets.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

from evaluators.devices.profile import BUSY  # noqa: E402 - found beside this file
from evaluators.devices.profile_tables import class_tables, core_types  # noqa: E402

MACS = {"ad": 0.264e6, "kws": 2.66e6, "vww": 7.49e6, "ic": 12.5e6}
"""Of the benchmark's reference models (MLPerf Tiny, closed division)."""


@dataclass(frozen=True)
class Board:
    """A core type or a kind of accelerator, its process, and power at rest in milliwatts (estimates)."""

    processor: str
    process_nm: int
    idle_mw: float

    def pj_per_mac(self) -> float:
        """Of 8-bit integers."""
        tables = class_tables()
        scale = tables.process.scale[self.process_nm]
        if self.processor in tables.accelerators:
            return tables.accelerators[self.processor].pj_per_mac["int8"] * scale
        core = core_types()[self.processor]
        return core.pj_per_cycle * scale / (core.int8 * BUSY)


BOARDS = {
    "NUCLEO-L4R5ZI": Board("cortex-m4", 90, 5.0),
    "NUCLEO-H7A3ZI-Q": Board("cortex-m7", 40, 10.0),
    "NUCLEO-U575ZI-Q": Board("cortex-m33", 40, 2.0),
    "NDP9120": Board("npu", 40, 1.0),
}


def rows(path: Path) -> Iterator[tuple[str, str, float, float]]:
    """Board, model, microjoules measured and predicted."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["HasPower"] == "True":
                board, model = BOARDS[row["BoardName"]], row["MlperfModel"]
                seconds = 1 / float(row["Result"])
                predicted = board.idle_mw * 1e3 * seconds + MACS[model] * board.pj_per_mac() * 1e-6
                yield row["BoardName"], model, float(row["Power"]), predicted


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path, metavar="RESULTS.csv")
    found = list(rows(parser.parse_args().results))
    print("| board | model | measured uJ | predicted uJ | ratio |")
    print("|---|---|---|---|---|")
    for board, model, measured, predicted in found:
        print(f"| {board} | {model} | {measured:.1f} | {predicted:.1f} | {predicted / measured:.2f} |")
    ratios = np.array([predicted / measured for *_, measured, predicted in found])
    error, inside = np.mean(np.abs(ratios - 1)), np.mean((ratios > 0.2) & (ratios < 5))
    print(f"\n{len(ratios)} rows: mean error {error:.0%}, median ratio {np.median(ratios):.2f}, {ratios.min():.2f} to {ratios.max():.2f}")
    print(f"{inside:.0%} within the interval of 0.2 to 5 that energy has on every device")


if __name__ == "__main__":
    main()
