"""Losing parts of a cluster in the middle of a search: a worker, a node, the driver.

Three Ray nodes run on this machine, each with storage of its own (temporary files, and a home for what it has of the cache); a shared folder stands for an
object store and has the cache and the study. Nodes and submitter run in an environment without compareto, so that the code must travel. A search is
submitted as a job; in its middle ``kill -9`` takes a worker process, then a whole node, then the driver, and the same job goes on with --resume.

Checked, exit code 1 where it fails: every record that was written stays as it was; every id has exactly one terminal record; no stage that was finished before
the driver was killed is computed again; trials of lost workers have another attempt, on what is left.

    python experiments/benchmarks/cluster_drill.py
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

MODELS = """
import torch
from torch import nn


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))
"""
EXPERIMENT = """
model: {factory: "models.py:small"}
data: {dataset: sklearn/digits, max_samples: 900}
objectives: [accuracy, size_bytes]
recipe:
  - prune: {ratio: {channels: {choice: [0.1, 0.3, 0.5, 0.7]}}}
  - distill: {steps: 400, batch_size: 64, temperature: {uniform: [1, 8]}}
  - quantize: {weight_bits: {choice: [4, 8]}}
search: {algorithm: random, trials: %d, seed: 0, cpus_per_trial: 1, memory_per_trial: 800MB, verify: false, rungs: []}
"""
KEPT = ("compareto.py", "compressors", "evaluators", "search")


@dataclass(frozen=True)
class Machine:
    """A node: its first process and its folder."""

    name: str
    process: subprocess.Popen[bytes]
    home: Path


class Drill:
    """A cluster that is taken apart while it works."""

    def __init__(self, root: Path, trials: int) -> None:
        self.root, self.trials, self.begun = root, trials, time.monotonic()
        self.shared, self.study = root / "shared", root / "shared" / "studies" / "drill"
        self.lines: list[str] = []
        self.port, self.dashboard = _free_port(), _free_port()
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "COMPARETO_", "PYTHON"))}
        self.environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "COMPARETO_CACHE": f"local://{self.shared}/cache"}
        self.environment |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1", "OMP_NUM_THREADS": "1", "RAY_DISABLE_IMPORT_WARNING": "1"}
        self.nodes: list[Machine] = []

    def say(self, line: str) -> None:
        self.lines.append(f"{time.monotonic() - self.begun:6.1f} s  {line}")
        print(self.lines[-1], flush=True)

    def prepare(self) -> None:
        """The shared folder, and an environment that has what compareto needs but not compareto."""
        (self.shared / "project").mkdir(parents=True)
        (self.shared / "project" / "models.py").write_text(MODELS)
        (self.shared / "project" / "drill.yaml").write_text(EXPERIMENT % self.trials)
        (self.root / "elsewhere").mkdir()
        (self.root / "source").mkdir()
        venv.create(self.root / "venv", with_pip=False, symlinks=True)
        packages = next((self.root / "venv" / "lib").glob("python*/site-packages"))
        here = [path for path in sys.path if path.endswith("site-packages")]
        (packages / "packages.pth").write_text("\n".join(here))
        # What a user has: the source tree, from which the job is submitted.
        for path in (ROOT / name for name in KEPT):
            if path.is_dir():
                shutil.copytree(path, self.root / "source" / path.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, self.root / "source" / path.name)
        found = self._python("-c", "import importlib.util as u; print(u.find_spec('torch') is not None, u.find_spec('search') is not None)")
        assert found.stdout.split() == ["True", "False"], f"the environment of the nodes must have torch and not have compareto: {found.stdout}"

    def start(self, name: str, *options: str) -> Machine:
        """A node with storage of its own; ``--block`` keeps its processes together."""
        home = self.root / name
        (home / "tmp").mkdir(parents=True)
        command = [self._interpreter, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", "--num-cpus", "1", "--memory", str(4 * 10**9)]
        command += ["--object-store-memory", str(200 * 10**6), "--temp-dir", str(home / "tmp"), *options]
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(command, env={**self.environment, "HOME": str(home)}, cwd=home, stdout=log, stderr=log, start_new_session=True)
        machine = Machine(name, process, home)
        self.nodes.append(machine)
        return machine

    def start_all(self) -> None:
        head = ["--head", "--port", str(self.port), "--ray-client-server-port", str(_free_port())]
        head += ["--include-dashboard", "true", "--dashboard-port", str(self.dashboard)]
        self.start("head", *head)
        self.wait(lambda: _answers(self.port) and _answers(self.dashboard), "the head answers", 180)
        for name in ("node-a", "node-b"):
            self.start(name, "--address", f"127.0.0.1:{self.port}")
        self.wait(lambda: all(self.raylet(node) for node in self.nodes), "three nodes run", 180)

    def submit(self, *options: str) -> subprocess.Popen[bytes]:
        """``ray job submit`` as a user types it, in a folder elsewhere; ends when the job ends."""
        command = [self._interpreter, "-m", "ray.scripts.scripts", "job", "submit", "--address", f"http://127.0.0.1:{self.dashboard}"]
        command += ["--working-dir", str(self.root / "source"), "--", self._interpreter, "-m", "search.cli", "search"]
        command += [str(self.shared / "project" / "drill.yaml"), "--name", "drill", "--storage", str(self.study.parent), *options]
        log, environment = self.root / f"job{''.join(options)}.log", {**self.environment, "HOME": str(self.root / "elsewhere")}
        for _ in range(20):
            with log.open("wb") as stream:
                job = subprocess.Popen(command, env=environment, cwd=self.root / "elsewhere", stdout=stream, stderr=stream)
            self.wait(lambda job=job: job.poll() is not None or b"submitted successfully" in log.read_bytes(), "the job is submitted")
            if job.poll() is None or b"try again later" not in log.read_bytes():
                return job
            # The head takes jobs a few seconds after it answers.
            time.sleep(3)
        raise TimeoutError(f"the head takes no job; see {log}")

    def records(self) -> dict[str, str]:
        """Every terminal record as it stands on the disk, by id."""
        return {path.stem: path.read_text() for path in sorted((self.study / "records").glob("*.json"))}

    def ended(self) -> int:
        """How many trials have ended."""
        return sum(name.isdigit() for name in self.records())

    def finished_stages(self) -> dict[str, int]:
        """When each finished stage was written to the shared storage, by key."""
        return {path.parent.name: path.stat().st_mtime_ns for path in (self.shared / "cache").rglob("manifest.json")}

    def raylet(self, machine: Machine) -> int | None:
        return next((pid for pid in _tree(machine.process.pid) if "raylet/raylet" in _command(pid)), None)

    def busy(self, machine: Machine) -> int | None:
        """A process of a node that is in the middle of a trial."""
        return next((pid for pid in _tree(machine.process.pid) if re.match(r"ray::(?!IDLE).*train", _command(pid))), None)

    def kill(self, machine: Machine) -> int:
        """``kill -9`` of everything that a node is."""
        processes = [machine.process.pid, *_tree(machine.process.pid)]
        for pid in processes:
            _kill(pid)
        machine.process.wait()
        self.nodes.remove(machine)
        return len(processes)

    def driver(self) -> int | None:
        return next((pid for pid in _tree(self.nodes[0].process.pid) if "-m search.cli search" in _command(pid) and "/bin/sh" not in _command(pid)), None)

    def wait(self, until: Callable[[], object], what: str, seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while not until():
            gone = [machine.name for machine in self.nodes if machine.process.poll() is not None]
            if gone or time.monotonic() > end:
                raise TimeoutError(f"{what}: {f'{gone} ended' if gone else f'not within {seconds:.0f} s'}; see {self.root}")
            time.sleep(0.2)

    def stop(self) -> None:
        for machine in reversed(list(self.nodes)):
            self.kill(machine)

    @property
    def _interpreter(self) -> str:
        return str(self.root / "venv" / "bin" / "python")

    def _python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self._interpreter, *arguments], env=self.environment, cwd=self.root / "elsewhere", capture_output=True, text=True, check=True)


def run(trials: int = 16, root: Path | None = None) -> list[str]:
    """The drill; returns what was said.

    Raises:
        AssertionError: something that was finished was lost, or done twice.
    """
    with _folder(root) as folder:
        drill = Drill(folder, trials)
        try:
            _run(drill)
        except BaseException:
            for log in sorted(folder.glob("job*.log")):
                print(f"--- {log.name}\n{log.read_text()[-3000:]}", file=sys.stderr)
            raise
        finally:
            drill.stop()
        return drill.lines


def _run(drill: Drill) -> None:
    drill.prepare()
    drill.start_all()
    drill.say("3 nodes of 1 core each, storage of their own; compareto is installed on none of them")
    job = drill.submit()
    drill.say("ray job submit --working-dir SOURCE -- python -m search.cli search drill.yaml --name drill --storage SHARED")
    drill.wait(lambda: drill.ended() >= 2 or job.poll() is not None, "two trials", 420)
    assert job.poll() is None, "the job ended before two trials had"

    node = drill.nodes[1]
    drill.wait(lambda: drill.busy(node), "a trial on node-a")
    before = (drill.records(), drill.finished_stages())
    _kill(pid := drill.busy(node) or 0)
    drill.say(f"{len(before[0])} records; kill -9 of worker {pid} on {node.name}, in the middle of a trial")
    count = drill.ended()
    drill.wait(lambda: drill.ended() >= count + 3 or job.poll() is not None, "three further trials")
    _kept(drill, *before)

    node = drill.nodes[2]
    drill.wait(lambda: drill.busy(node) or job.poll() is not None, "a trial on node-b")
    before = (drill.records(), drill.finished_stages())
    processes = drill.kill(node)
    drill.say(f"{len(before[0])} records; kill -9 of {node.name}: {processes} processes, raylet and object store among them, with a trial in its middle")
    shutil.rmtree(node.home)
    drill.say(f"the storage of {node.name} is deleted")
    count = drill.ended()
    drill.wait(lambda: drill.ended() >= count + 3 or job.poll() is not None, "three further trials")
    _kept(drill, *before)

    before = (drill.records(), drill.finished_stages())
    assert job.poll() is None, "the job ended before its driver was killed; more trials are needed"
    _kill(pid := drill.driver() or 0)
    drill.say(f"{len(before[0])} records; kill -9 of the driver {pid}")
    assert job.wait(120) != 0
    drill.say("ray job submit ends: the job has failed")
    job = drill.submit("--resume")
    drill.say("the same job again, with --resume")
    assert job.wait(600) == 0, "the resumed job failed"
    drill.say("the job has succeeded")
    _kept(drill, *before)
    _summed_up(drill, *before)


def _kept(drill: Drill, records: dict[str, str], stages: dict[str, int]) -> None:
    now, there = drill.records(), drill.finished_stages()
    assert {name: now.get(name) for name in records} == records, "a record was lost or changed"
    assert {key: there.get(key) for key in stages} == stages, "a finished stage was lost or computed again"
    drill.say(f"all {len(records)} records are there unchanged, so are {len(stages)} finished stages; {len(now)} records now")


def _summed_up(drill: Drill, records: dict[str, str], stages: dict[str, int]) -> None:
    """Of the whole study; ``records`` and ``stages`` are those that there were when the driver was killed."""
    lines = [json.loads(line) for line in (drill.study / "trials.jsonl").read_text().splitlines()]
    ids = [line["id"] for line in lines]
    assert len(ids) == len(set(ids)), "an id has several records"
    assert set(drill.records()) <= set(ids), "a record is missing"
    trials = [line for line in lines if line["id"].isdigit()]
    assert [line["id"] for line in trials] == [f"{i:04d}" for i in range(1, drill.trials + 1)], [line["id"] for line in trials]
    assert {line["status"] for line in lines} == {"ok"}, {line["id"]: line["status"] for line in lines}
    computed = [stage["key"] for line in lines for stage in line["stages"] if not stage["cached"]]
    resumed = {stage["key"] for line in lines if line["id"] not in records for stage in line["stages"] if not stage["cached"]}
    assert not resumed & set(stages), "a stage that was finished before the driver was killed was computed again"
    again = {line["id"]: line["attempts"] for line in trials if line["attempts"] > 1}
    assert again, "no trial was tried again"
    more = len(lines) - len(trials)
    drill.say(f"{len(trials)} trials and {more} baselines and replicates, one terminal record each, all ok; attempts of lost trials: {again}")
    loaded = sum(stage["cached"] for line in lines for stage in line["stages"])
    # Nodes have no lock in common in front of an object store.
    drill.say(f"{len(computed)} stages computed, {len(computed) - len(set(computed))} of them by two nodes at the same time, {loaded} loaded")


def _tree(pid: int) -> list[int]:
    """Descendants of a process; a process of its own group is still a child."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        parents.setdefault(parent, []).append(int(path.name))
    found, left = [], [pid]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _kill(pid: int) -> None:
    assert pid > 1, "no such process was found"
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def _folder(root: Path | None) -> Iterator[Path]:
    if root is not None:
        yield root
        return
    # Sockets of Ray lie below it, whose paths have at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="drill-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--root", type=Path, help="a folder to work in and to keep; a short path (default: a temporary one)")
    args = parser.parse_args(arguments)
    try:
        run(args.trials, args.root)
    except (AssertionError, TimeoutError) as error:
        print(f"missed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
