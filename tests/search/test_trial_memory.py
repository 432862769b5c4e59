"""The memory of a trial, predicted before any has run, against what one really takes."""

import json
import subprocess
import sys

import pytest

from search.cache import Cache
from search.experiment import Experiment
from search.preparing import prepare
from search.trial_memory import trial_memory

WITHIN = 1.5
RECIPE = "recipe=[{prune: {ratio: {channels: 0.02}}}, {distill: {steps: 1, batch_size: %d}}, {quantize: {weight_bits: 8, activation_bits: 8}}]"
WORKER = """
import json, sys, warnings
warnings.simplefilter("ignore")
import ray.tune
import torch
from compressors.recipe import Recipe
from search.cache import Cache
from search.experiment import Experiment
from search.preparing import prepare
from search.stages import StageRunner
torch.set_num_threads(1)
cache, overrides = json.loads(sys.argv[1])
experiment = Experiment.load("quickstart", overrides)
StageRunner(prepare(experiment, Cache(cache), lambda _: None), Cache(cache)).run(Recipe.from_plain(experiment.recipe))
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def overrides(width, batch):
    return ["fit=null", f"model={{factory: 'models.py:digits_cnn', arguments: {{width: {width}}}}}", RECIPE % batch]


def predicted(folder, width, batch):
    return trial_memory(prepare(Experiment.load("quickstart", overrides(width, batch)), Cache(folder), lambda _: None))


@pytest.mark.parametrize(("width", "batch"), [pytest.param(16, 64, marks=pytest.mark.slow), (128, 512)])
def test_it_is_near_what_a_real_trial_takes(tmp_path, width, batch):
    memory = predicted(tmp_path, width, batch)
    arguments = [sys.executable, "-c", WORKER, json.dumps([str(tmp_path / "worker"), overrides(width, batch)])]
    ran = subprocess.run(arguments, capture_output=True, text=True, check=True)
    measured = 1024 * int(ran.stdout.split()[-1])
    assert 1 / WITHIN < (memory.own + memory.shared) / measured < WITHIN, f"{memory}, measured {measured}"


def test_it_grows_with_the_batch_of_any_step_and_with_the_weights(tmp_path):
    small, batch, wide = predicted(tmp_path, 16, 64), predicted(tmp_path, 16, 640), predicted(tmp_path, 64, 64)
    assert batch.training > 5 * small.training
    assert batch.weights == small.weights
    assert wide.weights > 10 * small.weights
    assert small.shared == batch.shared > 0
