import shutil
from collections import Counter

import pytest

import compareto as cp
from search.serving.request_error import RequestError
from search.serving.served import Catalogue, Served


def test_requests_are_shared_by_weight_and_a_version_gets_its_own(catalogue):
    shares = Counter(catalogue.route("intents", None).version for _ in range(2000))
    assert 0.07 < shares["2"] / 2000 < 0.13
    assert {catalogue.route("intents", "2").version for _ in range(20)} == {"2"}


def test_what_is_not_served_is_not_found(catalogue):
    with pytest.raises(RequestError, match="no model 'intent'; did you mean 'intents'") as caught:
        catalogue.route("intent", None)
    assert caught.value.status == 404
    with pytest.raises(RequestError) as caught:
        catalogue.route("intents", "3")
    assert caught.value.body()["error"] == {"status": 404, "message": "intents has no version '3'", "key": "version", "value": "'3'", "accepted": "1, 2"}


def test_a_version_of_weight_zero_is_only_served_by_name(texts):
    second = Served("intents", "2", texts.folder, 0.0, texts.signature)
    catalogue = Catalogue([texts, second])
    assert {catalogue.route("intents", None).version for _ in range(100)} == {"1"}
    assert catalogue.route("intents", "2") is second
    with pytest.raises(cp.UserError, match="every version of intents has the weight 0"):
        Catalogue([second])


def test_artifacts_are_named_as_the_command_line_says(artifact, tmp_path):
    other = tmp_path / "other one"
    shutil.copytree(artifact, other)
    found = Catalogue.load([str(artifact), f"digits:beta={other}@0.25", f"digits={artifact}@0.75", str(other)]).served
    assert [(one.key, one.weight) for one in found] == [("artifact:1", 1.0), ("digits:beta", 0.25), ("digits:1", 0.75), ("other-one:1", 1.0)]
    assert found[0].takes == "images"
    assert found[0].described()["inputs"]["image"]["shape"] == ["batch", 1, 8, 8]


def test_a_folder_may_be_called_as_a_weight_or_a_name_is_written(artifact, tmp_path):
    for name in ("a@2", "b=c"):
        shutil.copytree(artifact, tmp_path / name)
        (one,) = Catalogue.load([str(tmp_path / name)]).served
        assert (one.folder.name, one.weight) == (name, 1.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing", "no artifact 'nothing'"),
        ("d={}@much", "the weight 'much' is no number"),
        ("d={}@-1", "the weight '-1' is no number"),
        ("d/e={}", "the name 'd/e' cannot be part of an address"),
        ("d:1 2={}", "the version '1 2' cannot be part of an address"),
    ],
)
def test_a_bad_specification_is_one_message(artifact, text, said):
    with pytest.raises(cp.UserError, match=said):
        Catalogue.load([text.format(artifact)])


def test_two_of_the_same_name_and_version_are_refused(artifact):
    with pytest.raises(cp.UserError, match=r"two artifacts are d:1: .* name them"):
        Catalogue.load([f"d:1={artifact}", f"d:1={artifact}"])


def test_a_changed_artifact_is_not_served(artifact, tmp_path):
    folder = tmp_path / "artifact"
    shutil.copytree(artifact, folder)
    (folder / "model.onnx").write_bytes(b"other")
    with pytest.raises(cp.UserError, match=r"is not as it was exported: model\.onnx has changed"):
        Catalogue.load([str(folder)])
