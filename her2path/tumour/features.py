"""What a cell is judged by: its nucleus, the ring around it, and its neighbours.

Stain enters only as ratios within the cell or against its neighbours, because its strength differs
from laboratory to laboratory; sizes and distances are absolute.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from her2path.tumour._kernels import neighbour_means

__all__ = ["NAMES", "NEAR_UM", "NUCLEUS", "WIDE_UM", "features"]

F64 = npt.NDArray[np.float64]
Columns = Mapping[str, npt.NDArray]

#: reach of the close neighbourhood (means), of the wide one (comparison), of the crowd, µm
NEAR_UM, WIDE_UM, CROWD_UM = 40.0, 80.0, 20.0
#: DAB in the ring counts above this OD, and not beyond the second
DAB_FROM, DAB_TO = 0.08, 0.23

_OWN = (
    "log_area", "log_elongation", "contrast", "irregularity", "texture", "confidence",
    "ring_h_low", "ring_h", "ring_dab",
)  # fmt: skip
#: names of the features, in order
NAMES: tuple[str, ...] = (
    *_OWN,
    *(f"near_{n}" for n in _OWN),
    "against_h", "against_ring_h", "against_dab", "against_area",
    "closeness", "crowding", "density",
)  # fmt: skip
#: features that tell a nucleus from what is none
NUCLEUS: tuple[int, ...] = tuple(
    NAMES.index(n)
    for n in (
        "contrast",
        "irregularity",
        "texture",
        "confidence",
        "ring_h_low",
        "ring_h",
        "against_h",
    )
)


def features(columns: Columns) -> F64:
    """Return the features of every cell.

    Parameters
    ----------
    columns : mapping of arrays (n,)
        ``cell_id, x_um, y_um``, the ``nucleus_*`` measures and the `RING_COLUMNS`.

    Returns
    -------
    float64 (n, len(NAMES))
        Right for cells whose neighbours within `WIDE_UM` are all among the columns.
    """
    x, y = (np.asarray(columns[n], dtype=np.float64) for n in ("x_um", "y_um"))
    ids = np.asarray(columns["cell_id"], dtype=np.int64)
    own, stain = _own(columns)
    compared = np.column_stack([stain, own[:, 0]])
    near, near_weight = neighbour_means(x, y, ids, own, NEAR_UM)
    wide, wide_weight = neighbour_means(x, y, ids, compared, WIDE_UM)
    _, crowd = neighbour_means(x, y, ids, own[:, :1], CROWD_UM)
    near = np.where((near_weight == 0)[:, None], own, near)
    against = np.where((wide_weight == 0)[:, None], 0.0, compared - wide)
    close, far, crowded = (np.log(w + 0.5) for w in (near_weight, wide_weight, crowd))
    return np.column_stack([own, near, against, close - far, crowded - close, close])


def _own(columns: Columns) -> tuple[F64, F64]:
    """Return a cell's own features (n, 9), and its stain for comparison (n, 3).

    The latter: log hematoxylin of nucleus and of ring, DAB of the ring (tumour cytoplasm holds a
    little more than stroma and lymphocytes; clipped, so that no membrane decides).
    """
    get = {n: np.asarray(v, dtype=np.float64) for n, v in columns.items() if n in _USED}
    h = np.maximum(get["nucleus_hematoxylin_od"], 0.02)
    low, middle = (np.log(np.clip(get[n] / h, 0.05, 1.5)) for n in ("ring_h20", "ring_h50"))
    own = np.column_stack(
        [
            np.log(np.maximum(get["nucleus_area_um2"], 1.0)),
            np.log(np.maximum(get["nucleus_elongation"], 1.0)),
            get["nucleus_contrast"] / h,
            get["nucleus_irregularity"],
            np.minimum(get["nucleus_texture"], 0.5),
            get["nucleus_confidence"],
            low,
            middle,
            (np.clip(get["ring_d80"], DAB_FROM, DAB_TO) - DAB_FROM) / (DAB_TO - DAB_FROM),
        ]
    )
    ring = np.log(np.maximum(get["ring_h50"], 0.01))
    return own, np.column_stack([np.log(h), ring, np.clip(get["ring_d30"], -0.05, 0.10)])


_USED = frozenset(
    (
        "nucleus_hematoxylin_od", "nucleus_area_um2", "nucleus_elongation", "nucleus_contrast",
        "nucleus_irregularity", "nucleus_texture", "nucleus_confidence",
        "ring_h20", "ring_h50", "ring_d30", "ring_d80",
    )
)  # fmt: skip
