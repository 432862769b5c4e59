from __future__ import annotations

import pytest

from evaluators.devices import device_named
from evaluators.devices.known_rates import known_rates
from evaluators.devices.profile import load_profile
from evaluators.devices.rates import rates_of


def test_a_measured_runtime_is_public_calibrated_and_another_is_transferred_with_a_wider_interval() -> None:
    own, other = (known_rates("raspberry-pi-4", "cpu", runtime, 1) for runtime in ("ncnn", "onnxruntime"))
    assert (own.tier, other.tier) == ("public-calibrated", "transferred")
    assert own.doubt is not None
    assert other.doubt is not None
    assert other.doubt.residual > own.doubt.residual


def test_without_measurements_it_is_spec_only() -> None:
    found = known_rates("a100", "gpu", "onnxruntime", None)
    assert (found.tier, found.doubt) == ("spec-only", None)
    assert found.rates == rates_of("a100", "gpu", "onnxruntime", None)


def test_more_threads_are_faster_and_measured_ones_are_used_as_they_are() -> None:
    one, four = (known_rates("raspberry-pi-4", "cpu", "ncnn", threads).rates for threads in (1, 4))
    assert 1.5 < four.compute["fp32"]["pointwise"].gmacs / one.compute["fp32"]["pointwise"].gmacs < 4.5
    settings = {s["threads"]: s for s in load_profile("raspberry-pi-4").fitted["cpu/ncnn"]["settings"]}
    assert one.compute["fp32"]["pointwise"].gmacs == pytest.approx(settings[1]["gmacs"]["pointwise"])
    two = known_rates("raspberry-pi-4", "cpu", "ncnn", 2).rates
    assert one.compute["fp32"]["conv"].gmacs < two.compute["fp32"]["conv"].gmacs < four.compute["fp32"]["conv"].gmacs


def test_a_device_like_a_measured_one_is_slower_by_its_clock() -> None:
    written = load_profile("raspberry-pi-5").like
    assert written is not None
    ours, theirs = (known_rates(name, "cpu", "ncnn", 4) for name in ("raspberry-pi-5", written.device))
    assert ours.tier == "transferred"
    assert theirs.tier == "public-calibrated"
    assert ours.rates.compute["fp32"]["conv"].gmacs == pytest.approx(written.clock * theirs.rates.compute["fp32"]["conv"].gmacs)


def test_the_model_has_the_tier() -> None:
    assert device_named("raspberry-pi-4/ncnn:1t").tier == "public-calibrated"
    assert device_named("raspberry-pi-4/litert").tier == "transferred"


def test_a_neural_processor_is_known_from_every_runtime_that_its_compiler_serves() -> None:
    measured, sibling = known_rates("sa8295p", "npu", "litert", None), known_rates("sa8295p", "npu", "onnxruntime", None)
    assert (measured.tier, sibling.tier) == ("public-calibrated", "transferred")
    assert measured.rates.overhead_ms > 0
    assert sibling.rates.compute == measured.rates.compute
    assert measured.rates.runs_as("fp32") == "fp16"
    fp16, int8 = (measured.rates.compute[p]["pointwise"].gmacs for p in ("fp16", "int8"))
    assert 1.5 < int8 / fp16 < 10
    assert known_rates("snapdragon-8-gen-3", "npu", "litert", None).tier == "transferred"


def test_a_precision_that_was_not_measured_has_a_wider_interval() -> None:
    both, integers = (known_rates(device, "npu", "litert", None).doubt for device in ("galaxy-s24", "dragonwing-q-6690"))
    assert both is not None
    assert integers is not None
    assert integers.fp32 > both.fp32
    assert integers.int8 == both.int8
