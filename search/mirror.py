"""Studies in object stores: worked on in a folder of this machine, every file written through as it comes, one writer by a lease.

The lease is an object with its owner and a heartbeat: every 20 seconds; one that has not been heard for two minutes may be replaced (clocks are taken to
agree within seconds, as those of cloud machines do). A writer that was replaced notices before it writes again. On the machine of the last writer a lock
tells at once that it has died.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
import uuid
from contextlib import ExitStack, suppress
from typing import Any

from compressors.errors import StorageError, UserError
from search.cache.locking import locked
from search.objects import LEASE, StudyObjects, home_of
from search.quantities import format_seconds

__all__ = ["STALE_S", "Mirror"]

STALE_S = 120.0
_BEAT_S = 20.0
_SETTLE_S = 1.0


class Mirror:
    """One study's objects and its folder on this machine.

    Args:
        uri: of the study.

    Raises:
        UserError: no such file system, or its package is missing.
    """

    def __init__(self, uri: str) -> None:
        self._objects = StudyObjects(uri)
        self.uri, self.name = self._objects.uri, self._objects.uri.rpartition("/")[2]
        self._home = home_of("studies", self.uri)
        self.folder = self._home / self.name
        self._token = uuid.uuid4().hex
        self._held = ExitStack()
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="compareto-lease", daemon=True)
        self._replaced_by = ""
        self._confirmed = 0.0

    def begin(self) -> None:
        """Become the study's writer, and bring the folder up to date.

        Raises:
            UserError: another process writes it.
            StorageError: the store or the folder cannot be written.
        """
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            last = self._take(self._held.enter_context(locked(self._home / "lock", wait=False)))
            self._bring_up_to_date(last)
        except OSError as error:
            self._held.close()
            raise StorageError(f"cannot write the folder {self._home}, in which {self.uri} is worked on: {error.strerror or error}") from error
        except BaseException:
            self._held.close()
            raise
        self._beating.start()

    def put(self, name: str) -> None:
        """Write a file of the folder through.

        Raises:
            StorageError: the store does not take it, or another writer has taken the study over.
        """
        self._require_ours()
        self._objects.write(name, (self.folder / name).read_bytes())

    def remove(self, name: str) -> None:
        """Remove a file's object.

        Raises:
            StorageError: see ``put``.
        """
        self._require_ours()
        self._objects.remove(name)

    def end(self) -> None:
        """Write through what was made from the records, and give the lease back."""
        if self._ended.is_set():
            return
        self._stop()
        try:
            if not self._replaced_by:
                self._push(self._objects.sizes(), again=("trials.jsonl", "front.csv", "report.html"))
                self._write_lease(closed=True)
        finally:
            self._held.close()

    def discard(self) -> None:
        """Remove the study."""
        self._stop()
        try:
            self._objects.clear()
        finally:
            self._held.close()

    def _stop(self) -> None:
        self._ended.set()
        if self._beating.is_alive():
            self._beating.join()

    def _take(self, alone: bool) -> str:
        """Write the lease, ``alone`` on this machine; returns the machine of whoever held it last."""
        if not alone:
            raise UserError(f"study {self.name!r} is being written by another process of this machine; wait for it to end, or choose another --name")
        lease = self._lease()
        machine = self._machine()
        # Who held it on this machine has let go of the lock.
        if lease and not lease["closed"] and lease["machine"] != machine:
            age = time.time() - lease["beat"]
            if age < STALE_S:
                raise UserError(
                    f"study {self.name!r} is being written by {lease['owner']}, heard {format_seconds(max(0, age))} ago; wait for it to end, "
                    f"or, if it was lost, until it was not heard for {format_seconds(STALE_S)}; or choose another --name"
                )
        self._write_lease()
        time.sleep(_SETTLE_S)
        # Of two that found it free at once, the later one holds it.
        self._confirm()
        if self._replaced_by:
            raise UserError(f"study {self.name!r} is being written by {self._replaced_by}; wait for it to end, or choose another --name")
        return str(lease["machine"]) if lease else ""

    def _bring_up_to_date(self, last: str) -> None:
        found = self._objects.sizes()
        if last != self._machine() and self.folder.exists():
            # What another machine has made of the study since then counts.
            shutil.rmtree(self.folder)
        if not found and not self.folder.exists():
            return
        for part in ("records", "reports", "pending"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self._push(found)
        self._objects.download((name for name in found if not (self.folder / name).exists()), self.folder)

    def _push(self, found: dict[str, int], again: tuple[str, ...] = ()) -> None:
        """Write through what a lost connection or a kill has left out."""
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and not path.name.startswith(".") and name != "lease" and (name in again or found.get(name) != path.stat().st_size):
                self._objects.write(name, path.read_bytes())

    def _machine(self) -> str:
        """Of this folder: the lock beside it says whether its writer lives."""
        path = self._home / "machine"
        if not path.exists():
            path.write_text(uuid.uuid4().hex)
        return path.read_text()

    def _lease(self) -> dict[str, Any] | None:
        content = self._objects.read(LEASE)
        if content is None:
            return None
        try:
            lease: dict[str, Any] = json.loads(content)
            return {**{name: str(lease[name]) for name in ("owner", "machine", "token")}, "beat": float(lease["beat"]), "closed": bool(lease["closed"])}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.uri}/{LEASE} is not a lease ({error}); delete it where nobody writes the study") from error

    def _write_lease(self, *, closed: bool = False) -> None:
        owner = f"process {os.getpid()} on {socket.gethostname()}"
        lease = {"owner": owner, "machine": self._machine(), "token": self._token, "beat": time.time(), "closed": closed}
        self._objects.write(LEASE, json.dumps(lease).encode())
        self._confirmed = time.monotonic()

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_S) and not self._replaced_by:
            with suppress(StorageError, UserError, OSError):  # the next beat, or the next thing that is written, tells
                self._confirm()
                if not self._replaced_by and not self._ended.is_set():
                    self._write_lease()

    def _confirm(self) -> None:
        lease = self._lease()
        if lease is None or lease["token"] != self._token:
            self._replaced_by = lease["owner"] if lease else "somebody who removed the lease"
        else:
            self._confirmed = time.monotonic()

    def _require_ours(self) -> None:
        if time.monotonic() - self._confirmed > 2 * _BEAT_S:
            self._confirm()
        if self._replaced_by:
            raise StorageError(
                f"the study {self.uri} was taken over by {self._replaced_by}, because nothing was heard of this process for {format_seconds(STALE_S)}"
            )
