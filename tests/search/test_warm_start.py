import json

import pytest

from compressors.errors import UserError
from compressors.graph.stored import graph_json
from search.experiment import Experiment
from search.preparing import prepare
from search.stages import StageRunner
from search.warm_start import adopted, identity_of, require_same_model


@pytest.fixture(scope="module")
def prepared(trained):
    from search.cache import Cache

    changes = {"devices": ["pixel-7/onnxruntime"], "objectives": ["accuracy", "latency_ms"], "constraints": []}
    recipe = [{"prune": {"ratio": {"channels": {"uniform": [0.4, 0.6]}}}}]
    return prepare(Experiment.from_plain({**trained.experiment.to_plain(), **changes, "recipe": recipe}), Cache(), lambda _: None)


@pytest.fixture
def source(trained, prepared, tmp_path):
    """The trained study, as a search keeps it: its records with what they were made of."""
    from compressors.recipe import Recipe
    from search.cache import Cache

    runner = StageRunner(prepared, Cache())
    folder = tmp_path / "first"
    (folder / "records").mkdir(parents=True)
    (folder / "experiment.yaml").write_text(trained.experiment.to_yaml())
    (folder / "graph.json").write_text(graph_json(prepared.graph))
    (folder / "study.json").write_text(json.dumps(identity_of(prepared)))
    for record in trained.records:
        data = json.loads(record.to_json())
        if record.status == "ok":
            data["candidate"] = runner.run(Recipe.from_plain(record.recipe)).candidate
        (folder / "records" / f"{record.id}.json").write_text(json.dumps(data))
    return folder


def test_trials_are_taken_over_with_costs_of_the_new_devices(source, trained, prepared):
    lines = []
    found = {r.id: r for r in adopted("first", source.parent, prepared, lines.append)}
    assert set(found) == {"first.0001", "first.0002"}, "neither baselines nor what failed"
    one = found["first.0002"]
    assert one.origin == "first"
    assert one.metrics["accuracy"] == trained.record("0002").metrics["accuracy"]
    assert {n.partition("@")[2] for n in one.metrics if "@" in n} == {"pixel-7/onnxruntime"}
    assert one.metrics["size_bytes"] == trained.record("0002").metrics["size_bytes"]
    assert one.values == {"prune.ratio.channels": 0.5}
    assert found["first.0001"].values == {}, "it is no point of this space"
    assert lines == ["2 trials of study 'first' taken over, 1 of them points of this space"]


def test_another_runtimes_numerics_are_left_out(source, prepared, trained):
    text = (source / "experiment.yaml").read_text()
    (source / "experiment.yaml").write_text(text.replace("target: onnxruntime", "target: litert"))
    lines = []
    assert [r.id for r in adopted("first", source.parent, prepared, lines.append)] == ["first.0002"]
    assert lines[0].endswith("1 left out, quantized for litert")


@pytest.mark.parametrize(("key", "message"), [("model_key", "the model .* differs"), ("data_key", "the data .* differs"), ("graph", "the size .* differs")])
def test_a_study_of_something_else_is_refused_by_what_differs(source, prepared, key, message):
    data = json.loads((source / "study.json").read_text())
    (source / "study.json").write_text(json.dumps({**data, key: "x"}))
    with pytest.raises(UserError, match=f"--from: study 'first' is of something else: {message}"):
        list(adopted("first", source.parent, prepared, lambda _: None))


def test_what_cannot_be_taken_over_is_one_clear_error(source, prepared):
    with pytest.raises(UserError, match="no study 'none'"):
        list(adopted("none", source.parent, prepared, lambda _: None))
    for path in (source / "records").glob("00*.json"):
        path.unlink()
    with pytest.raises(UserError, match=r"--from: study 'first' has no trial to take over \(none has ended well\)"):
        list(adopted("first", source.parent, prepared, lambda _: None))
    (source / "study.json").write_text("{")
    with pytest.raises(UserError, match=r"study\.json does not say what model and data"):
        require_same_model(source, prepared, "--from")
    (source / "study.json").unlink()
    with pytest.raises(UserError, match="'first' was written by an older compareto"):
        require_same_model(source, prepared, "--from")
