"""How a run is asked for, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from her2path.core.results import Result
from her2path.io.store import RunStore

__all__ = ["RunOptions", "SlideResult"]


@dataclass(frozen=True)
class RunOptions:
    """How a run treats OUT and names; none of it changes a figure."""

    overwrite: bool = False
    #: do a complete or unfinished run with other settings again instead of refusing
    redo_stale: bool = False
    pseudonymise: bool = False
    qupath_crop: bool = False
    scheduler: str | None = None
    slide_id: str | None = None
    #: the case that the slide belongs to, for the head of its report
    case_id: str | None = None
    #: threads in place of `stream.workers`, where a batch shares them out; 0 leaves it
    threads: int = 0
    #: called with the folder of a staged result before it is published: report and exports
    reports: Callable[[Path], None] | None = None


class SlideResult:
    """A finished run: the values of ``result.json`` and, lazily, its tables.

    Attributes of `results.Result` (``score``, ``heterogeneity``, ``qc``, ...) are read through.
    """

    def __init__(self, out: Path, result: Result, fresh: bool = True) -> None:
        self.out = out
        self.result = result
        #: whether this call did the work, or found it done
        self.fresh = fresh

    def __getattr__(self, name: str) -> Any:
        return getattr(self.result, name)

    def __repr__(self) -> str:
        score = self.result.score.ihc if self.result.score else self.result.status
        return f"SlideResult({self.out.as_posix()!r}, {score})"

    def cells(self, columns: list[str] | None = None) -> pa.Table:
        """Read the cell table, or some of its columns."""
        return RunStore(self.out).cells(columns)

    def regions(self) -> pa.Table:
        """Read the region table."""
        return RunStore(self.out).regions()
