"""How many measurements of one network's variants does a device model need? Against boosted trees that are fitted to 1,500 of them.

    python experiments/benchmarks/transformer_variants.py --measurements wmt14ende_cpu_raspberrypi_all.csv wmt14ende_cpu_xeon_all.csv

The variants are Transformers of the HAT search space: widths, layers and heads, of which the tables have averages over the layers;
encoder and decoder are timed apart. Kernels follow from these (30 tokens in and out, attention 512 wide, a step of the decoder for
each token). The model knows what cpus have in common (the prior of `compareto devices fit`) and 10 or 50 anchors, drawn five times;
what the kernels leave over is a plane over the logarithms of the table's columns and their squares. Errors are of 500 rows that nobody was fitted to.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from evaluators.devices.fitted import pooled_prior  # noqa: E402 - the project's root is on the path only now
from evaluators.devices.fitting.features import work  # noqa: E402
from evaluators.devices.fitting.layers import MeasuredKernel  # noqa: E402
from evaluators.devices.fitting.pooled import Prior, posterior  # noqa: E402

_TOKENS, _ATTENTION, _VOCABULARY = 30, 512, 32_768
_TRAINED, _DRAWS, _ANCHORS = 1500, 5, (10, 50)
_FAR = 6.0
"""Times the median error, beyond which an anchor is not believed."""


def gemm(rows: float, depth: float, width: float, times: float) -> MeasuredKernel:
    """``times`` matrix products as one kernel of the same shape; rows are multiplied, weights too."""
    return MeasuredKernel("gemm", rows * depth * width * times, depth * width * times, rows * depth * times, rows * width * times, False, 0, times)


def plain(op_class: str, elements: float, times: float) -> MeasuredKernel:
    return MeasuredKernel(op_class, 0, 0, elements * times, elements * times, False, 0, times)


def layer(rows: float, width: float, hidden: float, attended: float, attentions: float, source: float, times: float) -> list[MeasuredKernel]:
    """Kernels of ``times`` layers that attend ``attentions`` times to ``attended`` tokens of width ``source``."""
    return [
        gemm(rows, width, _ATTENTION, times * attentions),
        gemm(rows, source, _ATTENTION, 2 * times * attentions),
        plain("softmax", rows * attended * 8, times * attentions),
        gemm(rows, attended, 2 * _ATTENTION, times * attentions),
        gemm(rows, _ATTENTION, width, times * attentions),
        gemm(rows, width, hidden, times),
        gemm(rows, hidden, width, times),
        plain("normalization", rows * width, times * (1 + attentions)),
        plain("elementwise", 2 * rows * width, times * (1 + attentions)),
    ]


def kernels(row: dict[str, float], part: str) -> list[MeasuredKernel]:
    encoder = row["encoder_embed_dim"]
    if part == "encoder":
        return layer(_TOKENS, encoder, row["encoder_ffn_embed_dim_avg"], _TOKENS, 1, encoder, row["encoder_layer_num"])
    width, layers = row["decoder_embed_dim"], row["decoder_layer_num"]
    crossed = 1 + row["decoder_arbitrary_ende_attn_avg"] / 3
    steps = layer(1, width, row["decoder_ffn_embed_dim_avg"], _TOKENS * crossed, 2, width, layers * _TOKENS)
    return [*steps, gemm(1, width, _VOCABULARY, _TOKENS)]


def predicted(prior: Prior, amounts: np.ndarray, columns: np.ndarray, ms: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Latencies of all rows from those of the anchors; an anchor that lies far from what the others say is left out and all is done again."""
    used = anchors
    for _ in range(3):
        known = np.full((1, len(ms)), np.nan)
        known[0, used] = ms[used]
        costs, _ = posterior(prior, amounts, known, np.array([[1.0, 0.0]]))
        logs = np.log(amounts @ np.exp(costs[0]))
        logs = logs + plane(columns, np.log(ms[used]) - logs[used], used)
        errors = np.abs(np.log(ms[anchors]) - logs[anchors])
        used = anchors[errors <= max(_FAR * float(np.median(errors)), 0.02)]
    return np.asarray(np.exp(logs))


def plane(columns: np.ndarray, left: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """What the kernels leave over, as a plane; its slopes and the noise are those under which what is left is most likely [MacKay1992].

    [MacKay1992] MacKay: Bayesian interpolation. Neural Computation 4.
    """
    own = columns[anchors]
    best, found = -np.inf, np.zeros(len(columns))
    for slope in (0.003, 0.01, 0.03, 0.1, 0.3):
        for noise in (0.003, 0.006, 0.012, 0.025, 0.05, 0.1, 0.2, 0.4):
            covariance = slope**2 * own @ own.T + noise**2 * np.eye(len(own))
            solved = np.linalg.solve(covariance, left)
            evidence = -0.5 * left @ solved - 0.5 * np.linalg.slogdet(covariance)[1]
            if evidence > best:
                best, found = evidence, columns @ (slope**2 * own.T @ solved)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measurements", type=Path, nargs="+", required=True)
    args = parser.parse_args()
    pooled = pooled_prior("cpu/ncnn")
    # Another runtime than the prior's: its costs may be elsewhere.
    prior = Prior(pooled.mean, 2 * pooled.covariance, 0.1, pooled.spread)
    print(f"{'':<44}{'trees, 1500':>12}" + "".join(f"{f'{k} anchors':>12}{'ratio':>7}" for k in _ANCHORS))
    holds = True
    for path in args.measurements:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
        names = [name for name in rows[0] if not name.startswith("latency")]
        table = np.array([[row[name] for name in names] for row in rows])
        columns = np.log(1 + table)
        columns = (columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), 1e-9)
        columns = np.column_stack([columns, columns**2 - 1, np.ones(len(columns))])
        for part in ("encoder", "decoder"):
            ms = np.array([row[f"latency_mean_{part}"] for row in rows])
            amounts = np.stack([work(kernels(row, part)) for row in rows])
            shuffled = np.random.default_rng(1).permutation(len(ms))
            trained, test = shuffled[:_TRAINED], shuffled[_TRAINED:]
            trees = GradientBoostingRegressor(loss="huber", n_estimators=300, max_depth=4, learning_rate=0.05, subsample=0.7, random_state=0)
            trees.fit(table[trained], np.log(ms[trained]))
            reference = np.abs(np.exp(trees.predict(table[test])) / ms[test] - 1).mean()
            cells = []
            for count in _ANCHORS:
                rng = np.random.default_rng(0)
                draws = [rng.choice(trained, count, replace=False) for _ in range(_DRAWS)]
                error = np.mean([np.abs(predicted(prior, amounts, columns, ms, drawn)[test] / ms[test] - 1).mean() for drawn in draws])
                cells.append(f"{error:>12.1%}{error / reference:>7.2f}")
            holds &= bool(error <= 1.3 * reference)
            print(f"{path.stem + ' ' + part:<44}{reference:>12.1%}" + "".join(cells), flush=True)
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
