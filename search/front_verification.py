"""The end of a search: every point of the front is exported, reloaded in its runtime, and measured against what it promises."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

from compressors.errors import DivergedError, StorageError, TrialError, UnexportableError, UserError
from compressors.recipe import Recipe
from evaluators.metric import Estimate
from search.artifact import Artifact
from search.artifact_files import ArtifactSource, session_of, write_artifact
from search.cache import Cache
from search.evidence import write_promised, write_raw
from search.export import promised_figures
from search.figures import figure
from search.host_latency import HostLatency
from search.lock import installed_versions
from search.preparing import Prepared, state_key
from search.record import TrialRecord
from search.results import Results
from search.runtime_process import RuntimeProcess
from search.stages import StageRunner
from search.verification import Verification, keeps
from search.verifying.speed import native_examples

__all__ = ["FrontVerifier"]

_VERSION = 1
_FILE = "verification.json"


class FrontVerifier:
    """Verifies the points of one study's front, one after the other.

    Args:
        prepared: of the study.
        cache: of stages; holds verifications too, so that neither a resumed study nor another one of the same experiment repeats one.
        line: receives progress, a plain line at a time.
        artifacts: folder in which the artifacts of points that keep their promise stay, by id; None keeps none.
    """

    def __init__(self, prepared: Prepared, cache: Cache, line: Callable[[str], None], artifacts: Path | None = None) -> None:
        self._prepared, self._cache, self._line, self._artifacts = prepared, cache, line, artifacts
        self._runner = StageRunner(prepared, cache)
        self._host = HostLatency(prepared)

    def run(self, results: Results, write: Callable[[str, Verification], None]) -> bool:
        """Verify what is on the front and was not verified yet; whether a point was demoted, so that the front is another one now.

        Args:
            results: of the study.
            write: receives each id with what was found.
        """
        # A demoted point has another chance where what its verdict depended on has changed.
        keys = {record.id: self._key(results, record) for record in (*results.front_records(), *results.demoted)}
        todo = [(record, keys[record.id]) for record in results.records if record.id in keys and not self._done(results, record, keys[record.id])]
        if todo:
            self._line(f"verifying {len(todo)} points of the front in {self._prepared.target.name}")
        demoted = False
        for record, key in todo:
            found = self._stored(key) if self._kept(record) else None
            if found is None:
                found = self._verify(results, record, key)
            write(record.id, found)
            demoted |= found.demoted
            self._line(f"{record.id}: {found.verdict}{''.join(f'; {reason}' for reason in found.reasons)}{self._figures(results, record, found)}")
        return demoted

    def close(self) -> None:
        """Remove what was written only to be measured."""
        self._host.close()

    def _key(self, results: Results, record: TrialRecord) -> str:
        recipe = Recipe.from_plain(record.recipe)
        self._runner.plan(recipe)
        stage = self._runner.key(recipe, replicate=record.replicate, split="report")
        promised = {name: estimate.to_plain() for name, estimate in self._promised(results, record).items()}
        versions = {name: found for name, found in installed_versions().items() if name not in ("compareto", "python")}
        return state_key("verify", _VERSION, stage, self._prepared.target.name, json.dumps([promised, versions], sort_keys=True))

    def _promised(self, results: Results, record: TrialRecord) -> dict[str, Estimate]:
        """The figures that can be measured here."""
        return {name: e for name, e in promised_figures(results, record, self._runner).items() if name in results.measurable}

    def _done(self, results: Results, record: TrialRecord, key: str) -> bool:
        before = results.verified.get(record.id)
        return before is not None and before.key == key and before.verdict != "unverified" and (before.demoted or self._kept(record))

    def _kept(self, record: TrialRecord) -> bool:
        """Whether no artifact is wanted that is not there."""
        return self._artifacts is None or (self._artifacts / record.id).is_dir()

    def _stored(self, key: str) -> Verification | None:
        folder = self._cache.get(key)
        return None if folder is None else Verification.from_json((folder / _FILE).read_text(encoding="utf-8"))

    def _verify(self, results: Results, record: TrialRecord, key: str) -> Verification:
        runtime = self._prepared.target.name
        with self._folder() as folder:
            try:
                found = dataclasses.replace(self._measured(results, record, folder), key=key)
            except UnexportableError as error:
                found = Verification("unexportable", runtime, key, reasons=(str(error),))
            except DivergedError as error:
                found = Verification("regressed", runtime, key, reasons=(str(error),))
            except StorageError:
                raise  # nothing that is found out could be written down
            except Exception as error:  # noqa: BLE001 - hours of search do not end because one artifact cannot be measured
                said = str(error) if isinstance(error, TrialError | UserError | OSError) else f"{type(error).__name__}: {error}"
                return Verification("unverified", runtime, key, reasons=(said.splitlines()[0] if said else type(error).__name__,))
            if self._artifacts is not None and not found.demoted:
                try:
                    self._keep(folder, self._artifacts / record.id)
                except OSError as error:
                    raise StorageError(f"cannot write {self._artifacts / record.id}: {error.strerror or error}; make room, then --resume") from error
        if not any(reason.startswith("latency_ms") for reason in found.reasons):
            # Whether this machine was fast enough at one time is nothing to keep for ever.
            self._cache.put(key, lambda place: _write(place, found), kind="verify", model=self._prepared.model_name)
        return found

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="compareto-artifact-") as temporary:
            yield Path(temporary) / "artifact"

    @staticmethod
    def _keep(folder: Path, place: Path) -> None:
        place.parent.mkdir(exist_ok=True)
        # Another file system than that of temporary files, as a rule: copied beside its place, then renamed.
        partial = place.with_name(f".{place.name}.partial")
        for old in (place, partial):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(folder, partial)
        partial.rename(place)

    def _measured(self, results: Results, record: TrialRecord, folder: Path) -> Verification:
        recipe = Recipe.from_plain(record.recipe)
        prepared = self._runner.at(recipe)
        promised, uncompressed = (promised_figures(results, r, self._runner) for r in (record, results.uncompressed))
        model = self._runner.model(recipe, replicate=record.replicate)
        folder.mkdir()
        if self._artifacts is not None:
            write_raw(folder, prepared.experiment, prepared.task)
            write_promised(folder, prepared.task, model)
        study = (results.name, str(results.folder.resolve()) if results.folder else "")
        path = write_artifact(ArtifactSource(prepared, model, recipe, record, promised, uncompressed, study, self._runner.shapes(recipe, model)), folder)
        found = {"size_bytes": float(prepared.target.file_bytes(path))}
        with nullcontext(session_of(prepared, path)) if prepared.target.name == "torch" else RuntimeProcess(path) as predict:
            found |= {name: e.value for name, e in prepared.task.metrics(predict, "report").items()}
        reasons = list(self._broken(results, promised, found))
        native = native_examples(Artifact.load(folder), self._prepared.task, folder.parent)
        latency, slower = self._host.measure(path, promised, native)
        reasons += slower
        return Verification("regressed" if reasons else "kept", prepared.target.name, "", {**found, **latency}, tuple(reasons))

    def _broken(self, results: Results, promised: Mapping[str, Estimate], found: Mapping[str, float]) -> Iterator[str]:
        for name in (self._prepared.task.quality[0].name, "size_bytes"):
            metric = results.experiment.names.resolve(name)[1]
            if not keeps(metric, promised[name].value, found[name]):
                yield f"{name}: promised {figure(metric, promised[name].value)}, found {figure(metric, found[name])}"

    def _figures(self, results: Results, record: TrialRecord, found: Verification) -> str:
        if found.verdict != "kept":
            return ""
        parts = []
        for name, promise in self._promised(results, record).items():
            if name in found.found and name in (self._prepared.task.quality[0].name, "size_bytes", *(n for n in found.found if "@" in n)):
                metric = results.experiment.names.resolve(name)[1]
                parts.append(f"{name} {figure(metric, found.found[name])} (promised {figure(metric, promise.value)})")
        return f": {', '.join(parts)}"


def _write(folder: Path, found: Verification) -> None:
    (folder / _FILE).write_text(found.to_json(), encoding="utf-8")
