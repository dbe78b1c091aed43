"""What lies around every nucleus, measured in pass 1 while the pixels are at hand.

Epithelial cells have stained cytoplasm, lymphocytes hardly any, and stromal nuclei lie in pale
fibres: a ring around the nucleus tells them apart better than the nucleus alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from her2path.nuclei.table import Nuclei
from her2path.tumour._rings import sample_rings

__all__ = ["RING_COLUMNS", "surroundings"]

#: the raw columns that are added, OD each: hematoxylin (20 %, median) and DAB (30 %, 80 %)
RING_COLUMNS = ("ring_h20", "ring_h50", "ring_d30", "ring_d80")
#: the ring begins and ends this far outside the nucleus' contour, µm
NEAR_UM, FAR_UM = 1.0, 4.0

Plane = npt.NDArray[np.float32]


def surroundings(found: Nuclei, h: Plane, d: Plane, mpp: float) -> dict[str, Plane]:
    """Measure the ring around every nucleus.

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
        `RING_COLUMNS`; a nucleus' values rest on pixels within its radius plus 4 µm.
    """
    angle = 2 * np.pi * np.arange(found.radii.shape[1]) / found.radii.shape[1]
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    near = max(1, round(NEAR_UM / mpp))
    far = max(near, round(FAR_UM / mpp))
    out = np.zeros((len(found), len(RING_COLUMNS)), np.float32)
    sample_rings(h, d, found.y, found.x, found.radii, cos, sin, near, far, out)
    return {name: np.ascontiguousarray(out[:, i]) for i, name in enumerate(RING_COLUMNS)}
