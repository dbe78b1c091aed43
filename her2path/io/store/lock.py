"""One writer at a time: a lock file with host, process and heartbeat."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import psutil

from her2path.core.errors import OutputError
from her2path.io.store.files import (
    STALE_S,
    clear_leftovers,
    disk_errors,
    ended,
    make_dir,
    temporary_name,
    write_bytes,
)

__all__ = ["HEARTBEAT_S", "STALE_S", "RunLock"]

log = logging.getLogger(__name__)

#: seconds between two signs of life
HEARTBEAT_S = 30.0


@dataclass(frozen=True)
class _Holder:
    """Who holds a lock."""

    host: str
    pid: int
    started: float
    token: str

    @classmethod
    def me(cls) -> _Holder:
        pid = os.getpid()
        return cls(socket.gethostname(), pid, psutil.Process(pid).create_time(), uuid.uuid4().hex)

    @classmethod
    def read(cls, path: Path) -> _Holder | None:
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            return cls(str(tree["host"]), int(tree["pid"]), float(tree["started"]), tree["token"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def dead(self) -> bool:
        """Tell whether it is a process of this host that has ended."""
        return self.host == socket.gethostname() and ended(self.pid, self.started)


class RunLock:
    """Holds ``OUT/.lock`` as a context manager.

    A lock is stale at once when its process was on this host and is gone, and otherwise after
    `STALE_S` seconds without a heartbeat, by the clock of the file system that holds it. Whoever
    gets the lock removes what a killed writer left half written in the folder.

    Parameters
    ----------
    out : Path
        The run's folder; made when absent.

    Raises
    ------
    OutputError
        On entering, when another process holds it; the message names host and process.
    """

    def __init__(self, out: Path) -> None:
        self.path = Path(out) / ".lock"
        self._holder = _Holder.me()
        self._stop = threading.Event()
        self._beat: threading.Thread | None = None
        self.lost = False

    def __enter__(self) -> RunLock:
        make_dir(self.path.parent)
        for _ in range(3):
            if self._create():
                self._beat = threading.Thread(target=self._keep_alive, daemon=True)
                self._beat.start()
                clear_leftovers(self.path.parent)
                return self
            self._clear_stale()
        raise self._refusal(_Holder.read(self.path))

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._beat is not None:
            self._beat.join()
        held = _Holder.read(self.path)
        if held is not None and held.token == self._holder.token:
            self.path.unlink(missing_ok=True)

    def _create(self) -> bool:
        # the whole text appears in one step (a link), so that nobody reads half a lock
        text = json.dumps(asdict(self._holder)).encode()
        draft = temporary_name(self.path, self._holder.token)
        with disk_errors(self.path):
            with draft.open("wb") as file:
                file.write(text)
                file.flush()
                # after a power loss an empty lock would tell nobody that its process is dead
                os.fsync(file.fileno())
            try:
                os.link(draft, self.path)
            except FileExistsError:
                return False
            except OSError:  # a file system without links
                return self._create_exclusively(text)
            finally:
                draft.unlink(missing_ok=True)
        return True

    def _create_exclusively(self, text: bytes) -> bool:
        try:
            with self.path.open("xb") as file:
                file.write(text)
        except FileExistsError:
            return False
        return True

    def _clear_stale(self) -> None:
        held = _Holder.read(self.path)
        if not (held.dead() if held else False) and self._age_s() < STALE_S:
            raise self._refusal(held)
        aside = temporary_name(self.path, f"stale.{self._holder.token}")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return
        taken = _Holder.read(aside)
        if taken != held:  # somebody else cleared it first, and this one is alive: put it back
            self._put_back(aside)
            raise self._refusal(taken)
        log.info("took over a stale lock in %s", self.path.parent)
        aside.unlink(missing_ok=True)

    def _put_back(self, aside: Path) -> None:
        try:
            os.link(aside, self.path)
        except OSError:
            log.warning("the lock %s could not be put back", self.path)
        aside.unlink(missing_ok=True)

    def _age_s(self) -> float:
        """Return seconds since the last sign of life, by the file system's own clock."""
        probe = temporary_name(self.path, f"probe.{self._holder.token}")
        try:
            with disk_errors(self.path):
                probe.write_bytes(b"")
            return probe.stat().st_mtime - self.path.stat().st_mtime
        except FileNotFoundError:
            return STALE_S
        finally:
            probe.unlink(missing_ok=True)

    def _refusal(self, held: _Holder | None) -> OutputError:
        who = f"process {held.pid} on {held.host}" if held else "another process"
        return OutputError(
            f"{self.path.parent} is being written by {who}",
            "Wait until it ends, or give -o another folder",
        )

    def _keep_alive(self) -> None:
        text = json.dumps(asdict(self._holder)).encode()
        while not self._stop.wait(HEARTBEAT_S):
            held = _Holder.read(self.path)
            if held is None or held.token != self._holder.token:
                self.lost = True
                log.error("the lock %s was taken by another process", self.path)
                return
            try:
                write_bytes(self.path, text)
            except Exception as exc:  # noqa: BLE001 - a missed beat must not end the run
                log.warning("no heartbeat could be written: %s", exc)
