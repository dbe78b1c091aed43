"""A batch scored again from its stored cells: every slide, then its cases, tables and index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from her2path.core.errors import Her2PathError, UsageError
from her2path.io.store import BatchStore, RunStore, read_json
from her2path.runs.case.rescore import rescore
from her2path.runs.cohort.collecting import collect
from her2path.runs.cohort.results import BatchResult, ReportWriters

__all__ = ["Applied", "corrections_of", "rescore_batch"]

#: a run's own corrections, as the viewer saves them
OWN = "corrections.geojson"


@dataclass
class Applied:
    """What was applied over all slides.

    Attributes
    ----------
    slides, cells, areas : int
        Slides scored again; corrected cells and areas that took part.
    failed : dict
        Slide to error, of those that stayed as they were.
    """

    slides: int = 0
    cells: int = 0
    areas: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """One line for people."""
        return f"{self.cells} corrected cells and {self.areas} areas applied"

    def add(self, extra: dict[str, Any] | None) -> None:
        """Count one result's corrections."""
        self.slides += 1
        told = (extra or {}).get("corrections") or {}
        self.cells += int(told.get("cells", 0))
        self.areas += int(told.get("areas", 0))


def corrections_of(store: RunStore) -> Path | None:
    """Return what readers corrected of a slide in the viewer; None where nothing was."""
    path = store.out / OWN
    return path if path.is_file() else None


def rescore_batch(
    out: str | Path,
    guideline: str | None = None,
    config: str | Path | None = None,
    changes: list[str] | None = None,
    own: bool = True,
    reports: ReportWriters | None = None,
    manifest: str | Path | None = None,
    told: Callable[[str], None] | None = None,
) -> tuple[BatchResult, Applied]:
    """Score every slide of a batch again and put its cases together anew.

    Parameters
    ----------
    out : path
        Folder of a batch.
    guideline, config, changes : optional
        As in `case.rescore.rescore`.
    own : bool
        Apply what readers corrected of each slide in the viewer.
    reports : ReportWriters, optional
        Reports and index.
    manifest : path, optional
        MANIFEST.csv of the batch; needed where cases rest on ISH counts or on cores of a TMA.
    told : callable, optional
        Called with each slide's name.

    Raises
    ------
    UsageError
        Where only the manifest tells how cases are put together, before anything is changed.
    """
    batch = BatchStore(out)
    if manifest is None:
        _refuse_what_is_not_stored(batch)
    applied = Applied()
    for store in batch.slides():
        if told is not None:
            told(store.out.name)
        if store.result().status != "complete":
            continue
        try:
            corrections = corrections_of(store) if own else None
            made = rescore(store.out, guideline, config, changes or [], corrections,
                           reports.slide if reports else None)  # fmt: skip
            applied.add(made.result.model_extra)
        except Her2PathError as exc:
            if exc.exit_code == 5:
                raise
            applied.failed[store.out.name] = str(exc)
    return collect([out], out, manifest, reports), applied


def _refuse_what_is_not_stored(batch: BatchStore) -> None:
    for folder in batch.case_dirs():
        slides = read_json(folder / "case.json").get("slides") or []
        if (folder / "ish.json").is_file() or any(s.get("cores") for s in slides):
            raise UsageError(
                f"case {folder.name} rests on ISH counts or on cores of a TMA",
                "Add --manifest MANIFEST.csv, which tells whose they are",
            )
