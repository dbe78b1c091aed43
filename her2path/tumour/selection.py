"""The selection: two stages of boosted trees on a cell, its neighbourhood, and their verdicts.

Lymphocytes (small, round, dark, dense, without cytoplasm) and spindle stromal nuclei (elongated,
in pale fibres) are left out, and so are doubles and what looks like no nucleus. The second stage
sees what the first one made of the neighbours: glands are taken nearly whole. Invasive tumour
cannot be told from carcinoma in situ or from normal glands: results carry the flag
``IN_SITU_NOT_EXCLUDED``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from her2path.settings import TumourSettings
from her2path.tumour.features import (
    CONTEXT_UM,
    WIDE_UM,
    Columns,
    first_features,
    second_features,
)
from her2path.tumour.weights import model

__all__ = ["REACH_UM", "classify"]

#: a cell's probability depends on cells no farther than this, µm
REACH_UM = WIDE_UM + max(CONTEXT_UM)


def classify(
    columns: Columns, core: npt.NDArray[np.bool_], settings: TumourSettings
) -> npt.NDArray[np.float32]:
    """Return how tumour-like the cells of the core read.

    Parameters
    ----------
    columns : mapping of arrays (n,)
        Raw cells of the core and of its surroundings within `REACH_UM`, once each, in any order:
        ``cell_id``, ``x_um, y_um`` (absolute: the same in every cut), ``nucleus_area_um2,
        nucleus_hematoxylin_od, nucleus_dab_od, nucleus_elongation, nucleus_contrast,
        nucleus_irregularity, nucleus_texture, nucleus_confidence`` and the columns of
        `surroundings`.
    core : bool (n,)
        The cells that are asked for.
    settings : TumourSettings
        With ``method: all`` every cell is tumour; ``usual_nuclei`` are the slide's.

    Returns
    -------
    float32 (core.sum(),)
        Probability, 0..1, in the order of the columns; from 0.5 a cell counts as tumour. The same
        for every cut of the slide.
    """
    if settings.method == "all" or not core.any():
        return np.ones(int(core.sum()), np.float32)
    fitted = model()
    table = first_features(columns, settings.usual_nuclei)
    values = second_features(table, fitted.first.odds(table.values))[core]
    odds = np.clip(fitted.second.odds(values) + fitted.shift, -30.0, 30.0)
    return (1.0 / (1.0 + np.exp(-odds))).astype(np.float32)
