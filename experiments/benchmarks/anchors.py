"""A few variants of a model are timed on a device that has only a public profile: how well are the others predicted then?

    python experiments/benchmarks/anchors.py [--device x86-server-core/onnxruntime:1t] [--families resnet minilm] [--variants 20] [--measured FILE.json]

The variants are those of host_latency.py, timed here by ONNX Runtime; ``--measured`` keeps the times and reads them again, also those that host_latency.py
kept with the same families, variants and seed. The device model is a shipped profile, not the calibration of this machine. Of every model the uncompressed one
is the first anchor and the others are drawn at random, twenty times; what was not drawn is predicted. Beside it: one anchor scaled by
multiply-accumulates.
"""

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "experiments" / "benchmarks")]

from host_latency import FAMILIES, timed, variants  # noqa: E402 - found beside this file

from compressors.graph import Shapes  # noqa: E402
from evaluators.devices import device_named  # noqa: E402
from evaluators.devices.anchored import anchored  # noqa: E402
from evaluators.devices.calibration.anchors import Anchor, Candidate  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402

COUNTS, DRAWS = (0, 1, 2, 4), 20


def anchor(row: dict[str, Any]) -> Anchor:
    candidate = Candidate.of(row["shapes"])
    return Anchor(model=row["model"], source="here", graph=row["graph"].fingerprint, candidate=candidate, latency_ms=row["ms"])


def scored(rows: list[dict[str, Any]], chosen: list[int], device: Any) -> np.ndarray:
    """Logarithm of predicted over measured, whether the interval held, and how wide it is: of the rows that were not chosen, ``[rows, 3]``."""
    model = anchored(device, [anchor(rows[i]) for i in chosen])
    rest = [row for i, row in enumerate(rows) if i not in chosen]
    found = model.cost(rows[0]["graph"], Shapes.concatenate([row["shapes"] for row in rest]))["latency_ms"]
    ms = np.array([row["ms"] for row in rest])
    return np.column_stack([np.log(found.value / ms), (found.low <= ms) & (ms <= found.high), np.sqrt(found.high / found.low)])


def by_macs(rows: list[dict[str, Any]]) -> np.ndarray:
    macs = rows[0]["graph"].count_macs(Shapes.concatenate([row["shapes"] for row in rows]))
    ms = np.array([row["ms"] for row in rows])
    return np.log(ms[0] / macs[0] * macs[1:] / ms[1:])


def line(title: str, errors: np.ndarray, covered: str = "", wide: str = "") -> str:
    relative = np.abs(np.exp(errors) - 1)
    return f"| {title} | {100 * relative.mean():.1f} % | {100 * np.median(relative):.1f} % | {100 * (relative <= 0.1).mean():.0f} % | {covered} | {wide} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="x86-server-core/onnxruntime:1t")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--variants", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measured", type=Path)
    args = parser.parse_args()
    quiet_libraries()
    warnings.simplefilter("ignore")
    device = device_named(args.device)
    known = json.loads(args.measured.read_text()) if args.measured and args.measured.is_file() else None
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for family in args.families for row in variants(family, args.variants, args.seed, None if known else Path(folder))]
        names = [f"{row['family']} {row['model']} {row['variant']}" for row in rows]
        times = known or dict(zip(names, timed(rows, args.threads), strict=True))
    if args.measured and not known:
        args.measured.write_text(json.dumps(times, indent=1))
    models: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, row in zip(names, rows, strict=True):
        models.setdefault((row["family"], row["model"]), []).append({**row, "ms": times[name]})
    print(f"{len(rows)} measurements of {len(models)} models; {args.device}")
    print("| anchors of each model | MAPE | median | within 10 % | in the 90 % interval | interval, factor |")
    print("|---|---|---|---|---|---|")
    print(line("1, by multiply-accumulates", np.concatenate([by_macs(rows) for rows in models.values()])))
    rng = np.random.default_rng(0)
    for count in COUNTS:
        found = []
        for rows in (rows for rows in models.values() if len(rows) > count):
            for _ in range(DRAWS if count > 1 else 1):
                drawn = [0, *(1 + rng.permutation(len(rows) - 1)[: count - 1])] if count else []
                found.append(scored(rows, [int(i) for i in drawn], device))
        if not found:
            continue
        table = np.concatenate(found)
        print(line(f"{count}", table[:, 0], f"{100 * table[:, 1].mean():.0f} %", f"{np.median(table[:, 2]):.2f}"))


if __name__ == "__main__":
    main()
