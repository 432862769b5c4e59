from __future__ import annotations

import json
from pathlib import Path

import pytest

from compressors.errors import UserError
from evaluators.devices.document import markdown
from evaluators.devices.names import parse_device
from evaluators.devices.profile import FOLDERS, efficiencies, load_profile, profile_names, profile_path
from evaluators.devices.profile_tables import core_types, read_yaml
from evaluators.devices.registry import device_named

REQUIRED = {
    "a100", "apple-m1", "cortex-a53-2gb", "dimensity-9300", "galaxy-s24", "galaxy-s25", "iphone-14-pro", "iphone-15-pro", "jetson-agx-orin",
    "jetson-agx-xavier", "jetson-nano", "jetson-orin-nano", "kirin-970", "pixel-7", "raspberry-pi-3", "raspberry-pi-4", "raspberry-pi-5", "raspberry-pi-zero-2",
    "remote", "rk3399", "rk3566", "rk3588", "rtx-3080", "snapdragon-8-elite", "snapdragon-8-gen-2", "snapdragon-8-gen-3", "snapdragon-835", "snapdragon-855",
    "snapdragon-888", "x86-server-core", "x86-server-core-vnni",
}  # fmt: skip
EVERY_UNIT = ("snapdragon-8-gen-2", "snapdragon-8-gen-3", "snapdragon-8-elite", "snapdragon-888")


def test_the_devices_that_are_promised_exist() -> None:
    assert set(profile_names()) >= REQUIRED
    assert len(profile_names()) >= 110
    assert all({"cpu", "gpu", "npu"} == set(load_profile(name).units) for name in EVERY_UNIT)


def test_no_two_devices_claim_the_same_measurements() -> None:
    claimed = [text for name in profile_names() for text in load_profile(name).names]
    assert len(claimed) == len(set(claimed)) >= 110


@pytest.mark.parametrize("name", profile_names())
def test_every_runtime_of_every_unit_has_what_its_pricing_needs(name: str) -> None:
    for unit_name, unit in load_profile(name).units.items():
        assert unit.runtimes
        for runtime, entry in unit.runtimes.items():
            table = efficiencies()[f"{runtime}.{unit_name}"]
            used = {entry.fallback.get(p, p) for p in ("fp32", "fp16", "int8", "int4")}
            assert used <= set(table.compute)
            assert used <= set(unit.peak_gmacs)
            assert used <= set(unit.pj_per_mac)
            assert "default" in table.bandwidth


def test_peaks_are_cores_times_clock_times_lanes() -> None:
    pi, phone = load_profile("raspberry-pi-5").units["cpu"], load_profile("galaxy-s24").units["cpu"]
    assert pi.peak_gmacs["fp32"].value == pytest.approx(4 * 2.4 * 8)
    assert pi.peak_of("int8", 2) == pytest.approx(2 * 2.4 * 32)
    assert phone.peak_gmacs["fp32"].value == pytest.approx(3.39 * 16 + 3 * 3.15 * 8)
    assert phone.peak_of("fp32", 1) == pytest.approx(3.39 * 16)
    little = load_profile("rk3399").units["cpu"]
    assert little.threads.value == 2
    assert little.peak_of("fp32", 6) == pytest.approx(2 * 1.8 * 4 + 4 * 1.5 * 4)


def test_what_a_core_has_decides_its_precisions() -> None:
    assert "fp16" not in load_profile("raspberry-pi-4").units["cpu"].peak_gmacs
    assert load_profile("raspberry-pi-4").units["cpu"].runtimes["litert"].fallback == {"fp16": "fp32"}
    assert load_profile("raspberry-pi-5").units["cpu"].runtimes["litert"].fallback == {}
    assert load_profile("galaxy-s24").units["npu"].runtimes["litert"].fallback == {"fp32": "fp16", "int4": "int8"}
    with_vnni, without = (load_profile(name).units["cpu"].peak_gmacs for name in ("x86-server-core-vnni", "x86-server-core"))
    assert with_vnni["int8"].value / with_vnni["fp32"].value == 4
    assert without["int8"].value / without["fp32"].value == 2


