"""How large and dark a slide's nuclei usually are: measured once, from a sample of its tissue."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from her2path.nuclei import find_nuclei
from her2path.settings import NucleiSettings

__all__ = ["sampled_nuclei", "usual_nuclei", "usual_of"]

F32 = npt.NDArray[np.float32]
Usual = tuple[float, float, float]

#: nuclei count above this confidence, and from this many on
TRUSTED, FEWEST = 0.5, 40
#: nuclei this near to a sample's edge are cut, and do not count, µm
RIM_UM = 8.0


def usual_of(area_um2: F32, hematoxylin_od: F32, confidence: F32) -> Usual | None:
    """Return the usual nuclei of a sample of nuclei (n,).

    Returns
    -------
    (float, float, float) or None
        Median and 95th percentile of the area, µm²; median hematoxylin, OD. None where too few
        nuclei are trusted.
    """
    trusted = confidence > TRUSTED
    if trusted.sum() < FEWEST:
        return None
    area, od = area_um2[trusted].astype(np.float64), hematoxylin_od[trusted].astype(np.float64)
    middle, large = np.percentile(area, (50.0, 95.0))
    return float(middle), float(large), float(np.median(od))


def sampled_nuclei(planes: tuple[F32, F32], mpp: float, settings: NucleiSettings) -> F32:
    """Return area (µm²), hematoxylin OD and confidence (3, n) of the nuclei of sampled tissue.

    Parameters
    ----------
    planes : (h, d)
        Hematoxylin and DAB OD, at least about 100 µm wide.
    mpp : float
        µm per pixel.
    settings : NucleiSettings
        With the slide's contrast.
    """
    h, d = planes
    found = find_nuclei(h, d, mpp, settings)
    rim, (rows, columns) = RIM_UM / mpp, h.shape
    inner = (found.y > rim) & (found.y < rows - rim)
    inner &= (found.x > rim) & (found.x < columns - rim)
    area = found.area_px * np.float32(mpp * mpp)
    return np.stack([area, found.hematoxylin, found.confidence])[:, inner]


def usual_nuclei(samples: Iterable[F32]) -> Usual | None:
    """Return the usual nuclei of a slide from its `sampled_nuclei`."""
    area, od, confidence = np.concatenate([np.empty((3, 0), np.float32), *samples], axis=1)
    return usual_of(area, od, confidence)
