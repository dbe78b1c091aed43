"""What a reader said of cells and drew of tumour, applied to the stored cells.

Areas come first, then single cells, so that a cell that was looked at keeps what was said of it.
Areas of tumour add to those that the run was given, and then only what lies in tumour areas counts;
areas of another known class (in situ, control, ...) are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from her2path.core.flags import flag, merge
from her2path.core.results import Result
from her2path.core.settings import Settings
from her2path.io.annotations import Annotations, read_areas
from her2path.io.corrections import Correction, apply_corrections, read_corrections, readers_of
from her2path.runs.case.celltable import assign, is_tumour, with_cell_type
from her2path.scoring import guidelines

__all__ = ["Said", "applied", "joined", "noted", "read", "unread"]

#: a cell is tumour-like from here on, as when it was measured
_TUMOUR_FROM = 0.5
#: flags that say how tumour was selected, and fall where a reader has drawn it
_SELECTION_FLAGS = ("IN_SITU_NOT_EXCLUDED", "ALL_CELLS_COUNTED", "TUMOUR_NOT_RECOGNISED",
                    "ANNOTATIONS_NOT_SELECTING")  # fmt: skip


@dataclass(frozen=True)
class Said:
    """A corrections file: cells, areas on the plane that cells are measured on, who and when."""

    cells: tuple[Correction, ...]
    areas: Annotations | None
    readers: tuple[str, ...]
    time: str

    @property
    def counting(self) -> int:
        """How many areas take part: those whose class is known."""
        return sum(a.role != "other" for a in self.areas.items) if self.areas is not None else 0


def read(path: str | Path, result: Result, settings: Settings) -> Said:
    """Read what a reader said.

    Raises
    ------
    AnnotationError
        Unreadable, too large or malformed.
    """
    cells = tuple(read_corrections(path))
    planes = result.slide.planes
    areas = read_areas(path, settings.tumour)
    readers, time = readers_of(path)
    placed = None if areas is None else areas.moved(planes.file, planes.square)
    return Said(cells, placed, readers, time)


def applied(
    cells: pa.Table, said: Said, given: Annotations | None, result: Result, settings: Settings
) -> tuple[pa.Table, Annotations | None]:
    """Return the cells as the reader has them, and all areas there are now.

    Parameters
    ----------
    cells : pyarrow.Table
        As the program has them.
    said : Said
    given : Annotations or None
        Areas that the run was given.
    result : Result
        Of the program.
    settings : Settings

    Raises
    ------
    AnnotationError
        For corrections of another result.
    """
    areas = joined(given, said.areas)
    if said.counting and areas is not None:
        cells = _in_areas(cells, said, areas, result, settings)
    incomplete = guidelines.incomplete_score(settings.score.guideline)
    return apply_corrections(cells, list(said.cells), incomplete), areas


def joined(given: Annotations | None, drawn: Annotations | None) -> Annotations | None:
    """Return the areas that a run was given together with those that a reader drew."""
    if given is None or drawn is None:
        return given if drawn is None else drawn
    return Annotations((*given.items, *drawn.items), drawn.sha256)


def _in_areas(
    cells: pa.Table, said: Said, areas: Annotations, result: Result, settings: Settings
) -> pa.Table:
    before = is_tumour(cells)
    now, free = cells, settings.replace({"tumour.method": "auto"})
    drawn = said.areas is not None and said.areas.tumour is not None
    if drawn and result.tumour_selection == "annotation":
        # what lay outside the areas that were given is "other" by that alone
        like = cells.column("tumour_probability").to_numpy() >= _TUMOUR_FROM
        now = with_cell_type(cells, like)
    selecting = drawn or result.tumour_selection == "annotation"
    now = assign(now, areas if selecting else _without_tumour(areas), free)
    changed = is_tumour(now) != before
    who, when = (pa.array([text if c else None for c in changed.tolist()], pa.string())
                 for text in ("; ".join(said.readers), said.time))  # fmt: skip
    for name in ("pattern", "cell_type"):
        now = now.append_column(f"machine_{name}", cells.column(name))
    return now.append_column("reader", who).append_column("reader_time", when)


def _without_tumour(areas: Annotations) -> Annotations:
    return Annotations(tuple(a for a in areas.items if a.role != "tumour"), areas.sha256)


# -- what the result says of it -------------------------------------------------------------------


def noted(result: Result, said: Said) -> Result:
    """Return the result with how many corrections it rests on, by whom, and their flag."""
    areas = said.counting
    more: dict[str, Any] = {
        "corrections": {"cells": len({c.cell_id for c in said.cells}), "areas": areas,
                        "readers": list(said.readers)},
        "machine_flags": [f.model_dump(mode="json") for f in result.qc.flags],
        "machine_tumour_selection": result.tumour_selection,
    }  # fmt: skip
    flags = list(result.qc.flags)
    if said.areas is not None and said.areas.tumour is not None:
        more["tumour_selection"] = "annotation"
        flags = [f for f in flags if f.code not in _SELECTION_FLAGS]
    if areas or said.cells:
        counts = f"Areas: {areas}; cells: {more['corrections']['cells']}."
        flags.append(flag("READER_CORRECTED", counts))
    more["qc"] = result.qc.model_copy(update={"flags": merge(flags)})
    return result.model_copy(update=more)


def unread(result: Result) -> Result:
    """Return the result as it was before any reader's corrections were noted in it."""
    extra = result.model_extra or {}
    if "machine_flags" not in extra:
        return result
    kept = {k: v for k, v in result.model_dump(mode="json").items()
            if k not in ("machine_flags", "machine_tumour_selection", "corrections")}  # fmt: skip
    kept["tumour_selection"] = extra["machine_tumour_selection"]
    kept["qc"]["flags"] = extra["machine_flags"]
    return Result.model_validate(kept)
