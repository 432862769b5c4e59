from pathlib import Path
from typing import Any

import pytest

HEADER = "BoardName,MlperfModel,Result,HasPower,Power\n"


def test_only_rows_with_a_power_meter_are_judged_and_energy_is_rest_plus_arithmetic(script: Any, tmp_path: Path) -> None:
    module = script("tiny_energy")
    table = tmp_path / "results.csv"
    table.write_text(HEADER + "NUCLEO-L4R5ZI,kws,20,True,1800\nNUCLEO-L4R5ZI,ic,6,False,0\n")
    ((board, model, measured, predicted),) = module.rows(table)
    assert (board, model, measured) == ("NUCLEO-L4R5ZI", "kws", 1800.0)
    # A twentieth of a second at 5 mW, and 2.66 million multiply-accumulates at 16 pJ x 12 over half of two a cycle.
    assert predicted == pytest.approx(5e3 / 20 + 2.66 * 16 * 12 / (2 * 0.5))
