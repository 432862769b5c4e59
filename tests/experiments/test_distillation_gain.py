import importlib.util
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def gain():
    path = Path(__file__).parents[2] / "experiments/distillation_gain.py"
    spec = importlib.util.spec_from_file_location("distillation_gain", path)
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module


@pytest.fixture
def found(gain):
    rng = np.random.default_rng(0)
    plain = (rng.random((3, 400)) < 0.7).astype(float)
    better = np.maximum(plain, rng.random((3, 400)) < 0.3)
    return {gain.PLAIN: plain, "better": better, "worse": 1 - better, "alike": plain.copy()}


def test_the_table_says_what_helps_and_what_does_not(gain, found):
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in gain.table(found, np.ones(400), np.zeros(400))}
    assert lines["uncompressed"].startswith("| uncompressed | 100.00")
    assert lines["better"].endswith("| helps |")
    assert lines["worse"].endswith("| hurts |")
    assert lines["alike"].endswith("+0.00 [+0.00, +0.00] | no difference that shows |")
    assert len(lines) == 8


def test_the_picture_is_one_with_a_point_for_each_way(gain, found):
    root = ET.fromstring(gain.picture({"one": found, "other": found}))
    assert len(root.findall(".//{*}circle")) == 6


def test_every_way_is_a_recipe_of_the_same_number_of_steps(gain):
    for case in gain.CASES.values():
        for stages in case.ways.values():
            recipe = gain.Recipe.from_plain([{"distill": {**case.training, **stage}} for stage in stages])
            assert sum(step.steps for step in recipe.steps) == case.training["steps"]
