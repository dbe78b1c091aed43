"""Staining patterns: intensity and completeness of one cell's own membrane, in classes."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from her2path.core.schema import PATTERNS
from her2path.core.settings import MembraneSettings

__all__ = ["classify"]

I8 = NDArray[np.int8]
F32 = NDArray[np.float32]


def classify(
    completeness: F32,
    strength: F32,
    settings: MembraneSettings,
    intense_incomplete_score: Literal[2, 3] = 2,
) -> tuple[I8, I8, I8]:
    """Return pattern, intensity and score of each cell.

    Parameters
    ----------
    completeness : (N,) float32
        Own stained share of the perimeter, 0..1.
    strength : (N,) float32
        The column that `settings.measure` names, OD or OD µm.
    settings : MembraneSettings
        `cutoffs`, `complete_at` and `stained_at`; a value exactly at a limit is above it.
    intense_incomplete_score : 2 or 3
        Score of an intense incomplete membrane: 2 under the breast guidelines, 3 elsewhere.

    Returns
    -------
    pattern : (N,) int8
        Index into `her2path.core.schema.PATTERNS`.
    intensity : (N,) int8
        none 0, faint 1, moderate 2, intense 3.
    score : (N,) int8
        0..3.

    Raises
    ------
    ValueError
        Where the columns differ in length or a value is not a number.
    """
    if completeness.shape != strength.shape or completeness.ndim != 1:
        raise ValueError(f"columns of one length, not {completeness.shape} and {strength.shape}")
    if not (np.isfinite(completeness).all() and np.isfinite(strength).all()):
        raise ValueError("completeness and strength must be finite")
    # limits are compared in the columns' own float32, so that "exactly at" means what it says
    cutoffs = np.asarray(settings.cutoffs, np.float32)
    above = np.searchsorted(cutoffs, strength.astype(np.float32), side="right")
    stained = completeness >= np.float32(settings.stained_at)
    intensity: I8 = np.where(stained, above, 0).astype(np.int8)
    complete = completeness >= np.float32(settings.complete_at)
    codes = np.array(
        [
            [PATTERNS.index("none")] * 2,
            [PATTERNS.index("faint_incomplete"), PATTERNS.index("faint_complete")],
            [PATTERNS.index("moderate_incomplete"), PATTERNS.index("moderate_complete")],
            [PATTERNS.index("intense_incomplete"), PATTERNS.index("intense_complete")],
        ],
        np.int8,
    )
    pattern = codes[intensity, complete.astype(np.intp)]
    score = intensity.copy()
    score[(intensity == 3) & ~complete] = intense_incomplete_score
    return pattern, intensity, score
