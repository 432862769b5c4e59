import socket
from pathlib import Path

import pytest
from huggingface_hub import constants

from compressors.errors import UserError
from evaluators.hub import first_line, hub_access, local_or_hub


@pytest.fixture(autouse=True)
def endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that refuses at once."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_a_hub_that_does_not_answer_is_one_message_and_nothing_stays_changed() -> None:
    said = r"^model\.pretrained: 'nobody/nothing' is no folder here, and the hub cannot be reached; check the name and the network$"
    with pytest.raises(UserError, match=said), hub_access("model.pretrained", "nobody/nothing"):
        raise ConnectionError("after thirty seconds")
    assert constants.HF_HUB_OFFLINE is False


def test_what_the_caches_hold_is_served_without_a_hub() -> None:
    with hub_access("model.pretrained", "somebody/something"):
        assert constants.HF_HUB_OFFLINE, "the libraries look into their caches and wait for nothing"


def test_a_hub_that_answers_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluators.hub._answers", lambda endpoint: True)
    with pytest.raises(UserError, match=r"cannot be had from the hub: 404 not found$"), hub_access("data.dataset", "nobody/nothing"):
        raise RuntimeError("\n404 not found\nadvice for developers")


def test_a_folder_is_never_asked_for_on_the_hub(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with local_or_hub("model.pretrained", "mine", tmp_path) as source:
        assert source == str(tmp_path / "mine")
    for name in ("./nowhere", "/nowhere", "assets/a/b"):
        with pytest.raises(UserError, match=r"model\.pretrained: no folder "), local_or_hub("model.pretrained", name, tmp_path):
            pass


def test_the_first_line_of_an_error_is_never_empty() -> None:
    assert [first_line(e) for e in (ValueError(), ValueError("\n a\nb"), KeyError("x"))] == ["ValueError", "a", "'x'"]
