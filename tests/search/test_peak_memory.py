import sys

import numpy as np
import pytest
import torch

from search.peak_memory import PeakMemory

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_peak_is_what_was_held_at_once_and_not_what_an_earlier_work_held():
    big = np.ones(40_000_000)
    del big
    first = PeakMemory(CPU)
    held = np.ones(25_000_000)
    del held
    peak = first.bytes()
    after = PeakMemory(CPU).bytes()
    assert peak is not None
    assert after is not None
    assert peak > 150_000_000
    assert after < peak - 150_000_000