def test_a_profile_without_measurements_says_so() -> None:
    assert load_profile("iphone-15-pro").tier("cpu", "onnxruntime") == "spec-only"


def written(folder: Path, **changes: object) -> Path:
    """The profile of the Pi 4 as a JSON file, with some keys changed; None removes one."""
    data = {k: v for k, v in {**read_yaml(profile_path("raspberry-pi-4")), **changes}.items() if v is not None}
    path = folder / "my-board.json"
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory": {"gb": -4, "type": "lpddr4", "gb_s": 12.8}}, r"my-board.json: memory.gb is -4: input should be greater than 0"),
        ({"memory": {"gb": 4, "type": "lpddr4"}}, r"memory.gb_s is missing"),
        ({"memory": {"gb": 4, "type": "lpddr44", "gb_s": 12.8}}, r"unknown memory type 'lpddr44'; accepted: .*did you mean 'lpddr4'"),
        ({"power": None}, r"power is missing"),
        ({"power": {"idle_w": 3, "sustained_w": 2}}, r"power: sustained_w 2 is not above idle_w 3"),
        ({"pwoer": {"idle_w": 3}}, r"pwoer is not a key of a profile; did you mean 'power'"),
        ({"units": {"cpu": {"cores": [{"type": "cortex-a77", "count": 4, "ghz": 2}]}}}, r"units.cpu.cores.0: unknown core type 'cortex-a77'; .*did you mean"),
        (
            {"units": {"cpu": {"cores": [{"type": "cortex-a72", "count": 4, "ghz": "fast"}]}}},
            r"units.cpu.cores.0.ghz is 'fast': input should be a valid number",
        ),
        ({"units": {"tpu": {"cores": [{"type": "cortex-a72", "count": 4, "ghz": 2}]}}}, r"unknown unit 'tpu'; accepted: cpu, gpu, npu"),
        ({"units": {"gpu": {"kind": "mobile-gpu", "gmacs": {"fp32": 10}}}}, r"units.gpu: an accelerator needs its runtimes listed"),
        ({"class": "bord"}, r"unknown class 'bord'; accepted: .*did you mean 'board'"),
        ({"sources": {"memory": "a place to read it"}}, r"sources.process_nm is missing: every figure needs the place where it comes from"),
        ({"process_nm": 29}, r"unknown process_nm '29'; accepted: 90"),
        ({"memory": {"gb": float("nan"), "type": "lpddr4", "gb_s": 1}}, r"memory.gb is .*: input should be a finite number"),
    ],
)
def test_a_mistake_in_a_profile_is_named_with_its_file(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_profile(str(written(tmp_path, **changes)))


def test_a_file_that_is_no_profile_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    for text, message in (("a: [", "is neither YAML nor JSON"), ("- 1", "expected keys such as description, memory and units, got list")):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            load_profile(str(path))
        path = tmp_path / "other.yaml"
    with pytest.raises(UserError, match="cannot be read: No such file"):
        load_profile(str(tmp_path / "missing.yaml"))


def test_ones_own_profile_has_the_name_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, description="My own board", names=None)
    for place in (path, tmp_path):
        monkeypatch.setenv(FOLDERS, str(place))
        assert load_profile("my-board").description == "My own board"
        assert parse_device("my-board/litert").device == "my-board"
        assert device_named("my-board/litert").key == "my-board/litert"
    monkeypatch.setenv(FOLDERS, str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"COMPARETO_PROFILES: '.*nowhere' does not exist"):
        profile_names()


def test_core_types_say_where_they_come_from() -> None:
    assert all(len(core.source) >= 10 for core in core_types().values())
    used = {c.type for name in profile_names() for unit in load_profile(name).units.values() for c in unit.cores}
    assert used <= set(core_types())


def test_the_page_of_devices_is_in_step_with_the_profiles() -> None:
    page = Path(__file__).parents[3] / "docs" / "devices.md"
    assert page.read_text() == markdown(), "run: python -m evaluators.devices.document docs/devices.md"
