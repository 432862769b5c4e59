"""Studies as a search leaves them, of recipes that a test chooses."""

import json

from compressors.recipe import Recipe
from search.record import TrialRecord
from search.results import Results


def finished_study(folder, runner, recipes):
    """Results of plain recipes by id, trained, evaluated and published; those called ``baseline-NAME`` are baselines."""
    for name in ("records", "reports"):
        (folder / name).mkdir(parents=True)
    (folder / "experiment.yaml").write_text(runner.prepared.experiment.to_yaml())
    for name, plain in recipes.items():
        recipe = Recipe.from_plain(plain)
        found = runner.run(recipe)
        baseline = name.removeprefix("baseline-") if name.startswith("baseline") else None
        done = TrialRecord(name, recipe.to_plain(), "ok", metrics=found.metrics, widths=found.widths, baseline=baseline, candidate=found.candidate)
        (folder / "records" / f"{name}.json").write_text(done.to_json())
        report = {k: v.to_plain() for k, v in runner.run(recipe, split="report").metrics.items() if k in ("accuracy", "loss")}
        (folder / "reports" / f"{name}.json").write_text(json.dumps({"report": report}))
    return Results.load(folder)
