"""The command as a user starts it, with Ray: minutes."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import compareto as cp
from search.cli import main
from search.raw_files import read_raw

ROOT = Path(cp.__file__).parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def asked(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.slow
def test_an_artifact_is_served_until_it_is_told_to_stop(artifact, tmp_path):
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "search.cli",
        "serve",
        f"digits:1={artifact}@0",
        f"digits:2={artifact}",
        "--port",
        str(port),
        "--rate",
        "200",
        "--burst",
        "40",
    ]
    log = (tmp_path / "log").open("w+")
    server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        for _ in range(600):
            if f"serving at http://127.0.0.1:{port}" in (said := Path(log.name).read_text()):
                break
            assert server.poll() is None, said
            time.sleep(0.2)
        images = read_raw(artifact)
        body = json.dumps({"inputs": [base64.b64encode(i).decode() for i in images], "top": 2})
        status, answer = asked(port, "POST", "/v1/models/digits/predict", body)
        assert (status, json.loads(answer)["version"]) == (200, "2")
        expected = cp.load_artifact(artifact)(images)["labels"]
        assert [p[0]["label"] for p in json.loads(answer)["predictions"]] == expected
        status, answer = asked(port, "GET", "/health")
        models = json.loads(answer)["models"]
        assert (status, [m["version"] for m in models], {m["torch"] for m in models}) == (200, ["1", "2"], {False})
        assert models[0]["pid"] != models[1]["pid"]
        assert asked(port, "POST", "/v1/models/digits/predict", "{")[0] == 400
        statuses = [asked(port, "POST", "/v1/models/digits/predict", b"{}")[0] for _ in range(10)]
        assert set(statuses) <= {400, 429}
        status, answer = asked(port, "GET", "/metrics")
        assert b'compareto_inputs_total{model="digits",version="2"} 8.0' in answer
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        assert Path(log.name).read_text().strip().splitlines()[-1] == "stopped"
    finally:
        server.kill()
        server.wait()
        log.close()


@pytest.mark.slow
def test_two_artifacts_are_compared_under_the_same_load(artifact, capsys):
    arguments = [f"a={artifact}", f"b={artifact}", "--compare", "--port", str(free_port()), "--seconds", "1", "--concurrency", "2", "--format", "json"]
    assert main(["serve", *arguments]) == 0
    first, second = json.loads(capsys.readouterr().out)["artifacts"]
    assert (first["artifact"], second["artifact"]) == ("a:1", "b:1")
    for one in (first, second):
        assert one["p50_ms"] <= one["p99_ms"]
        assert one["low"] <= one["requests_per_s"] <= one["high"]
        assert 0 < one["model_bytes"] < one["replica_bytes"]
        assert list(one["statuses"]) == ["200"]


def test_a_users_mistake_is_one_message(artifact, tmp_path, capsys, monkeypatch):
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    for arguments, said in (
        (["nothing"], "no artifact 'nothing'"),
        ([str(artifact), "--port", str(taken.getsockname()[1])], "cannot be listened to"),
        ([str(artifact), "--max-body", "8"], "--max-body: '8' is not accepted"),
        ([str(artifact), "--compare"], "--compare: got 1 artifact; accepted: two"),
        ([f"a={artifact}", f"b={artifact}", "--compare", "--concurrency", "0"], "--concurrency: got 0; accepted: 1 or more"),
    ):
        assert main(["serve", *arguments]) == 2
        assert said in capsys.readouterr().err
    taken.close()
    monkeypatch.setattr("search.serving.requirements.find_spec", lambda name: None if name == "uvicorn" else name)
    assert main(["serve", str(artifact)]) == 2
    assert 'pip install "compareto[serve]"' in capsys.readouterr().err
