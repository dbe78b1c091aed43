"""Many slides: the manifest, the children that score, the cases, the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from her2path.runs.cohort.batch import BatchOptions, BatchResult, Faces, run_batch
    from her2path.runs.cohort.joining import collect
    from her2path.runs.cohort.live import Board

__all__ = ["BatchOptions", "BatchResult", "Board", "Faces", "collect", "run_batch"]

_HOME = {"Board": "live", "collect": "joining"}


def __getattr__(name: str) -> Any:
    # a child imports `cohort.child` alone, and starts before anything heavy is there
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'batch')}"), name)
