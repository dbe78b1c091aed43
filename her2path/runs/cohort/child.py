"""The child process: it works through jobs one after the other, and may die without harm.

Everything that reads slides runs here. The parent sends one `Job` at a time through a pipe and
gets ``("progress", index, ...)``, then ``("done", index, facts)`` or
``("failed", index, Failure)``.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from her2path.core.errors import DiskFull, Her2PathError, one_line

__all__ = ["Failure", "Job", "Task", "Tick", "serve"]

Tick = Callable[[str, int, int, float], None]
#: Linux: the kernel ends this process when its parent is gone
PR_SET_PDEATHSIG = 1
#: Linux: how much sooner than others a child is ended when memory has run out (0 to 1000)
OOM_SCORE = "800"


class Task(Protocol):
    """What a child does: picklable, and told how many threads it may use."""

    def with_threads(self, threads: int) -> Task:
        """Return the same task for so many threads."""

    def run(self, tick: Tick) -> dict[str, Any]:
        """Do it; return a few facts."""


@dataclass(frozen=True)
class Job:
    """One task and its place in the batch."""

    index: int
    task: Task

    def with_threads(self, threads: int) -> Job:
        """Return the same job for so many threads."""
        return replace(self, task=self.task.with_threads(threads))


@dataclass(frozen=True)
class Failure:
    """Why a job failed."""

    stage: str
    error: str
    exit_code: int = 5
    disk_full: bool = False
    trace: str = ""


def serve(pipe: Connection, quiet: bool) -> None:
    """Do what the parent sends until it closes the pipe.

    Parameters
    ----------
    pipe : Connection
        To the parent.
    quiet : bool
        Whether what decoders write to the terminal by themselves is thrown away.
    """
    _die_with_parent()
    _die_before_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what a Ctrl-C ends
    if quiet:
        _hush()
    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):
            return
        except Exception as exc:  # noqa: BLE001 - a part of the program that cannot be imported
            pipe.send(("failed", None, _failure("starting", exc)))
            continue
        if job is None:
            return
        pipe.send(_answer(job, pipe))


def _hush() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(nowhere, stream.fileno())


def _die_with_parent() -> None:
    """End this process when its parent is gone, even if that was killed."""
    from multiprocessing import connection, parent_process

    parent = parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _die_before_parent() -> None:
    """Be the one that the kernel ends where memory runs out faster than the parent looks."""
    with contextlib.suppress(OSError), Path("/proc/self/oom_score_adj").open("w") as file:
        file.write(OOM_SCORE)


def _answer(job: Job, pipe: Connection) -> tuple[Any, ...]:
    stage = "opening"

    def tick(name: str, done: int, total: int, megapixels: float) -> None:
        nonlocal stage
        stage = name
        pipe.send(("progress", job.index, name, done, total, megapixels))

    tick(stage, 0, 1, 0.0)
    try:
        return ("done", job.index, job.task.run(tick))
    except Exception as exc:  # noqa: BLE001 - one slide's fault must not cost the others
        return ("failed", job.index, _failure(stage, exc))


def _failure(stage: str, exc: Exception) -> Failure:
    full = isinstance(exc, DiskFull) or (
        isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT)
    )
    if isinstance(exc, Her2PathError):
        return Failure(stage, str(exc), exc.exit_code, full)
    if full:
        return Failure(stage, f"no space left on the disk ({one_line(exc, 160)})", 5, True)
    if isinstance(exc, MemoryError):
        return Failure(stage, "out of memory. Lower --workers or stream.block_px.", 5)
    what = one_line(f"{type(exc).__name__}: {exc}", 200)
    return Failure(stage, f"a fault of the program ({what})", 5, trace=traceback.format_exc())
