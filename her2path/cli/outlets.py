"""stdout and stderr as they are found: closed, broken, full, or of another character set.

What is said to people never changes how a command ends: where nobody can hear it, it is left out.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import Any, TextIO

__all__ = ["broken", "prepare"]

#: whoever read our output has gone: that is theirs to decide
_GONE = (errno.EPIPE, errno.ECONNRESET)


class _Outlet(io.FileIO):
    """A file descriptor that takes everything, and remembers what it could not pass on."""

    failed: OSError | None = None

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        if self.failed is None:
            try:
                return super().write(data) or 0
            except OSError as exc:
                self.failed = exc
        return size


def prepare() -> None:
    """Make stdout and stderr safe to write to, whatever they are."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # else the next file that is opened takes the number, and what is printed lands in it
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
    sys.stdout = _safe(sys.stdout, sys.__stdout__, 1)
    sys.stderr = _safe(sys.stderr, sys.__stderr__, 2)


def _safe(stream: TextIO | None, first: TextIO | None, number: int) -> TextIO:
    """Return a stream in place of Python's own; one that somebody has put there stays."""
    if stream is not first:
        return stream if stream is not None else io.StringIO()
    if stream is not None:
        try:
            if stream.fileno() != number:
                return stream
        except (OSError, ValueError, AttributeError):
            return stream
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    outlet = io.BufferedWriter(_Outlet(number, "w", closefd=False))
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return io.TextIOWrapper(
        outlet, encoding=encoding, errors="backslashreplace", write_through=True,
        line_buffering=True,
    )  # fmt: skip


def broken(stream: TextIO) -> OSError | None:
    """Return why something could not be written to a stream; a reader who has gone is no reason."""
    with contextlib.suppress(OSError, ValueError):
        stream.flush()
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    failed = getattr(raw, "failed", None)
    return failed if failed is not None and failed.errno not in _GONE else None
