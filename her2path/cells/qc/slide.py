"""What quality control says of a slide as a whole: its pixel size, its softness, what is left."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from her2path.cells.qc.codes import CODES
from her2path.core.flags import flag
from her2path.core.results import QcFlag
from her2path.core.settings import QcSettings

__all__ = ["Finds", "area_flags", "blur_um", "hidden_flag", "mark_flag", "mpp_factor", "soft_flag"]

F32 = npt.NDArray[np.float32]

#: fewer finds say nothing of the pixel size
LEAST_FINDS = 300
#: nuclear area of sure finds, µm², beyond which the pixel size is doubted, and how sure the finder
#: is of its best tenth (log odds) where it is right: between the cores' values at the true pixel
#: size and at half and twice of it (docs/qc.md)
SMALL_UM2, LARGE_UM2, SURE_HEAT = 15.1, 14.8, 0.75
#: DAB OD inside a nucleus that hides its hematoxylin: twice the median nuclear OD of the cores
HIDDEN_OD = 0.30
#: the ratio of contrasts (1 over 4 µm) of a scan that is read at twice its pixel size
COARSE_RATIO = 0.42
#: pooled ratio of contrasts at 1 and 4 µm: blur (sigma, µm). Cores blurred by known amounts; the
#: sharpest scans hold about 0.22 µm themselves
_RATIO = (0.07, 0.09, 0.13, 0.19, 0.30, 0.45, 0.62)
_SIGMA = (2.01, 1.52, 1.02, 0.78, 0.55, 0.37, 0.22)
#: full width of a faint line, µm (Scheel 2018), as a Gaussian's sigma
FAINT_SIGMA = 0.64 / 2.355


@dataclass(frozen=True)
class Finds:
    """Of all finds: area of the nucleus (µm²), log odds, probability of none, DAB OD within."""

    area_um2: F32
    heat: F32
    nothing: F32
    dab: F32


def mpp_factor(finds: Finds, ratio: float) -> float:
    """Return by how much the stated pixel size seems too large: 2.0, 0.5, or 1.0.

    Parameters
    ----------
    finds : Finds
        Nuclei as they were found at the stated pixel size.
    ratio : float
        Contrast at 1 µm over contrast at 4 µm of the tissue.

    Returns
    -------
    float
        The stated pixel size over the likely one. Nuclei that are too small or too large are also
        found with less certainty: both have to agree.
    """
    if len(finds.area_um2) < LEAST_FINDS:
        return 1.0
    sure = finds.nothing < 0.3
    area = float(np.median(finds.area_um2[sure])) if sure.any() else 0.0
    if area <= 0:
        return 1.0
    doubt = float(np.percentile(finds.heat, 90)) - SURE_HEAT
    if 2 * math.log(area / SMALL_UM2) + doubt < 0:
        return 0.5
    coarse = 0.5 * math.log(max(ratio, 1e-3) / COARSE_RATIO)
    return 2.0 if 2 * math.log(area / LARGE_UM2) - 2 * doubt - coarse > 0 else 1.0


def hidden_flag(finds: Finds, settings: QcSettings) -> list[QcFlag]:
    """Say where many nuclei are as brown as a membrane: they lie under it, and others are lost."""
    sure = finds.nothing < 0.3
    share = float((finds.dab[sure] > HIDDEN_OD).mean()) if sure.any() else 0.0
    if share <= settings.max_hidden:
        return []
    return [flag("NUCLEI_HIDDEN", f"Share of the nuclei: {100 * share:.0f} %.")]


def blur_um(ratio: float) -> float:
    """Return the blur (sigma of a Gaussian, µm) that a pooled ratio of contrasts means."""
    return round(float(np.interp(ratio, _RATIO, _SIGMA)), 2)


def soft_flag(blur: float, settings: QcSettings) -> list[QcFlag]:
    """Say what blur does to faint lines, where there is too much of it."""
    if blur <= settings.max_blur_um:
        return []
    kept = FAINT_SIGMA / math.hypot(FAINT_SIGMA, blur)
    return [flag("SOFT", f"Blur (sigma): about {blur:.2f} µm; a faint line of 0.64 µm keeps "
                         f"{100 * kept:.0f} % of its height.")]  # fmt: skip


def area_flags(shares: dict[str, float], left_out: float, settings: QcSettings) -> list[QcFlag]:
    """Say how much of the tissue is left out, and why.

    Parameters
    ----------
    shares : dict of str to float
        Share of the tissue (0..1) by the name of a code.
    left_out : float
        Share of the tissue that is left out.
    settings : QcSettings
        What is left out, and above which share the slide fails.
    """
    told = [
        f"{CODES[n].words} {100 * s:.2g} %" for n, s in sorted(shares.items(), key=lambda i: -i[1])
        if s >= 0.0005 and n != "no_epithelium" and getattr(settings, n)
    ]  # fmt: skip
    flags = []
    if shares.get("folds", 0.0) > FOLDED:
        flags.append(flag("FOLDS", f"Share of the tissue: {100 * shares['folds']:.1f} %."))
    if shares.get("blurry", 0.0) > PARTLY:
        flags.append(
            flag("PARTLY_OUT_OF_FOCUS", f"In focus: {100 * (1 - shares['blurry']):.0f} %.")
        )
    if left_out < 0.0005 or not told:
        return flags
    text = f"Of the tissue: {', '.join(told)}."
    grave = left_out > MUCH
    return [*flags, flag("ARTEFACTS", text, "warning" if grave else "info")]


#: share of the tissue in folds, and out of focus, that deserves a warning
FOLDED, PARTLY = 0.004, 0.15
#: more of the tissue left out than this deserves a warning
MUCH = 0.10


def mark_flag(overview: npt.NDArray[np.uint8]) -> list[QcFlag]:
    """Find scale bars and other marks burnt into the picture: straight, of one pure colour.

    Parameters
    ----------
    overview : uint8 (h, w, 3)
        The slide, at any pixel size.
    """
    import cv2

    low, high = overview.min(axis=2), overview.max(axis=2)
    pure = (high <= 12) | ((high >= 245) & (low <= 12))
    _, _, stats, _ = cv2.connectedComponentsWithStats(pure.astype(np.uint8), connectivity=4)
    least = 0.03 * max(overview.shape[:2])
    for x, y, w, h, area in stats[1:]:
        inside = x > 0 and y > 0 and x + w < overview.shape[1] and y + h < overview.shape[0]
        bar = max(w, h) >= max(least, 12) and max(w, h) >= 4 * min(w, h)
        if inside and bar and area >= 0.9 * w * h:
            return [flag("BURNT_IN_MARK", f"A bar of {w} x {h} pixels of the overview.")]
    return []
