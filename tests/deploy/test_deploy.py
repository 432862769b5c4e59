"""The files of ``deploy/`` say what Ray and KubeRay read, in the versions that are tested together."""

import copy
import json
import re
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CLUSTERS = ("aws", "machines")
PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray warns about its own internals


def read(name):
    return yaml.safe_load((DEPLOY / f"{name}.yaml").read_text())


def ray_schema():
    return json.loads((files("ray") / "autoscaler" / "ray-schema.json").read_text())


def rayjob_schema():
    return yaml.safe_load((Path(__file__).parent / "rayjob.schema.yaml").read_text())


def renamed(node):
    """The document again and again, each time with one key of a mapping misspelt."""
    for path in paths(node):
        wrong = copy.deepcopy(node)
        holder = wrong
        for step in path[:-1]:
            holder = holder[step]
        holder[f"{path[-1]}x"] = holder.pop(path[-1])
        yield path, wrong


def paths(node, before=()):
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if isinstance(node, dict):
            yield (*before, key)
        yield from paths(value, (*before, key))


def test_every_file_is_tested():
    assert sorted(path.stem for path in DEPLOY.iterdir()) == sorted([*CLUSTERS, "rayjob"])


@pytest.mark.parametrize("name", CLUSTERS)
def test_ray_up_accepts_it(name):
    jsonschema.validate(read(name), ray_schema())
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(read(name)))


@pytest.mark.parametrize("name", CLUSTERS)
def test_ray_up_refuses_it_misspelt(name):
    for path, wrong in renamed(read(name)):
        if len(path) == 1:
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(wrong, ray_schema())


def test_kuberay_accepts_it():
    jsonschema.validate(read("rayjob"), rayjob_schema())


def test_kuberay_refuses_it_misspelt():
    free = {"rayStartParams", "requests", "limits"}
    checked = 0
    for path, wrong in renamed(read("rayjob")):
        if not free & set(path[:-1]):
            checked += 1
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(wrong, rayjob_schema())
    assert checked > 50


@pytest.mark.parametrize("name", [*CLUSTERS, "rayjob"])
def test_versions_are_those_that_are_tested_together(name):
    text = (DEPLOY / f"{name}.yaml").read_text()
    images = re.findall(r"rayproject/ray:([\d.]+)-py(\d)(\d+)", text)
    assert images
    assert set(images) == {(PINNED["ray"], "3", "11")}
    for package, found in re.findall(r"([a-z0-9-]+)(?:\[\w+\])?==([\d.]+)", text):
        assert PINNED[package] == found, package


def test_the_job_brings_every_package_that_compareto_needs():
    import tomllib

    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[\[><=]", line)[0] for line in needed} - {"ray", "pyyaml"}
    job = yaml.safe_load(read("rayjob")["spec"]["runtimeEnvYAML"])
    given = {line.split("==")[0] for line in job["pip"]["packages"] if "==" in line}
    assert given >= names, "ray and pyyaml are in the image"


@pytest.mark.parametrize("name", [*CLUSTERS, "rayjob"])
def test_cache_and_studies_are_on_the_storage_that_all_nodes_have(name):
    text = (DEPLOY / f"{name}.yaml").read_text()
    assert re.search(r"COMPARETO_CACHE[=:] ?/mnt/shared/cache", text)
    assert "--storage /mnt/shared/studies" in text


def test_commands_of_the_comments_are_commands():
    from search.cli import build_parser

    for path in DEPLOY.glob("*.yaml"):
        commands = re.findall(r"python -m search\.cli ([^\n\\]+)", path.read_text())
        assert commands, path
        for command in commands:
            build_parser().parse_args(command.split())
