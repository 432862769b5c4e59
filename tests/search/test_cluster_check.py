"""Nodes are asked before the first trial; a node that is lost, or that comes with other code, ends nothing that has ended."""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from compressors.errors import UserError
from search import cluster_check
from search.cluster_check import NodeWatch, UnfitNodeError, require_same_code
from search.cluster_code import identity
from search.resources import Node, TrialResources

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray warns about its own internals

GPU_NODE, CPU_NODE = Node("10.0.0.1", {"CPU": 8.0, "GPU": 1.0}, "a"), Node("10.0.0.2", {"CPU": 8.0}, "b")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What came of a cluster that loses a node. A process of its own: Ray settles how it identifies itself once in a process."""
    folder = tmp_path_factory.mktemp("cluster")
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "PYTHONPATH": str(ROOT)}
    program = [sys.executable, Path(__file__).parent / "cluster_of_three.py", folder]
    # Elsewhere: workers on the same machine would find the source in the driver's folder.
    ran = subprocess.run(program, check=False, env=environment, cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads((folder / "found.json").read_text())


@pytest.mark.slow
def test_nodes_with_other_versions_are_refused_before_anything_runs(found):
    assert len(found["able"]) == 2
    assert found["refused"].count(f"node {found['able'][0]}: torch {identity()['torch']}, here 1.13.1") == 2
    assert "nothing has been computed" in found["refused"]


@pytest.mark.slow
def test_the_trial_of_a_lost_node_is_tried_again_on_another(found):
    records = found["records"]
    assert sorted(record["id"] for record in records) == ["0000", "0001", "0002", "0003"]
    assert {record["status"] for record in records} == {"ok"}
    assert found["lost"] not in {record["values"]["node"] for record in records[2:]}
    assert sorted(record["attempts"] for record in records[2:]) == [1, 2]


@pytest.mark.slow
def test_workers_run_the_code_that_was_sent(found):
    assert all("runtime_resources" in record["values"]["code"] for record in found["records"])


def test_a_worker_with_other_code_runs_nothing():
    require_same_code(identity())
    with pytest.raises(UnfitNodeError, match=r"node [\d.]+: ray .*, here 1\.0; compareto source .*, here source 000000000000"):
        require_same_code({**identity(), "ray": "1.0", "compareto": "source 000000000000"})


def test_a_search_ends_where_a_late_node_has_other_code(tmp_path):
    said = tmp_path / "error.txt"
    said.write_text("Failure # 1\nray.exceptions.RayTaskError\nsearch.cluster_check.UnfitNodeError: node 10.0.0.9: torch 2.10.0, here 2.13.0\n")
    watch = NodeWatch(TrialResources())
    with pytest.raises(UserError, match=r"^node 10\.0\.0\.9: torch 2\.10\.0, here 2\.13\.0; nothing that has ended is lost: .* --resume"):
        watch.on_trial_recover(1, [], SimpleNamespace(error_file=str(said)))
    said.write_text("Failure # 1\nray.exceptions.ActorDiedError: the node was lost\n")
    watch.on_trial_recover(1, [], SimpleNamespace(error_file=str(said)))


def test_a_search_ends_where_no_node_is_left_that_can_run_a_trial(monkeypatch):
    now, nodes = [0.0], [GPU_NODE, CPU_NODE]
    monkeypatch.setattr(cluster_check.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(cluster_check, "alive_nodes", lambda: list(nodes))
    watch = NodeWatch(TrialResources(1, 1.0))

    def minutes_pass(count):
        for _ in range(int(count * 6)):
            now[0] += 10
            watch.on_step_begin(0, [])

    minutes_pass(5)
    nodes.remove(GPU_NODE)
    minutes_pass(0.5)
    nodes.append(GPU_NODE)
    minutes_pass(5)
    nodes.remove(GPU_NODE)
    with pytest.raises(UserError, match=r"search\.gpus_per_trial: .* 1 GPU, and the largest of 1 node has 0 GPUs; nothing that has ended is lost"):
        minutes_pass(1.5)
