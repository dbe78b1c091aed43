"""Cell bodies: a closed border around every nucleus, snapped to a stained membrane.

Each nucleus sends out 48 rays. A circular dynamic programme picks one radius a ray: the first
strong DAB line outward where there is one, otherwise the nucleus' edge plus an expansion, held
back by the power line to the neighbouring nuclei.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from her2path.schema import OUTLINE_RAYS
from her2path.settings import CellSettings

__all__ = ["Borders", "Contours", "grow_cells", "halo_um"]

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


class Contours(Protocol):
    """What is needed of nuclei: centres and star-convex radii in analysis pixels."""

    @property
    def y(self) -> F32:
        """Rows of the centres, (N,), multiples of 1/16 px."""

    @property
    def x(self) -> F32:
        """Columns of the centres, (N,), multiples of 1/16 px."""

    @property
    def radii(self) -> F32:
        """Nuclear radii, (N, 48), px; ray k at 2 pi k / 48 clockwise on screen."""


@dataclass(frozen=True)
class Borders:
    """Borders of N cells on 48 rays.

    Attributes
    ----------
    radii : (N, 48) float32
        Distance of the border from the nucleus' centre, analysis px.
    kind : (N, 48) uint8
        0 expansion of the nucleus, 1 a DAB line, 2 the limit to a neighbour.
    behind : (N, 48) uint8
        1 where a second line follows outward of the first, with no nucleus between: a cell
        whose nucleus the section missed, perhaps.
    """

    radii: F32
    kind: U8
    behind: U8


def halo_um(settings: CellSettings) -> float:
    """Return how much context (µm) with correct nuclei the border of a cell needs."""
    return 2.0 * settings.max_radius_um + 4.0


def grow_cells(
    nuclei: Contours,
    d: F32,
    h: F32,
    mpp_a: float,
    settings: CellSettings,
    wanted: NDArray[np.bool_] | None = None,
) -> Borders:
    """Return the cells' borders.

    Parameters
    ----------
    nuclei : Contours
        N nuclei of the block, in analysis pixels.
    d, h : (H, W) float32
        DAB and hematoxylin OD of the analysis plane. Only `d` decides today.
    mpp_a : float
        µm per analysis pixel.
    settings : CellSettings
        `max_radius_um` and `expansion_um`.
    wanted : (N,) bool, optional
        Cells to be grown (all by default); the others only stand in their way and keep their
        nucleus as border.

    Returns
    -------
    Borders

    Raises
    ------
    ValueError
        Where the planes differ in shape or the nuclei do not have 48 rays.
    """
    from her2path.cells import _kernels

    if d.shape != h.shape or d.ndim != 2:
        raise ValueError(f"d and h must be planes of one shape, not {d.shape} and {h.shape}")
    if nuclei.radii.shape != (nuclei.x.size, OUTLINE_RAYS):
        raise ValueError(f"nuclei need {OUTLINE_RAYS} radii each, not {nuclei.radii.shape}")
    if nuclei.x.size == 0 or d.size == 0:
        empty = np.zeros((nuclei.x.size, OUTLINE_RAYS), np.uint8)
        return Borders(np.asarray(nuclei.radii, np.float32), empty, empty)
    radii, kind, behind = _kernels.grow(
        np.ascontiguousarray(d, np.float32),
        (
            nuclei.x.astype(np.float64),
            nuclei.y.astype(np.float64),
            np.ascontiguousarray(nuclei.radii, np.float32),
        ),
        np.ones(nuclei.x.size, np.bool_) if wanted is None else wanted,
        float(mpp_a),
        float(settings.max_radius_um),
        float(settings.expansion_um),
    )
    return Borders(radii, kind, behind)
