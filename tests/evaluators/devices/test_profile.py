from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml

from evaluators.devices.document import markdown
from evaluators.devices.profile import PROFILES, Profile, efficiencies, load_profile, profile_names

REQUIRED = {
    "raspberry-pi-4", "raspberry-pi-5", "cortex-a53-2gb", "pixel-7", "iphone-14-pro", "galaxy-s24",
    "jetson-agx-xavier", "jetson-orin-nano", "rtx-3080", "a100", "x86-server-core",
}  # fmt: skip


def test_the_devices_that_are_promised_exist() -> None:
    assert set(profile_names()) >= REQUIRED
    assert {"cpu", "npu"} <= set(load_profile("galaxy-s24").units)


def figures(node: Any) -> int:
    """How many numbers a document has; every one must stand beside its source."""
    if isinstance(node, dict):
        if "value" in node:
            assert set(node) == {"value", "source"}
            assert len(node["source"]) >= 10
            return 1
        return sum(figures(v) for v in node.values())
    assert isinstance(node, str), f"{node!r} is a figure without a source"
    return 0


@pytest.mark.parametrize("name", profile_names())
def test_every_figure_has_a_source(name: str) -> None:
    assert figures(yaml.safe_load((PROFILES / f"{name}.yaml").read_text())) >= 12


@pytest.mark.parametrize("name", profile_names())
def test_every_runtime_of_every_unit_has_efficiencies_for_what_it_computes_in(name: str) -> None:
    for unit_name, unit in load_profile(name).units.items():
        for runtime, entry in unit.runtimes.items():
            table = efficiencies()[f"{runtime}.{unit_name}"]
            assert {entry.fallback.get(p, p) for p in ("fp32", "fp16", "int8", "int4")} <= set(table.compute)
            assert "default" in table.bandwidth


def test_unknown_keys_and_figures_that_are_not_positive_are_refused() -> None:
    data = load_profile("raspberry-pi-4").model_dump()
    with pytest.raises(pydantic.ValidationError, match="Extra inputs"):
        Profile.model_validate({**data, "memory": 1})
    with pytest.raises(pydantic.ValidationError, match="greater than 0"):
        Profile.model_validate({**data, "memory_bytes": {"value": 0, "source": "a long enough source"}})


def test_a_precision_that_falls_back_to_nothing_is_refused() -> None:
    data = load_profile("raspberry-pi-4").model_dump()
    data["units"]["cpu"]["runtimes"]["onnxruntime"]["fallback"] = {}
    with pytest.raises(pydantic.ValidationError, match="fp16 runs as fp16, which has no peak_gmacs"):
        Profile.model_validate(data)


def test_the_page_of_devices_is_in_step_with_the_profiles() -> None:
    page = Path(__file__).parents[3] / "docs" / "devices.md"
    assert page.read_text() == markdown(), "run: python -m evaluators.devices.document docs/devices.md"
