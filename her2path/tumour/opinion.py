"""A second opinion on nuclei that the detector doubts.

The detector's own score sees ratios of one contour. A faint nucleus, or one that lies half under
another, scores low beside a clear one, and so does a fold or a crumb; the net that looks at the
pixels tells most of these apart.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from her2path.nuclei import Nuclei, are_sure
from her2path.settings import NucleiSettings
from her2path.tumour.look import look

__all__ = ["second_opinion"]

#: a doubtful find stays where the net's output for a tumour nucleus exceeds the others by this
AHEAD = np.float32(0.0)

F32 = npt.NDArray[np.float32]


def second_opinion(
    found: Nuclei,
    h: F32,
    d: F32,
    mpp: float,
    settings: NucleiSettings,
    weights: tuple[F32, ...] | None = None,
) -> Nuclei:
    """Return the nuclei of which the detector is sure, and doubtful ones that look like tumour.

    Parameters
    ----------
    found : Nuclei
        Of `find_nuclei` with ``doubtful``.
    h, d : float32 (rows, columns)
        Hematoxylin and DAB OD of the analysis plane.
    mpp : float
        µm per pixel of the plane.
    settings : NucleiSettings
        With which they were found.
    weights : tuple of float32 arrays, optional
        Of the net, see `look`.

    Returns
    -------
    Nuclei
        In their order. One nucleus' fate rests on pixels within 11 µm, and on nothing else.
    """
    keep = are_sure(found, settings)
    doubtful = np.flatnonzero(~keep)
    seen = look(found.take(doubtful), h, d, mpp, weights)["look_tumour"]
    keep[doubtful] = seen > AHEAD
    return found.take(keep)
