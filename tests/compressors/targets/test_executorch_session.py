from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("executorch")

from compressors.errors import UserError
from compressors.targets.executorch_file import weight_bytes
from compressors.targets.executorch_session import ExecuTorchSession


def test_what_is_no_program_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.pte"
    with pytest.raises(UserError, match="no such file"):
        ExecuTorchSession(path)
    path.write_bytes(b"ET12" * 100)
    with pytest.raises(UserError, match=r"model\.pte: ExecuTorch does not load it"):
        ExecuTorchSession(path)
    with pytest.raises(UserError, match="not a program of ExecuTorch"):
        weight_bytes(path)
    assert capfd.readouterr() == ("", "")


def test_without_executorch_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.pte").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "executorch.runtime", None)
    with pytest.raises(UserError, match=r'pip install "compareto\[executorch\]"'):
        ExecuTorchSession(tmp_path / "model.pte")
