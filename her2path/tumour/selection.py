"""The selection itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from her2path.settings import TumourSettings

__all__ = ["REACH_UM", "classify"]

#: a cell's probability depends on cells no farther than this, µm
REACH_UM = 80.0


def classify(
    columns: Mapping[str, npt.NDArray], core: npt.NDArray[np.bool_], settings: TumourSettings
) -> npt.NDArray[np.float32]:
    """First version: size and roundness alone."""
    area = columns["nucleus_area_um2"][core].astype(np.float64)
    long = columns["nucleus_elongation"][core].astype(np.float64)
    z = 0.12 * (area - 36.0) - 3.0 * (long - 1.9)
    return (1.0 / (1.0 + np.exp(-z))).astype(np.float32)
