import pytest


@pytest.mark.slow
def test_losing_a_worker_a_node_and_the_driver_loses_nothing_that_was_finished(script):
    lines = script("cluster_drill").run()
    assert [part in "\n".join(lines) for part in ("of worker", "of node-b", "of the driver", "the job has succeeded")] == [True] * 4
