"""Reads at any offset of a file, from any thread."""

from __future__ import annotations

import os
import threading
import weakref

__all__ = ["RawFile"]


class RawFile:
    """A file that several threads read at their own offsets.

    Raises
    ------
    OSError
        When it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        # a slide that is dropped without being closed gives its file back
        self._close = weakref.finalize(self, os.close, fd)
        self._fd = fd
        self._lock = threading.Lock()
        self.size = os.fstat(fd).st_size

    def read(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes from ``offset``; fewer at the end of the file."""
        if hasattr(os, "pread"):
            return os.pread(self._fd, count, offset)
        with self._lock:
            os.lseek(self._fd, offset, os.SEEK_SET)
            return os.read(self._fd, count)

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._close()
