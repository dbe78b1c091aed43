"""Many slides: the manifest, the children that score, the cases, the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from her2path.runs.cohort.batch import BatchOptions, BatchResult, ReportWriters, run_batch
    from her2path.runs.cohort.collecting import collect
    from her2path.runs.cohort.progress import BatchProgress

__all__ = ["BatchOptions", "BatchProgress", "BatchResult", "ReportWriters", "collect", "run_batch"]

_HOME = {"BatchProgress": "progress", "collect": "collecting"}


def __getattr__(name: str) -> Any:
    # a child imports `cohort.child` alone, and starts before anything heavy is there
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'batch')}"), name)
