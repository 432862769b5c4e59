"""What a trial takes, and where there is room for it."""

import dataclasses
import re

import pytest

from compressors.errors import UserError
from search.experiment import Experiment
from search.resources import Node, TrialResources, require_room, trial_resources
from search.settings import SearchSpec

LAPTOP = Node("10.0.0.1", {"CPU": 8, "memory": 16e9})
SERVER = Node("10.0.0.2", {"CPU": 32, "GPU": 2, "memory": 64e9})
CAMERA = Node("10.0.0.3", {"CPU": 4, "camera": 1, "memory": 8e9})


def asked(nodes, memory=1_000_000_000, **settings):
    return trial_resources(SearchSpec(**settings), nodes, memory)


@pytest.mark.parametrize(
    ("settings", "nodes", "cpus", "gpus", "room"),
    [
        ({}, [LAPTOP], 1, 0, 8),
        ({"workers": 2}, [LAPTOP], 4, 0, 2),
        ({"workers": 3}, [LAPTOP], 2, 0, 4),
        ({"workers": 99}, [LAPTOP], 1, 0, 8),
        ({"workers": 3}, [LAPTOP, CAMERA], 4, 0, 3),
        ({"cpus_per_trial": 0.5}, [LAPTOP], 0.5, 0, 16),
        ({}, [LAPTOP, SERVER], 16, 1, 2),
        ({"gpus_per_trial": 0.25}, [LAPTOP, SERVER], 4, 0.25, 8),
        ({"gpus_per_trial": 0}, [LAPTOP, SERVER], 1, 0, 40),
        ({"resources_per_trial": {"camera": 1}}, [LAPTOP, CAMERA], 4, 0, 1),
    ],
)
def test_trials_fill_the_nodes_as_they_are(settings, nodes, cpus, gpus, room):
    found = asked(nodes, **settings)
    assert (found.cpus, found.gpus, found.room(nodes)) == (cpus, gpus, room)


def test_a_fraction_of_a_core_is_one_thread():
    assert [TrialResources(cpus).threads for cpus in (0.5, 1, 4)] == [1, 1, 4]


def test_trials_are_packed_by_memory():
    assert asked([LAPTOP], memory=5_000_000_000).room([LAPTOP]) == 3
    assert asked([LAPTOP, SERVER], memory=5_000_000_000, gpus_per_trial=0).room([LAPTOP, SERVER]) == 3 + 12
    assert asked([LAPTOP], memory_per_trial="8GB").room([LAPTOP]) == 2


@pytest.mark.parametrize(("gpu_memory", "share", "trials"), [(1e9, 0.25, 8), (8e9, 0.34, 4), (20e9, 0.84, 2), (99e9, 1.0, 2)])
def test_trials_that_share_a_gpu_are_packed_by_its_memory(gpu_memory, share, trials):
    nodes = [dataclasses.replace(SERVER, gpu_memory=24_000_000_000)]
    found = trial_resources(SearchSpec(gpus_per_trial=0.25), nodes, 10**9, int(gpu_memory))
    assert (found.gpus, found.room(nodes)) == (share, trials)
    assert trial_resources(SearchSpec(gpus_per_trial=0.25, memory_per_trial="1GB"), nodes, 10**9, int(gpu_memory)).gpus == 0.25, "as it was asked for"


def test_a_prediction_of_memory_refuses_nothing():
    found = asked([LAPTOP], memory=99_000_000_000)
    assert found.memory == 16_000_000_000
    assert found.room([LAPTOP]) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cpus_per_trial": 64}, "search.cpus_per_trial: a trial asks for 64 CPU cores, and the largest of 2 nodes has 32 CPU cores"),
        ({"gpus_per_trial": 4}, "search.gpus_per_trial: a trial asks for 4 GPUs, and the largest of 2 nodes has 2 GPUs"),
        ({"memory_per_trial": "100GB"}, "search.memory_per_trial: a trial asks for 100 GB of memory, and the largest of 2 nodes has 64 GB of memory"),
        ({"resources_per_trial": {"camera": 1}}, "search.resources_per_trial.camera: a trial asks for 1 camera, and the largest of 2 nodes has 0 camera"),
    ],
)
def test_what_no_node_has_is_refused(settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        asked([LAPTOP, SERVER], **settings)


def test_what_no_node_has_at_once_is_refused():
    with pytest.raises(UserError, match="1 GPU, 1 GB of memory, 1 camera, each of which some node has, but no node has all of them"):
        asked([SERVER, CAMERA], cpus_per_trial=1, memory_per_trial="1GB", resources_per_trial={"camera": 1})


def test_a_node_that_was_lost_is_named_with_what_is_kept():
    with pytest.raises(UserError, match=r"1 GPU, and the largest of 1 node has 0 GPUs; nothing that has ended is lost: .* --resume"):
        require_room(TrialResources(1, 1.0), [LAPTOP], still=True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cpus_per_trial=1.5", "search.cpus_per_trial: not an amount that can be reserved; accepted: a fraction of one, or whole numbers, got 1.5"),
        ("gpus_per_trial=2.5", "search.gpus_per_trial: not an amount"),
        ("memory_per_trial=lots", "accepted: a size such as 5GB, 500MB or 2GiB"),
        ("memory_per_trial=2", "memory_per_trial"),
        ("resources_per_trial={gpu: 1}", "'gpu' is no custom resource; accepted: search.gpus_per_trial"),
        ("resources_per_trial={camera: 0}", "search.resources_per_trial.camera"),
    ],
)
def test_settings_that_cannot_be_reserved(override, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Experiment.load("quickstart", [f"search.{override}"])
