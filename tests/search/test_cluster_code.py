"""What a search sends to the workers of a cluster."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import ray

from search.cluster_code import code_paths, differences, identity, runtime_env, source_fingerprint

ROOT = Path(__file__).parents[2]


def job(runtime):
    return {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": runtime, "metadata": {}})}


def test_the_packages_are_sent_and_nothing_beside_them(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    sent = runtime_env({})
    assert [Path(path).relative_to(ROOT).as_posix() for path in sent["py_modules"]] == ["compareto.py", "compressors", "evaluators", "search"]
    files = [file for path in code_paths() for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
    assert sum(file.stat().st_size for file in files) < 10e6


def test_a_job_that_came_with_the_code_sends_nothing_twice(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert runtime_env(job({"working_dir": "gcs://_ray_pkg_1.zip"})) == {}
    assert runtime_env(job({"py_modules": ["gcs://_ray_pkg_2.zip"]})) == {}
    monkeypatch.chdir(tmp_path)
    assert "py_modules" in runtime_env(job({"working_dir": "gcs://_ray_pkg_1.zip"})), "a job of other files, with compareto installed"
    assert "py_modules" in runtime_env(job({})), "a job without files"


def test_what_identifies_the_code_follows_every_file(tmp_path):
    code = "from search.cluster_code import source_fingerprint; print(source_fingerprint())"

    def fingerprint(folder):
        ran = subprocess.run([sys.executable, "-S", "-c", code], cwd=folder, capture_output=True, text=True, check=True)
        return ran.stdout.strip()

    copy = tmp_path / "copy"
    copy.mkdir()
    for path in code_paths():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, copy / path.name)
    assert fingerprint(copy) == source_fingerprint(), "also elsewhere, and with what Python has compiled"
    profile = next((copy / "evaluators/devices/profiles").glob("*.yaml"))
    profile.write_text(profile.read_text() + "\n")
    assert fingerprint(copy) != source_fingerprint()


def test_differences_name_the_package_and_both_versions():
    here = identity()
    assert here["ray"] == ray.__version__
    assert differences(here, here) == []
    assert differences({**here, "ray": "2.50.0"}, here) == [f"ray 2.50.0, here {ray.__version__}"]
    assert differences({k: v for k, v in here.items() if k != "torch"}, here) == [f"torch missing, here {here['torch']}"]
    assert "+" not in here["torch"], "builds of one version are one version"
