"""Pass 1: what the pixels say about the membrane, ray by ray."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from her2path.cells.membrane import _kernels
from her2path.cells.membrane._lines import Line
from her2path.cells.membrane.columns import pack
from her2path.cells.rings import RAYS

__all__ = ["HALO_UM", "Outlined", "measure_rays"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
#: how far beyond a cell's border a line is sampled, µm
HALO_UM = 4.0
#: the raw column of every measure of a line
LINE_COLUMNS = {
    "line_r": Line.PLACE_UM,
    "line_mass": Line.MASS_OD_UM,
    "line_crest": Line.CREST_OD,
    "line_width": Line.WIDTH_UM,
}


class Outlined(Protocol):
    """What is needed of cells: centres and outlines in analysis pixels."""

    @property
    def x(self) -> F64:
        """Columns of the centres, (N,), multiples of 1/16 px."""

    @property
    def y(self) -> F64:
        """Rows of the centres, (N,), multiples of 1/16 px."""

    @property
    def nucleus(self) -> F32:
        """Nuclear radii, (N, 48), px; ray k at 2 pi k / 48 clockwise on screen."""

    @property
    def border(self) -> F32:
        """Radii of the border, (N, 48), px."""

    @property
    def own(self) -> F32:
        """Probability that the own membrane is stained, (N, 24)."""


def measure_rays(
    rgb: NDArray[np.uint8], dab: F32, factor: int, mpp: float, cells: Outlined
) -> dict[str, NDArray[np.generic]]:
    """Measure the DAB line along each cell's border at the slide's finest level.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
        Level-0 block; its first pixel is the first of the analysis pixel (0, 0).
    dab : (3, 256) float32
        DAB OD of a grey level in each channel: the pixel's is their sum.
    factor : int
        Level-0 pixels along one analysis pixel.
    mpp : float
        µm per level-0 pixel.
    cells : Outlined
        N cells, analysis pixels.

    Returns
    -------
    dict
        The `RAW_COLUMNS`, (N,), (N, 24) or (N, 48).

    Raises
    ------
    ValueError
        Where the shapes do not fit.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or dab.shape != (3, 256):
        raise ValueError(f"rgb (H, W, 3) and dab (3, 256), not {rgb.shape} and {dab.shape}")
    n = len(cells.x)
    lines = np.zeros((len(Line), n, RAYS), np.float32)
    cytoplasm = np.zeros(n, np.float32)
    if n and rgb.size:
        _kernels.measure(
            np.ascontiguousarray(rgb),
            np.ascontiguousarray(dab, np.float32),
            int(factor),
            float(mpp),
            np.stack([cells.x, cells.y]).astype(np.float64),
            np.stack([cells.nucleus, cells.border]).astype(np.float32),
            lines,
            cytoplasm,
        )
    found: dict[str, NDArray[np.generic]] = {
        name: pack(name, lines[line]) for name, line in LINE_COLUMNS.items()
    }
    found["line_own"] = pack("line_own", cells.own)
    found["cytoplasm_od"] = cytoplasm
    return found
