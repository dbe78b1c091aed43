"""What must be true of a slide's cells before they are scored, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from her2path.cells import qc
from her2path.core.errors import NotEvaluable, SlideUnreadable
from her2path.core.flags import flag
from her2path.core.results import QcFlag
from her2path.core.settings import Settings
from her2path.runs.case.celltable import certain_share, is_tumour
from her2path.runs.case.passes import BlockDone

__all__ = ["cell_flags", "need_tumour_cells", "recognised", "unreadable_share"]


def need_tumour_cells(cells: pa.Table, settings: Settings, found: str, mend: str) -> None:
    """Refuse to score fewer tumour cells than ``score.min_cells``.

    Raises
    ------
    NotEvaluable
        ``FEW_TUMOUR_CELLS``; ``found`` is the sentence's verb, ``mend`` what to do.
    """
    n, least = int(is_tumour(cells).sum()), settings.score.min_cells
    if n < least:
        raise NotEvaluable(
            f"{n} tumour cells {found}, and {least} are needed", mend, code="FEW_TUMOUR_CELLS"
        )


def recognised(cells: pa.Table, settings: Settings, drawn: bool) -> list[QcFlag]:
    """Say where too much of what is counted is doubtful; nothing where a person drew it.

    Raises
    ------
    NotEvaluable
        Where hardly anything is certain.
    """
    limits, method = settings.qc, settings.tumour.method
    if method == "all" or (drawn and method != "morphology"):
        return []
    share = certain_share(cells, limits.certain_from)
    if share < limits.least_certain_share:
        raise NotEvaluable(
            f"tumour was not recognised: only {share:.0%} of the cells counted are surely "
            "tumour cells",
            "Look at the overlay, annotate the tumour, or lower qc.least_certain_share",
            code="TUMOUR_NOT_RECOGNISED",
        )
    if share < limits.certain_share:
        return [flag("TUMOUR_NOT_RECOGNISED", f"Surely tumour cells: {share:.0%}.")]
    return []


def unreadable_share(done: Sequence[BlockDone], settings: Settings) -> float:
    """Return the share of the tissue that could not be read.

    Raises
    ------
    SlideUnreadable
        When it is above ``slide.max_bad_tissue``.
    """
    bad = sum(d.bad_px for d in done) / max(1, sum(d.tissue_px for d in done))
    if bad > settings.slide.max_bad_tissue:
        raise SlideUnreadable(
            f"{bad:.1%} of the tissue cannot be read: tiles are damaged",
            "Copy or scan the slide again, or raise slide.max_bad_tissue",
        )
    return bad


def cell_flags(
    cells: pa.Table, settings: Settings, bad: float, tissue_mm2: float, known: Sequence[QcFlag]
) -> list[QcFlag]:
    """Say what the cells tell of the slide: counterstain, background, how few tumour cells.

    ``bad`` is the share of the tissue that could not be read; ``known`` the flags so far.
    """
    tumour = is_tumour(cells)
    nuclei = cells.column("nucleus_hematoxylin_od").to_numpy()
    background = cells.column("cytoplasm_od").to_numpy()[~tumour]
    found = qc.assess(
        settings.qc,
        bad_fraction=bad,
        tissue_area_mm2=tissue_mm2,
        nucleus_h_od=float(np.median(nuclei)),
        background_dab_od=float(np.median(background)) if len(background) else None,
        known=tuple(known),
    )
    return [*found, *_little_tumour(int(tumour.sum()), settings)]


def _little_tumour(cells: int, settings: Settings) -> list[QcFlag]:
    """Say where a score rests on fewer than three times the tumour cells that it needs."""
    if cells >= 3 * settings.score.min_cells:
        return []
    return [flag("LITTLE_TUMOUR", f"Tumour cells: {cells}.")]
