"""What does a compressed model save when it is served? MiniLM on CLINC150 in float32 and compressed, behind `compareto serve`, by turns.

    python experiments/benchmarks/serving.py [--seconds S] [--concurrency N [N ...]] [--replicas N] [--threads N] [--folder DIR]

Then 1,000 malformed requests, and a burst beyond a rate limit. Exits 1 where the compressed model does not answer twice the requests at a p99 that is no worse,
a malformed request is answered with 5xx or ends the server, or a burst is not refused or slows down what is accepted. Needs `make assets`; the fitted model
comes from the stage cache, or is fitted first (minutes).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import socket
import string
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from recoveries import markdown  # noqa: E402 - found beside this file

from compressors.recipe import Recipe  # noqa: E402
from evaluators.tasks.source import load_source  # noqa: E402
from search.artifact_files import ArtifactSource, write_artifact  # noqa: E402
from search.cache import Cache  # noqa: E402
from search.evidence import read_promised, write_promised, write_raw  # noqa: E402
from search.experiment import Experiment  # noqa: E402
from search.preparing import prepare  # noqa: E402
from search.quantities import format_bytes  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402
from search.record import TrialRecord  # noqa: E402
from search.serving.comparison import compare  # noqa: E402
from search.serving.deployment import serving  # noqa: E402
from search.serving.load import Load, Outcome, sent  # noqa: E402
from search.serving.served import Catalogue  # noqa: E402
from search.serving.settings import ServingSettings  # noqa: E402
from search.stages import StageRunner  # noqa: E402

RECIPES: dict[str, list[dict[str, Any]]] = {
    "fp32": [],
    "compressed": [
        {"trim_vocabulary": {"splits": ["train", "search"]}},
        {"prune": {"criterion": "l2", "ratio": {"blocks": 0.5}}},
        {"distill": {"steps": 150, "batch_size": 32, "temperature": 2, "alpha": 0.7, "learning_rate": 0.0002}},
        {"quantize": {"weight_bits": 8, "activation_bits": 8, "mode": "dynamic"}},
    ],
}
PORT = 8471
HEADERS = ("Content-Type: text/xml", "Content-Length: -5", "Content-Length: x", "Content-Length: 999999999999", "Transfer-Encoding: none", "\x00: y")
PATH = "/v1/models/intents/versions/{}/predict"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def exported(experiment: Experiment, root: Path) -> dict[str, float]:
    """Writes the artifact of each recipe that is not there yet; accuracy on report."""
    accuracies = {}
    missing = [name for name in RECIPES if not (root / name / "checksums.json").is_file()]
    if missing:
        prepared = prepare(experiment, Cache(), say)
        runner = StageRunner(prepared, Cache(), say)
        before = runner.run(Recipe(), split="report").metrics
        for name in missing:
            recipe, folder = Recipe.from_plain(RECIPES[name]), root / name
            found, model = runner.run(recipe, split="report"), runner.model(recipe)
            record = TrialRecord(name, recipe.to_plain(), "ok", metrics=found.metrics, widths=found.widths)
            folder.mkdir(parents=True)
            write_raw(folder, experiment, prepared.task)
            write_promised(folder, prepared.task, model)
            write_artifact(ArtifactSource(prepared, model, recipe, record, found.metrics, before, ("serving", ""), runner.shapes(recipe, model)), folder)
    for name in RECIPES:
        # Of this model, which may have been trained again since its promise.
        accuracies[name] = float(read_promised(root / name)["accuracy"].mean())
    return accuracies


def texts_of(experiment: Experiment) -> list[str]:
    """Of report: what nobody trained on."""
    source = load_source(experiment.data, experiment.folder)
    split, indices = source.resolve(experiment.data)["report"]
    return [str(source.splits[split][int(i)]["text"]) for i in indices[:500]]


def malformed(count: int, seed: int = 0) -> list[bytes]:
    """Whole requests: bodies that are nearly right, bodies of anything, headers that lie, and what is no HTTP."""
    rng, found = random.Random(seed), []
    good = json.dumps({"inputs": ["what is my balance", "move ten dollars"], "top": 2})
    arrays = json.dumps({"inputs": {"input_ids": [[101, 7592, 102]], "attention_mask": [[1, 1, 1]]}})
    odd = ["null", "-1", "1e999", "NaN", '"\\ud800"', "[]", "{}", "99999999999999999999", "[[[[1]]]]", "true", '[["a"]]', '"x"' * 2]
    for i in range(count):
        path, extra, method = PATH.format("compressed"), "", "POST"
        base = rng.choice((good, arrays))
        kind = i % 5
        if kind == 0:
            at = rng.randrange(len(base))
            body = (base[:at] + "".join(rng.choices(string.printable, k=rng.randrange(1, 6))) + base[at + rng.randrange(4) :]).encode()
        elif kind == 1:
            body = rng.randbytes(rng.randrange(2000))
        elif kind == 2:
            body = base.replace(rng.choice(['["what is my balance", "move ten dollars"]', "2", "[[1, 1, 1]]", "101", "7592"]), rng.choice(odd), 1).encode()
        elif kind == 3:
            path = rng.choice(["/", "/v1/models/none/predict", "/v1/models/intents/versions/9/predict", "/%00", "/v1/models/%ff%fe/predict", "/" + "a" * 5000])
            body, method = good.encode(), rng.choice(["POST", "GET", "PUT", "BREW"])
        else:
            body, extra = good.encode(), f"{rng.choice(HEADERS)}\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{extra}"
        if "Content-Type" not in extra:
            head += "Content-Type: application/json\r\n"
        if "Content-Length" not in extra:
            head += f"Content-Length: {len(body)}\r\n"
        found.append(rng.randbytes(300) if i % 50 == 49 else (head + "Connection: close\r\n\r\n").encode("latin-1") + body)
    return found


def status_of(request: bytes) -> int:
    """0 where the connection was closed without an answer."""
    with socket.create_connection(("127.0.0.1", PORT), timeout=20) as connection:
        try:
            connection.sendall(request)
            answer = connection.recv(65536)
        except ConnectionError:
            return 0
        return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def asked(path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def refused_rightly(catalogue: Catalogue) -> bool:
    """1,000 malformed requests."""
    with serving(catalogue, ServingSettings(port=PORT)):
        pids = [model["pid"] for model in asked("/health")[1]["models"]]
        statuses = Counter(status_of(request) for request in malformed(1000))
        state, health = asked("/health")
        same = [model["pid"] for model in health["models"]] == pids
    counts = ", ".join(f"{count} x {status or 'closed'}" for status, count in sorted(statuses.items()))
    print(f"\n1,000 malformed requests: {counts}; afterwards /health {state}, the same processes: {same}")
    return state == 200 and same and not any(s >= 500 for s in statuses)


def burst_refused(catalogue: Catalogue, bodies: list[bytes], rate: float) -> bool:
    """Eight clients below the limit, alone and then beside a burst; no more than eight requests may wait, as many as there are of these clients."""
    path, burst, most = PATH.format("compressed"), 20, 8
    with serving(catalogue, ServingSettings(port=PORT, rate=rate, burst=burst, max_waiting=most)):
        steady = Load(path, bodies, 8, 6, pause_s=12 / rate)
        sent("127.0.0.1", PORT, Load(path, bodies, 4, 2))
        alone = sent("127.0.0.1", PORT, steady)
        found: list[Outcome] = []
        beside = threading.Thread(target=lambda: found.append(sent("127.0.0.1", PORT, steady)))
        beside.start()
        time.sleep(2)
        flood = sent("127.0.0.1", PORT, Load(path, bodies, 64, 30, 500))
        beside.join()
        after = sent("127.0.0.1", PORT, steady)
    outcomes = {"8 clients alone": alone, "500 requests by 64 clients": flood, "8 clients meanwhile": found[0], "8 clients afterwards": after}
    print(f"\nlimit of {rate:g} requests/s, {burst} at once:")
    for name, outcome in outcomes.items():
        p99 = np.percentile(outcome.latencies_ms, 99) if outcome.latencies_ms else float("nan")
        counts = ", ".join(f"{count} x {status}" for status, count in sorted(outcome.statuses.items()))
        print(f"  {name}: {counts}; p99 of those answered {p99:.1f} ms")
    taken, limit = flood.statuses[200], rate * flood.seconds + burst + 1
    served = [*found[0].latencies_ms, *flood.latencies_ms]
    within = np.percentile(served, 99) <= 1.25 * max(np.percentile(o.latencies_ms, 99) for o in (alone, after))
    print(f"  of the burst {taken} were taken, at most {limit:.0f} may; p99 of all that were answered meanwhile {np.percentile(served, 99):.1f} ms")
    return bool(flood.statuses[429] and taken <= limit and within and set(flood.statuses) <= {200, 429})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="of load for each artifact and concurrency (default: 20)")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--replicas", type=int, default=os.cpu_count() or 1, help="of each artifact (default: one a core)")
    parser.add_argument("--threads", type=int, default=1, help="of each replica (default: 1)")
    parser.add_argument("--folder", type=Path, help="keep the artifacts there, or take them from there")
    parser.add_argument("--experiment", type=Path, default=ROOT / "experiments/minilm_clinc150.yaml")
    args = parser.parse_args(arguments)
    quiet_libraries()
    experiment = Experiment.load(args.experiment, ["devices=[raspberry-pi-5/onnxruntime]"])
    with tempfile.TemporaryDirectory() as temporary:
        root = args.folder or Path(temporary)
        accuracies = exported(experiment, root)
        texts = texts_of(experiment)
        catalogue = Catalogue.load([f"intents:{name}={root / name}" for name in RECIPES])
        settings = ServingSettings(port=PORT, replicas=args.replicas, threads=args.threads)
        lines, holds = [], []
        for per_request in (1, 8):
            for concurrency in args.concurrency:
                found = compare(catalogue, settings, seconds=args.seconds, concurrency=concurrency, per_request=per_request, inputs=texts)
                whole, small = found
                holds.append(small.requests_per_s >= 2 * whole.requests_per_s and small.p99_ms <= whole.p99_ms)
                for one, name in zip(found, RECIPES, strict=True):
                    rate = f"{one.requests_per_s:.0f} ({one.low:.0f}-{one.high:.0f})"
                    memory = [format_bytes(one.replica_bytes), format_bytes(one.model_bytes)]
                    ratio = f"{one.requests_per_s / whole.requests_per_s:.2f}x"
                    quality, times = f"{100 * accuracies[name]:.1f} %", [f"{one.p50_ms:.1f}", f"{one.p99_ms:.1f}"]
                    lines.append([per_request, concurrency, name, quality, rate, ratio, *times, *memory])
        heads = ("texts a request", "clients", "model", "accuracy", "requests/s (rounds)", "to fp32", "p50 ms", "p99 ms", "replica", "of it model")
        print("\n".join(markdown(heads, [[str(cell) for cell in line] for line in lines])))
        holds.append(refused_rightly(catalogue))
        holds.append(burst_refused(catalogue, [json.dumps({"inputs": [text]}).encode() for text in texts], 50))
    print(f"\nholds: {holds}")
    return 0 if all(holds) else 1


if __name__ == "__main__":
    sys.exit(main())
