import asyncio
import json
import random
import re
import string

import pytest
from starlette.testclient import TestClient

import compareto as cp
from search.serving.gateway import gateway
from search.serving.request_error import RequestError
from search.serving.settings import ServingSettings

PATH = "/v1/models/intents/predict"


class Fake:
    """Stands for replicas: answers how many inputs there were."""

    def __init__(self, wait=0.0, answer=None):
        self.asked, self.wait, self.answer, self.well = [], wait, answer, True

    async def ask(self, served, question):
        self.asked.append((served.key, question))
        await asyncio.sleep(self.wait)
        return self.answer or {"predictions": [[{"label": "balance", "probability": 0.5}]] * question.count}

    async def status(self, served):
        if not self.well:
            raise RuntimeError("gone")
        return {"pid": 7, "resident_bytes": 1000}


@pytest.fixture
def served(catalogue):
    def make(backend=None, **settings):
        return TestClient(gateway(catalogue, ServingSettings(**settings), backend or Fake()), raise_server_exceptions=False)

    return make


def test_a_request_reaches_its_model_and_version(served):
    backend = Fake()
    client = served(backend)
    answer = client.post("/v1/models/intents/versions/2/predict", json={"inputs": ["a", "b"]})
    assert (answer.status_code, answer.json()["version"], len(answer.json()["predictions"])) == (200, "2", 2)
    assert backend.asked[0][0] == "intents:2"
    assert client.post(PATH, json={"inputs": ["a"]}).json()["model"] == "intents"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/models/intent/predict", 404),
        ("POST", "/v1/models/intents/versions/9/predict", 404),
        ("GET", "/", 404),
        ("GET", "/v1/models/../../etc/passwd", 404),
        ("GET", PATH, 405),
        ("DELETE", "/health", 405),
    ],
)
def test_a_wrong_address_is_json_too(served, method, path, status):
    answer = served().request(method, path, content=b'{"inputs": ["a"]}')
    assert answer.status_code == status
    assert answer.json()["error"]["accepted"]


def test_a_body_is_json_and_not_too_large(served):
    client = served(max_body_bytes=100)
    assert client.post(PATH, content=b"a=b", headers={"content-type": "application/x-www-form-urlencoded"}).status_code == 415
    assert client.post(PATH, json={"inputs": ["a" * 100]}).status_code == 413
    assert client.post(PATH, json={"inputs": ["a" * 50]}).status_code == 200


def test_a_body_without_its_length_is_not_read_beyond_the_limit(served):
    backend, given = Fake(), []

    def parts():
        for _ in range(1000):
            given.append(1)
            yield b"x" * 1000

    answer = served(backend, max_body_bytes=5000).post(PATH, content=parts())
    assert answer.status_code == 413
    assert answer.json()["error"]["accepted"] == "at most 5,000 bytes"
    assert not backend.asked


def test_beyond_the_rate_requests_are_told_when_to_come_again(served):
    backend = Fake()
    client = served(backend, rate=0.5, burst=3)
    statuses = [client.post(PATH, json={"inputs": ["a"]}) for _ in range(5)]
    assert [answer.status_code for answer in statuses] == [200, 200, 200, 429, 429]
    assert int(statuses[-1].headers["retry-after"]) == 2
    assert statuses[-1].json()["error"]["accepted"] == "0.5 requests a second, 3 at once"
    assert len(backend.asked) == 3
    assert client.get("/health").status_code == 200


