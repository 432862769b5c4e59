"""Which cluster a search runs on."""

import pytest

from compressors.errors import UserError
from search.cluster_address import address_of, require_reachable

JOB = {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}", "RAY_ADDRESS": "10.0.0.1:6379"}


def test_a_job_runs_on_its_own_cluster():
    assert address_of(None, JOB) == "10.0.0.1:6379"
    assert address_of("10.0.0.2:6379", JOB) == "10.0.0.2:6379"


def test_elsewhere_only_what_is_named_counts():
    assert address_of(None, {}) is None
    assert address_of(None, {"RAY_ADDRESS": "http://127.0.0.1:8265"}) is None, "where jobs are submitted to"
    assert address_of("auto", {}) == "auto"
    assert address_of("local", JOB) is None


def test_ray_client_is_refused_with_what_to_do_instead():
    with pytest.raises(UserError, match=r"--address 'ray://10\.0\.0\.1:10001': .* host:port from a node of the cluster, or ray job submit"):
        require_reachable("ray://10.0.0.1:10001")
