"""Trials that fail are records with a reason; the search goes on and ends."""

import re
from pathlib import Path

import pytest
import yaml

from search.experiment import Experiment
from search.record import TrialRecord
from search.results import Results
from search.study import Study

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray and torchao warn about their own internals

FACTORY = """
import os, signal
from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).parent


class Fragile(nn.Module):
    '''What befalls it in training depends on how many of its 16 channels are left.'''

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3)
        self.head = nn.Linear(16 * 36, 10)

    def forward(self, image):
        left = self.conv.weight.shape[0]
        x = self.conv(image).relu()
        if self.training and left == 15:
            x = x / 0
        if self.training and left == 14:
            raise MemoryError
        if self.training and left == 13:
            torch.empty(1 << 60, dtype=torch.uint8)
        if self.training and left == 11:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.training and left == 10 and not (HERE / "killed").exists():
            (HERE / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if left == 9 and torch.compiler.is_exporting():
            raise NotImplementedError("no such operator")
        if self.training and left == 7:
            raise KeyError("a bug")
        return self.head(x.flatten(1))


def fragile() -> nn.Module:
    torch.manual_seed(0)
    return Fragile()
"""

EXPERIMENT = {
    "model": {"factory": "models.py:fragile"},
    "data": {"dataset": "sklearn/digits", "max_samples": 128},
    "objectives": ["accuracy", "size_bytes"],
    "recipe": [
        {"prune": {"ratio": {"channels": {"choice": [left / 16 for left in (1, 2, 3, 5, 6, 7, 9, 11)]}}}},
        {"distill": {"steps": 1}},
        {"quantize": {"weight_bits": 8}},
    ],
    "search": {"trials": 50, "algorithm": "random", "workers": 1, "replicates": 0},
}


@pytest.fixture(scope="module")
def ended(root: Path) -> dict[int, TrialRecord]:
    """The trials of a search, by the channels that were left."""
    (root / "models.py").write_text(FACTORY)
    (root / "mine.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    Study(Experiment.load(root / "mine.yaml"), name="mine", storage=root).run()
    study = root / "mine"
    assert not list((study / "pending").iterdir())
    assert len((study / "trials.jsonl").read_text().splitlines()) == len(list((study / "records").iterdir()))
    return {round(16 * (1 - r.values["prune.ratio.channels"])): r for r in Results.load(study).records if r.baseline is None}


@pytest.mark.parametrize(
    ("left", "status", "reason"),
    [
        (15, "diverged", r"the loss is nan at step 0"),
        (14, "out-of-memory", r"training ran out of memory at step 0: MemoryError"),
        (13, "out-of-memory", r"training ran out of memory at step 0: .*allocate"),
        (11, "out-of-memory", r"process was killed .* in each of 3 attempts.*lower search\.workers"),
        (9, "unexportable", r"torch\.export .*: no such operator"),
        (7, "error", r"(?s)Traceback .*KeyError: 'a bug'"),
    ],
)
def test_each_failure_is_a_record(ended: dict[int, TrialRecord], left: int, status: str, reason: str) -> None:
    record = ended[left]
    assert record.status == status
    assert re.search(reason, record.reason), record.reason
    assert record.metrics == {}, "nothing is made up"
    assert record.attempts == (3 if left == 11 else 1)


def test_what_was_computed_before_a_failure_is_on_record(ended: dict[int, TrialRecord]) -> None:
    assert [stage.name for stage in ended[15].stages][-1] == "prune"
    assert [stage.name for stage in ended[9].stages][-2:] == ["prune", "distill"]


def test_a_worker_lost_once_is_an_attempt(ended: dict[int, TrialRecord]) -> None:
    assert (ended[10].status, ended[10].attempts) == ("ok", 2)
    assert ended[10].metrics["accuracy"].value > 0


def test_the_search_went_on_to_the_end_of_its_space(ended: dict[int, TrialRecord]) -> None:
    assert sorted(ended) == [5, 7, 9, 10, 11, 13, 14, 15]
    assert (ended[5].status, ended[5].attempts) == ("ok", 1)
