"""Batches that begin at once: forked from a process that has everything loaded already.

As a program: ``python nights.py SOURCE`` reads the folder of one OUT a line, runs that batch in a
fork, prints the fork's process number, and its exit code when it has ended. Children of the batch
are forked too, where the program spawns them: what is tested is when they die, not how they start.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Nights:
    """Begins batches of one folder; a context manager."""

    def __init__(self, source: Path) -> None:
        words = [sys.executable, __file__, os.fspath(source)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True)  # fmt: skip

    def __enter__(self) -> Nights:
        assert self._line() == "ready"
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.communicate()

    def begin(self, out: Path) -> int:
        """Begin a batch; return its process number."""
        assert self._process.stdin is not None
        print(out, file=self._process.stdin, flush=True)
        return int(self._line())

    def end(self) -> int:
        """Wait for the end; return the exit code, negative for a signal."""
        return int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _serve(source: Path) -> None:
    _load()
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 5
            try:
                code = _night(source, Path(line.strip()))
            finally:
                os._exit(code)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _load() -> None:
    """Import and compile; start no thread, for a fork has none of them."""
    import cv2

    from her2path.runs.cohort import pool

    cv2.setNumThreads(1)
    fork = multiprocessing.get_context("fork")
    pool.multiprocessing.get_context = lambda _: fork  # type: ignore[assignment]
    from her2path import api  # noqa: F401
    from her2path.outputs import report  # noqa: F401
    from her2path.runs.case.warm import PARTS

    for compile_part in PARTS.values():
        compile_part()


def _night(source: Path, out: Path) -> int:
    from cohort_samples import SETTINGS

    from her2path import api
    from her2path.outputs import report
    from her2path.runs.cohort import BatchOptions, ReportWriters, run_batch

    plain: Any = ReportWriters(slide=api.write_without_report, index=report.build_index)
    return run_batch(source, out, SETTINGS, BatchOptions(reports=plain)).exit_code


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
