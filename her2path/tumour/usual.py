"""How large and dark a slide's nuclei usually are: measured once, from a sample of its tissue."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from her2path.nuclei import find_nuclei
from her2path.settings import NucleiSettings

__all__ = ["usual_nuclei", "usual_of"]

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


def usual_nuclei(
    planes: Iterable[tuple[F32, F32]], mpp: float, settings: NucleiSettings
) -> Usual | None:
    """Return the usual nuclei of a slide, for `TumourSettings.usual_nuclei`.

    Parameters
    ----------
    planes : iterable of (h, d)
        Hematoxylin and DAB OD of sampled tissue, each at least about 100 µm wide.
    mpp : float
        µm per pixel.
    settings : NucleiSettings
        With the slide's contrast.
    """
    parts = [np.empty((3, 0), np.float32)]
    rim = RIM_UM / mpp
    for h, d in planes:
        found = find_nuclei(h, d, mpp, settings)
        rows, columns = h.shape
        inner = (found.y > rim) & (found.y < rows - rim)
        inner &= (found.x > rim) & (found.x < columns - rim)
        area = found.area_px * np.float32(mpp * mpp)
        parts.append(np.stack([area, found.hematoxylin, found.confidence])[:, inner])
    area, od, confidence = np.concatenate(parts, axis=1)
    return usual_of(area, od, confidence)
