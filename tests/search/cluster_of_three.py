"""A cluster of a head and two nodes that a search's workers run on; prints what was found as JSON. Run by test_cluster_check.py, in a process of its own."""

import json
import sys
import time
import warnings
from pathlib import Path

import ray
from ray import tune
from ray.cluster_utils import Cluster

from compressors.errors import UserError
from search import cluster_check
from search.cache import Cache
from search.cluster import connected
from search.cluster_code import identity
from search.job import new_job
from search.record import TrialRecord
from search.resources import TrialResources
from search.running import Pool


class Waiting(tune.Trainable):
    """Takes its time, and says where it ran."""

    def setup(self, config, **parameters):
        self.job = config

    def reset_config(self, new_config):
        self.job = new_config
        return True

    def step(self):
        time.sleep(self.job["values"]["seconds"])
        values = {"node": ray.get_runtime_context().get_node_id(), "code": sys.modules["search.record"].__file__}
        return {"record": TrialRecord(self.job["id"], [], "ok", values=values).to_json(), "done": True}


class Work:
    def __init__(self, jobs, on_record):
        self.jobs, self.on_record, self.records = list(jobs), on_record, []

    def next_job(self):
        return self.jobs.pop(0) if self.jobs else None

    def reached(self, record):
        return True

    def paused(self, record):
        raise AssertionError

    def ended(self, record):
        self.records.append(record)
        self.on_record(record)


def asked(nodes):
    """What is said of nodes that have what this process has, and where this process has another torch."""
    cluster_check.check_nodes(nodes)
    here = identity()
    cluster_check.identity = lambda: {**here, "torch": "1.13.1"}
    try:
        cluster_check.check_nodes(nodes)
    except UserError as error:
        return str(error)
    return ""


def main(folder):
    small = {"num_cpus": 1, "object_store_memory": 80 * 10**6, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "num_cpus": 0})
    nodes = [cluster.add_node(**small) for _ in range(2)]
    with connected(cluster.address):
        able = [node for node in cluster_check.alive_nodes() if TrialResources().room([node])]
        refused = asked(able)

        def lose(record):
            if len(work.records) == 2:
                cluster.remove_node(nodes[1], allow_graceful=False)

        work = Work([new_job(f"{i:04d}", [], values={"seconds": 0.5 if i < 2 else 4.0}) for i in range(4)], lose)
        Pool(None, Cache(folder), 2, TrialResources(), trial=Waiting).run(work)
    found = {"able": [node.address for node in able], "refused": refused, "lost": nodes[1].node_id, "records": [json.loads(r.to_json()) for r in work.records]}
    Path(folder, "found.json").write_text(json.dumps(found))
    cluster.shutdown()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1])
