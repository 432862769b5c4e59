import json

import numpy as np
import pytest

from compressors.graph.exits import Exits
from evaluators.exit_rates import ExitRates, StageRecorder

EXITS = Exits(("a", "b"))
STAGES = np.array([0] * 50 + [1] * 30 + [2] * 20)


def test_rates_are_the_shares_that_reach_and_leave_each_stage():
    rates = ExitRates.of(EXITS, 0.8, STAGES)
    assert [e.value for e in rates.reached] == [1.0, 0.5, 0.2]
    assert rates.left == pytest.approx((0.5, 0.3, 0.2))
    assert rates.reached[1].low < 0.5 < rates.reached[1].high
    assert ExitRates.from_plain(json.loads(json.dumps(rates.to_plain()))) == rates
    assert ExitRates.from_plain(None) is None


def test_what_was_not_measured_runs_whole():
    assert ExitRates.all(EXITS).left == (0.0, 0.0, 1.0)


def test_stages_are_noted_in_order():
    recorder = StageRecorder(lambda inputs: {"logits": inputs["x"], "stage": inputs["x"].astype(int)})
    for part in ([0, 1], [2]):
        recorder({"x": np.array(part)})
    assert recorder.stages.tolist() == [0, 1, 2]
    assert StageRecorder(lambda inputs: {"logits": inputs["x"]}).stages is None