async def answered(application, *, ends=True):
    """Status and headers; a body that does not end stops coming after its first bytes."""
    scope = {"type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode(), "query_string": b"", "headers": [], "root_path": ""}
    messages, bodies = [], [b'{"inputs": ["a"]}']

    async def receive():
        if not bodies:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": bodies.pop(), "more_body": not ends}

    async def send(message):
        messages.append(message)

    await application(scope, receive, send)
    return messages[0]["status"], dict(messages[0]["headers"])


def test_a_body_that_does_not_end_gives_its_place_back(catalogue):
    application = gateway(catalogue, ServingSettings(max_waiting=2, timeout_s=0.05), Fake())

    async def several():
        async with asyncio.timeout(20):
            stalled = await asyncio.gather(*(answered(application, ends=False) for _ in range(2)))
            return [*stalled, await answered(application)]

    *stalled, honest = asyncio.run(several())
    assert [(status, headers[b"connection"]) for status, headers in stalled] == [(408, b"close")] * 2
    assert honest[0] == 200


def test_an_answer_is_json_or_an_error(served):
    answer = served(Fake(answer={"outputs": [float("nan")]})).post(PATH, json={"inputs": ["a"]})
    assert (answer.status_code, answer.json()["error"]["message"]) == (500, "ValueError in the server")


def test_no_more_requests_wait_than_may(catalogue):
    """In one loop: the test client would answer them one after the other."""
    application = gateway(catalogue, ServingSettings(max_waiting=2), Fake(wait=0.2))

    async def several():
        return await asyncio.gather(*(answered(application) for _ in range(5)))

    found = asyncio.run(several())
    assert sorted(status for status, _ in found) == [200, 200, 429, 429, 429]
    assert all(headers[b"retry-after"] == b"1" for status, headers in found if status == 429)


def test_an_answer_that_does_not_come_is_given_up(served):
    answer = served(Fake(wait=5), timeout_s=0.05).post(PATH, json={"inputs": ["a"]})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


def test_a_replicas_refusal_is_the_answer(served):
    answer = served(Fake(answer=RequestError(400, "input 0 is no image", key="inputs[0]"))).post(PATH, json={"inputs": ["a"]})
    assert (answer.status_code, answer.json()["error"]["key"]) == (400, "inputs[0]")


def test_health_says_which_model_does_not_answer(served):
    backend = Fake()
    client = served(backend)
    found = client.get("/health")
    assert (found.status_code, found.json()["status"], len(found.json()["models"])) == (200, "ok", 3)
    backend.well = False
    found = client.get("/health")
    assert (found.status_code, found.json()["models"][0]["ok"]) == (503, False)


def test_models_are_described(served):
    (first, *_), total = (found := served().get("/v1/models").json()["models"]), len(served().get("/v1/models").json()["models"])
    assert total == len(found) == 3
    assert (first["name"], first["version"], first["weight"], first["takes"]) == ("intents", "1", 0.9, "texts")


def test_metrics_count_what_was_answered(served):
    client = served(rate=0.001, burst=2)
    for body in ({"inputs": ["a", "b"]}, {"inputs": 3}, {"inputs": ["a"]}):
        client.post("/v1/models/intents/versions/2/predict", json=body)
    found = client.get("/metrics")
    assert found.headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in (
        'compareto_requests_total{model="intents",status="200",version="2"} 1.0',
        'compareto_requests_total{model="intents",status="400",version="2"} 1.0',
        'compareto_requests_total{model="",status="429",version=""} 1.0',
        'compareto_inputs_total{model="intents",version="2"} 2.0',
        'compareto_request_seconds_count{model="intents",version="2"} 1.0',
        "compareto_waiting 0.0",
    ):
        assert line in found.text


def test_malformed_requests_are_never_the_servers_fault(served):
    """Half of them are a good one with a piece changed, so that they come far."""
    client, rng = served(max_waiting=4), random.Random(0)
    good = json.dumps({"inputs": ["text", "another"], "top": 2})
    statuses = set()
    for i in range(400):
        if i % 2:
            at, other = rng.randrange(len(good)), "".join(rng.choices(string.printable, k=rng.randrange(4)))
            body = (good[:at] + other + good[at + rng.randrange(3) :]).encode()
        else:
            body = rng.randbytes(rng.randrange(200))
        answer = client.post(PATH, content=body, headers={"content-type": "application/json"})
        statuses.add(answer.status_code)
        if answer.status_code != 200:
            assert answer.json()["error"]["message"]
    assert statuses == {200, 400}
    assert client.post(PATH, json={"inputs": ["a"]}).status_code == 200


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"port": 0}, "--port: got 0; accepted: 1 to 65535"),
        ({"replicas": 0}, "--replicas: got 0; accepted: 1 or more"),
        ({"rate": 0.0}, "--rate: got 0; accepted: requests a second, above 0"),
        ({"timeout_s": float("nan")}, "--timeout: got nan"),
        ({"max_wait_ms": -1.0}, "--max-wait-ms: got -1; accepted: 0 or more"),
        ({"max_body_bytes": 0}, "--max-body: got 0; accepted: 1 or more"),
    ],
)
def test_settings_out_of_their_range_are_one_message(settings, said):
    with pytest.raises(cp.UserError, match=re.escape(said)):
        ServingSettings(**settings)


def test_only_loopback_is_loopback():
    assert [ServingSettings(host=h).loopback for h in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "192.168.1.2", "example")] == [True] * 3 + [False] * 3
