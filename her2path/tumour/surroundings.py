"""What lies in and around every nucleus, measured in pass 1 while the pixels are at hand.

Epithelial cells have stained cytoplasm, lymphocytes hardly any, and stromal nuclei lie in pale
fibres: rings around the nucleus tell them apart better than the nucleus alone. Inside, quantiles
tell vesicular from dense chromatin; a small net sees shapes (`her2path.tumour.look`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from her2path.nuclei.table import Nuclei
from her2path.tumour._rings import sample_rings
from her2path.tumour.look import LOOK_COLUMNS, look

__all__ = ["RING_COLUMNS", "SURROUNDINGS", "surroundings"]

#: raw columns of the rings, OD each: hematoxylin (h) and DAB (d) of the ring and of the
#: outer ring, and hematoxylin inside, with the percentile
RING_COLUMNS = (
    "ring_h20", "ring_h50", "ring_h80", "ring_d30", "ring_d80",
    "outer_h50", "outer_d50", "inside_h10", "inside_h90",
)  # fmt: skip
#: all raw columns that are added
SURROUNDINGS = RING_COLUMNS + LOOK_COLUMNS
#: the ring begins and ends this far outside the nucleus' contour, and the outer ring ends, µm
NEAR_UM, FAR_UM, OUTER_UM = 1.0, 4.0, 8.0

Plane = npt.NDArray[np.float32]


def surroundings(found: Nuclei, h: Plane, d: Plane, mpp: float) -> dict[str, Plane]:
    """Measure the rings around every nucleus and its inside, and look at the pixels.

    Parameters
    ----------
    found : Nuclei
        Nuclei of the block.
    h, d : float32 (rows, columns)
        Hematoxylin and DAB OD of the analysis plane.
    mpp : float
        µm per pixel of the plane.

    Returns
    -------
    dict of float32 (n,)
        `SURROUNDINGS`; a nucleus' values rest on pixels within its radius plus `OUTER_UM`, or
        within 11 µm.
    """
    angle = 2 * np.pi * np.arange(found.radii.shape[1]) / found.radii.shape[1]
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    near = max(1, round(NEAR_UM / mpp))
    far = max(near, round(FAR_UM / mpp))
    beyond = max(far + 1, round(OUTER_UM / mpp))
    out = np.zeros((len(found), len(RING_COLUMNS)), np.float32)
    sample_rings(h, d, found.y, found.x, found.radii, cos, sin, near, far, beyond, out)
    rings = {name: np.ascontiguousarray(out[:, i]) for i, name in enumerate(RING_COLUMNS)}
    return rings | look(found, h, d, mpp)
