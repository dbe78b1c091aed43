"""Files that grow by one line at a time, and a lock for what several processes write.

A line is on the disk before `append` returns: whatever kills the process afterwards, it is kept.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from her2path.io.store.files import disk_errors, make_dir

try:
    import fcntl
except ImportError:  # pragma: no cover - no such calls on Windows: threads alone are kept apart
    fcntl = None  # type: ignore[assignment]

__all__ = ["Journal", "file_lock"]

_HELD: dict[str, threading.RLock] = {}
_GUARD = threading.Lock()


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold ``path`` (made when absent) against other threads and processes of this host.

    The system lets go of it when the process ends, however it ends. For short work: others wait.

    Raises
    ------
    OutputError, DiskFull
        Where the file cannot be made.
    """
    make_dir(path.parent)
    with _GUARD:
        mine = _HELD.setdefault(str(path.absolute()), threading.RLock())
    with mine:
        with disk_errors(path):
            handle = path.open("ab")
        with handle:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield


class Journal:
    """A file of JSON objects, one a line, that only grows.

    Parameters
    ----------
    path : Path
        Made with the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, entry: dict[str, Any]) -> None:
        """Add a line; it is on the disk when this returns.

        Raises
        ------
        OutputError, DiskFull
        """
        make_dir(self.path.parent)
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with disk_errors(self.path), self.path.open("ab+") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            # a line that a killed writer left half written ends here, and costs no other
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def entries(self) -> list[dict[str, Any]]:
        """Return all whole lines; one that was left half written is none.

        Raises
        ------
        OutputError
            Where the file cannot be read.
        """
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as exc:
            with disk_errors(self.path):
                raise exc
        found = []
        for line in raw.split(b"\n"):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                found.append(entry)
        return found
