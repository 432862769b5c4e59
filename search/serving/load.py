"""Requests to a server, some at a time, and how long each took. Run as a program it reads a load and prints an outcome, both as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from compressors.errors import UserError

__all__ = ["Load", "Outcome", "sent"]


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent, and how.

    Attributes:
        path: such as ``/v1/models/NAME/predict``.
        bodies: taken in turn.
        concurrency: requests at a time; each is sent when the one before it was answered, on a connection that stays open.
        seconds: for so long.
        requests: at most so many; None is any number.
        pause_s: of each client between an answer and its next request.
    """

    path: str
    bodies: Sequence[bytes]
    concurrency: int
    seconds: float
    requests: int | None = None
    pause_s: float = 0.0


@dataclass(slots=True)
class Outcome:
    """What came back.

    Attributes:
        latencies_ms: of the requests that were answered with 200.
        statuses: how many answers had each status.
        seconds: that the requests took as a whole.
    """

    latencies_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0


def sent(host: str, port: int, load: Load) -> Outcome:
    """Send a load, from a process of its own: a server in this one would share its interpreter with the client.

    Raises:
        UserError: the server cannot be reached, or closed a connection.
    """
    plain = {"host": host, "port": port, **asdict(load), "bodies": [body.decode("utf-8") for body in load.bodies]}
    # -P keeps the current folder out, but a source tree that is not installed must still be found.
    paths = [str(Path(__file__).parents[2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    command = [sys.executable, "-P", "-m", "search.serving.load"]
    ended = subprocess.run(command, input=json.dumps(plain), capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - our own program
    if ended.returncode:
        said = ended.stderr.strip().splitlines()
        raise UserError(f"http://{host}:{port}{load.path}: {said[-1] if said else f'exit code {ended.returncode}'}")
    found = json.loads(ended.stdout)
    return Outcome(found["latencies_ms"], Counter({int(status): count for status, count in found["statuses"].items()}), found["seconds"])


def main() -> int:
    """From standard input to standard output."""
    plain = json.load(sys.stdin)
    host, port = plain.pop("host"), plain.pop("port")
    load = Load(**{**plain, "bodies": [body.encode("utf-8") for body in plain["bodies"]]})
    try:
        outcome = asyncio.run(_sent(host, port, load))
    except (OSError, EOFError) as error:
        print(error or type(error).__name__, file=sys.stderr)
        return 1
    json.dump({"latencies_ms": outcome.latencies_ms, "statuses": outcome.statuses, "seconds": outcome.seconds}, sys.stdout)
    return 0


async def _sent(host: str, port: int, load: Load) -> Outcome:
    outcome, turn, started = Outcome(), 0, time.perf_counter()
    heads = [_request(host, port, load.path, body) for body in load.bodies]

    async def client() -> None:
        # A client of a few lines: it shares the machine with the server, and a whole one would take a tenth of it.
        nonlocal turn
        reader, writer = await asyncio.open_connection(host, port)
        try:
            while time.perf_counter() - started < load.seconds and (load.requests is None or turn < load.requests):
                request, turn = heads[turn % len(heads)], turn + 1
                before = time.perf_counter()
                writer.write(request)
                status = await _status(reader)
                outcome.statuses[status] += 1
                if status == 200:
                    outcome.latencies_ms.append(1000 * (time.perf_counter() - before))
                if load.pause_s:
                    await asyncio.sleep(load.pause_s)
        finally:
            writer.close()

    await asyncio.gather(*(client() for _ in range(load.concurrency)))
    outcome.seconds = time.perf_counter() - started
    return outcome


def _request(host: str, port: int, path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode("ascii") + body


async def _status(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    if "content-length" in headers:
        await reader.readexactly(int(headers["content-length"]))
    else:
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    return int(head[0].split()[1])


if __name__ == "__main__":
    sys.exit(main())
