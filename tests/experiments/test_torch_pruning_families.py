import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "experiments/benchmarks/torch_pruning_families.py"


def test_without_torch_pruning_it_says_how_to_get_it(script, monkeypatch, capsys):
    families = script(SCRIPT.stem)
    monkeypatch.setattr(families, "VERSION", "0.0")
    assert families.main([]) == 2
    assert "pip install --no-deps --target build/torch_pruning torch-pruning==1.6.1" in capsys.readouterr().err


def test_a_library_that_raises_fails_and_ours_passes(tmp_path):
    """Of a library that is found under the peer's name and has nothing in it."""
    (tmp_path / "torch_pruning").mkdir()
    (tmp_path / "torch_pruning/__init__.py").touch()
    (tmp_path / "torch_pruning-1.6.1.dist-info").mkdir()
    (tmp_path / "torch_pruning-1.6.1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: torch-pruning\nVersion: 1.6.1\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, str(SCRIPT), "mlp"], capture_output=True, text=True, check=True, env=environment)
    row = next(line for line in done.stdout.splitlines() if line.startswith("| mlp |")).split(" | ")
    assert row[1].startswith("pruning raises AttributeError")
    assert (row[5], row[6]) == ("passes", "ffn")
    assert row[7] == "39%"
    assert "torch_pruning passes 0 of 1 families, compareto 1." in done.stdout
