import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "experiments/benchmarks"


@pytest.fixture
def script(monkeypatch):
    """Imports a benchmark, which is a program in a folder of its own."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module
