"""What does `verify` say of artifacts that keep their promise, and of those that do not? The quickstart's model, compressed in some ways, then tampered with.

    python experiments/benchmarks/verdicts.py [--processes N] [--seconds S] [--folder DIR]

Needs no assets. Exits 1 where a verdict is not the one that the artifact was made for.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from recoveries import markdown  # noqa: E402 - found beside this file

from compressors.recipe import Recipe  # noqa: E402
from search.artifact_files import ArtifactSource, write_artifact  # noqa: E402
from search.cache import Cache  # noqa: E402
from search.checksums import CHECKSUMS, METRICS, write_checksums, write_json  # noqa: E402
from search.evidence import write_promised, write_raw  # noqa: E402
from search.experiment import Experiment  # noqa: E402
from search.preparing import Prepared, prepare  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402
from search.record import TrialRecord  # noqa: E402
from search.stages import StageRunner  # noqa: E402
from search.verify import verify  # noqa: E402

BATCH = 64
"""Images at a time: on one image of 8 x 8 pixels nearly all time goes into calls, whatever the recipe."""

RECIPES: dict[str, list[dict[str, Any]]] = {
    "half of the channels": [{"prune": {"ratio": {"channels": 0.5}}}, {"distill": {"epochs": 8, "learning_rate": 0.003}}],
    "most of the channels": [{"prune": {"ratio": {"channels": 0.75}}}],
    "8-bit weights, float activations": [{"quantize": {"weight_bits": 8, "activation_bits": 16}}],
}


def made(prepared: Prepared, runner: StageRunner, name: str, folder: Path) -> Path:
    """The artifact of one recipe."""
    recipe = Recipe.from_plain(RECIPES[name])
    found = runner.run(recipe, split="report")
    before = runner.run(Recipe(), split="report").metrics
    model = runner.model(recipe)
    record = TrialRecord(name, recipe.to_plain(), "ok", metrics=found.metrics, widths=found.widths)
    folder.mkdir()
    write_raw(folder, prepared.experiment, prepared.task)
    write_promised(folder, prepared.task, model)
    write_artifact(ArtifactSource(prepared, model, recipe, record, found.metrics, before, ("verdicts", "")), folder)
    return folder


def promises_more(folder: Path) -> None:
    """Two points of accuracy that the model does not have."""
    metrics = json.loads((folder / METRICS).read_text())
    for key in ("value", "low", "high"):
        metrics["metrics"]["accuracy"][key] += 0.02
    write_json(folder / METRICS, metrics)
    write_checksums(folder)


def flips_a_byte(folder: Path) -> None:
    """Without new checksums, as a bad download."""
    path = folder / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def is_newer(folder: Path) -> None:
    """Of a version that does not exist yet."""
    document = json.loads((folder / CHECKSUMS).read_text())
    write_json(folder / CHECKSUMS, {**document, "artifact_version": document["artifact_version"] + 1})


def cases(good: Path, worse: Path, narrow: Path) -> list[tuple[str, Path, Callable[[Path], None], str]]:
    """What was done, to which artifact, how, and the verdict that it should have."""

    def exchanged(folder: Path) -> None:
        shutil.copyfile(worse / "model.onnx", folder / "model.onnx")
        write_checksums(folder)

    def nothing(folder: Path) -> None:
        pass

    return [
        ("half of the channels, distilled", good, nothing, "kept"),
        ("the same, 2 points more promised", good, promises_more, "regressed"),
        ("the same, the model of another recipe in its place", good, exchanged, "regressed"),
        ("8-bit weights, float activations", narrow, nothing, "no speed-up"),
        ("the first, one bit of the model flipped", good, flips_a_byte, "corrupt"),
        ("the first, of a newer version", good, is_newer, "corrupt"),
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--folder", type=Path, help="keep the artifacts there")
    parser.add_argument("--epochs", type=float, default=6, help="of the uncompressed model's fit (default: 6)")
    args = parser.parse_args(arguments)
    quiet_libraries()

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    overrides = [f"fit.epochs={args.epochs:g}", "constraints=[]", "devices=[raspberry-pi-5/onnxruntime]", f"workload={{batch: {BATCH}}}"]
    prepared = prepare(Experiment.load("quickstart", overrides), Cache(), say)
    runner = StageRunner(prepared, Cache(), say)
    lines, wrong = [], 0
    with tempfile.TemporaryDirectory() as temporary:
        root = args.folder or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        artifacts = [made(prepared, runner, name, root / str(i)) for i, name in enumerate(RECIPES)]
        for i, (what, source, change, expected) in enumerate(cases(*artifacts)):
            folder = root / f"case{i}"
            shutil.copytree(source, folder)
            change(folder)
            say(what)
            report = verify(folder, seconds=args.seconds, processes=args.processes)
            found = {check.name: check for check in report.checks}
            ratio = found.get("latency_ratio")
            shown = f"{ratio.found:.2f} ({ratio.low:.2f}-{ratio.high:.2f})" if ratio is not None and ratio.found is not None else "-"
            lines.append([what, report.verdict, shown, "; ".join(report.reasons) or "-"])
            wrong += report.verdict != expected
    print("\n".join(markdown(("artifact", "verdict", "latency to uncompressed (range)", "reasons"), lines)))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
