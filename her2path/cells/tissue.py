"""Where tissue is, on an overview of 2 to 16 µm per pixel.

IHC tissue may be nearly as pale as glass, so the mask rests on optical density above the local
white of the glass, on texture (nuclei are darker than what lies around them) and on colour; pen
marks, dark borders, dust and thin lines are taken out.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from her2path.cells.white import White, glass_level, optical_density
from her2path.core.flags import flag
from her2path.core.results import QcFlag
from her2path.core.settings import TissueSettings

__all__ = ["Tissue", "find_tissue", "overview_mpp"]

Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]

#: a dark slide: median grey level
DARK_MEDIAN = 60.0
#: lumens and vessels larger than this stay out, µm²
LARGEST_HOLE_UM2 = 12_000.0
#: what is thinner is a line or lint, µm
THINNEST_UM = 24.0
#: less tissue than this deserves a word, mm²
LITTLE_MM2 = 0.05
#: reach of the smoothing, µm
SMOOTH_UM = 16.0
#: glass lies this close to the white point, OD
GLASS_OD = 0.006
#: pixels that an overview should have along its shorter side, and the finest one, µm per pixel
OVERVIEW_PX = 256
FINEST_MPP = 2.0


@dataclass(frozen=True)
class Tissue:
    """Masks on the overview's grid, bool (h, w) each.

    ``mask`` is what is analysed: pen marks are out of it where settings say so, folds are in it.
    """

    mask: Mask
    pen: Mask
    fold: Mask
    mpp: float
    flags: tuple[QcFlag, ...]
    area_mm2: float
    white: tuple[float, float, float]


def overview_mpp(width_um: float, height_um: float, settings: TissueSettings) -> float:
    """Return the pixel size to make the overview at, µm.

    That of the settings; finer, down to 2 µm, for an image so small that it would leave no pixels
    to judge (a single field or a tissue-microarray core).
    """
    fit = min(width_um, height_um) / OVERVIEW_PX
    return min(settings.mpp, max(FINEST_MPP, fit))


def find_tissue(overview: Pixels, mpp: float, settings: TissueSettings) -> Tissue:
    """Find tissue on an overview.

    Parameters
    ----------
    overview : uint8 (h, w, 3)
        The slide, its origin at the level-0 origin.
    mpp : float
        µm per pixel of the overview.
    settings : TissueSettings
        Lower limits of OD and area, and whether pen marks are left out.

    Returns
    -------
    Tissue
        The mask is empty, with the flag ``NO_TISSUE``, where there is none.
    """
    rgb = np.ascontiguousarray(overview)
    dark = _dark_border(rgb, mpp)
    seen = rgb[~dark]
    if seen.size and float(np.median(seen.mean(axis=1))) < DARK_MEDIAN:
        return _dark_slide(rgb, mpp, settings)
    white = glass_level([rgb])
    od = optical_density(rgb, white.level)
    od[dark] = 0.0
    pen = _pen(od, dark, mpp)
    tissue = _stained(od, dark | pen, mpp, settings, white.glass)
    mask = _tidy(tissue, mpp, settings.min_area_um2)
    if settings.exclude_pen:
        mask &= ~pen
    fold = _folds(od, mask & ~pen, mpp)
    area = float(mask.sum()) * mpp * mpp * 1e-6
    flags = _flags(mask, pen, dark, white, mpp, area)
    return Tissue(mask, pen, fold, mpp, flags, area, white.level)


def _flags(
    mask: Mask, pen: Mask, dark: Mask, white: White, mpp: float, area: float
) -> tuple[QcFlag, ...]:
    """Say what a reader should know."""
    found = []
    if not mask.any():
        found.append(flag("NO_TISSUE"))
    elif area < LITTLE_MM2:
        found.append(flag("LITTLE_TISSUE", f"Area: {area:.3f} mm²."))
    if pen.any():
        found.append(flag("PEN_MARKS", f"Area: {pen.sum() * mpp * mpp * 1e-6:.2f} mm²."))
    if dark.mean() > 0.002:
        found.append(flag("DARK_BORDER"))
    if not white.glass:
        found.append(flag("NO_GLASS"))
    return tuple(found)


def _odd(um: float, mpp: float) -> int:
    """Return an odd number of pixels of about this length, at least 3."""
    return max(3, 2 * round(um / mpp / 2) + 1)


def _disc(um: float, mpp: float) -> Pixels:
    """Return a round structuring element of this diameter."""
    n = _odd(um, mpp)
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (n, n)), np.uint8)


def _morph(mask: Mask, op: int, um: float, mpp: float) -> Mask:
    """Open, close, dilate or erode with a disc of a diameter in µm."""
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), op, _disc(um, mpp)) > 0)


def _keep_large(mask: Mask, area_px: float) -> Mask:
    """Drop pieces (8-connected) below an area."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= area_px
    keep[0] = False
    return np.asarray(keep[labels])


def _dark_border(rgb: Pixels, mpp: float) -> Mask:
    """Return black regions that touch the edge of the image: slide holder, unscanned parts."""
    black = rgb.max(axis=2) < 45
    if not black.any():
        return black
    _, labels = cv2.connectedComponents(black.astype(np.uint8), connectivity=8)
    rim = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    touching = np.isin(labels, rim[rim > 0])
    if not touching.any() or touching.mean() > 0.6:  # all is dark: that is no border
        return np.zeros_like(black)
    return _morph(_keep_large(touching, 16.0), cv2.MORPH_DILATE, 6 * mpp, mpp)


def _dark_slide(rgb: Pixels, mpp: float, settings: TissueSettings) -> Tissue:
    """Return what shines on a dark ground, flagged, so that it can be looked at and refused."""
    grey = rgb.max(axis=2)
    floor = float(np.median(grey))
    mask = _tidy(grey > floor + 20.0, mpp, settings.min_area_um2)
    none = np.zeros(mask.shape, bool)
    area = float(mask.sum()) * mpp * mpp * 1e-6
    flags = (flag("DARK_BACKGROUND"),)
    return Tissue(mask, none, none, mpp, flags, area, (255.0, 255.0, 255.0))


def _pen(od: Plane, dark: Mask, mpp: float) -> Mask:
    """Return pen strokes: colours that hematoxylin and DAB cannot mix to, or black, in strokes.

    Strong ink seeds a stroke; paler ink of the same colour beside it joins.
    """
    r, g, b = od[..., 0], od[..., 1], od[..., 2]
    norm = np.sqrt(r * r + g * g + b * b) + 1e-6
    ur, ug, ub = r / norm, g / norm, b / norm
    strong, pale = norm > 0.35, norm > 0.12
    spread = np.maximum(np.maximum(ur, ug), ub) - np.minimum(np.minimum(ur, ug), ub)
    inks = {
        "green": (ur - ug > 0.10) & (ub - ug > 0.04),
        # cyan inks take red alone; violet-blue ones are hematoxylin's hue without its blue part
        "blue": ((ur - np.maximum(ug, ub) > 0.16) & (ub < 0.36))
        | ((ub < 0.22) & (ur > 0.55) & (norm > 0.45)),
        "red": (ug - ur > 0.50) & (ub - ur > 0.28) & (ub < ug + 0.05),
        "black": (spread < 0.16) & (norm > 1.1),
    }
    pen = np.zeros(dark.shape, bool)
    for name, ink in inks.items():
        seed = ink & strong & ~dark
        seed = _keep_large(_morph(seed, cv2.MORPH_OPEN, 3 * mpp, mpp), 2_500.0 / mpp**2)
        if not seed.any():
            continue
        near = _morph(seed, cv2.MORPH_DILATE, 40.0 if name == "black" else 120.0, mpp)
        rim = near & (ink & pale | (name == "black") & (spread < 0.25) & strong)
        pen |= _morph(seed | rim, cv2.MORPH_DILATE, 3 * mpp, mpp)
    return _morph(pen, cv2.MORPH_CLOSE, 8 * mpp, mpp) if pen.any() else pen


def _glass_noise(smooth: Plane, rough: Plane, out: Mask) -> tuple[float, float]:
    """Return the spread of the glass's smoothed OD and its median roughness."""
    glass = ~out & (np.abs(smooth) < GLASS_OD)
    if glass.sum() < 300:
        return 0.0, 0.0
    return float(1.4826 * np.median(np.abs(smooth[glass]))), float(np.median(rough[glass]))


def _local_white(grey: Plane, glass: Mask, mpp: float) -> Plane:
    """Return the glass's OD offset, smoothed over about 1.5 mm; 0 where no glass is near."""
    n = _odd(1500.0, mpp)
    weight = glass.astype(np.float32)
    total = cv2.boxFilter(grey * weight, cv2.CV_32F, (n, n), normalize=False)
    count = cv2.boxFilter(weight, cv2.CV_32F, (n, n), normalize=False)
    return np.asarray(total / (count + 0.05 * n * n), np.float32)


def _stained(od: Plane, out: Mask, mpp: float, settings: TissueSettings, glass: bool) -> Mask:
    """Return pixels that are darker or rougher than glass.

    The limit follows the slide: a clean one shows stroma that takes 2 % of the light, a streaky
    one does not.
    """
    grey = od.mean(axis=2)
    grey[out] = 0.0
    n = _odd(SMOOTH_UM, mpp)
    wide = _odd(48.0, mpp)
    if glass:
        grey = grey - _local_white(grey, ~out & (np.abs(grey) < GLASS_OD), mpp)
    smooth = cv2.GaussianBlur(grey, (n, n), 0)
    mean = cv2.boxFilter(grey, cv2.CV_32F, (wide, wide))
    square = cv2.boxFilter(grey * grey, cv2.CV_32F, (wide, wide))
    rough = np.sqrt(np.maximum(square - mean * mean, 0.0))
    spread, grain = _glass_noise(smooth, rough, out) if glass else (0.0, 0.0)
    level = min(max(settings.min_od, 5.0 * spread), 3.0 * settings.min_od)
    dense = smooth > level
    # without glass the white point may be that of pale tissue: what is rough is tissue all the same
    least = 0.4 * level if glass else -np.inf
    textured = (rough > max(0.6 * settings.min_od, 5.0 * grain)) & (smooth > least)
    return np.asarray((dense | textured) & ~out)


def _tidy(mask: Mask, mpp: float, min_area_um2: float) -> Mask:
    """Close gaps, drop lines, dust and lint, fill small holes."""
    closed = _morph(mask, cv2.MORPH_CLOSE, 40.0, mpp)
    opened = _morph(closed, cv2.MORPH_OPEN, max(THINNEST_UM, 2 * mpp), mpp)
    # a small image is one field: there a tenth of it is enough
    least = min(min_area_um2 / mpp**2, 0.1 * mask.size)
    kept = _keep_large(opened, least)
    holes = ~kept & ~_keep_large(~kept, LARGEST_HOLE_UM2 / mpp**2)
    return kept | holes


#: blue less red OD over mean OD: about -0.6 for hematoxylin, 0.9 for DAB
MOST_BROWN = 0.15


def _folds(od: Plane, mask: Mask, mpp: float) -> Mask:
    """Return long dark ridges, denser than the tissue at their sides and than most of the slide."""
    if not mask.any():
        return mask.copy()
    grey = np.where(mask, od.mean(axis=2), 0.0).astype(np.float32)
    n = _odd(400.0, mpp)
    weight = cv2.boxFilter(mask.astype(np.float32), cv2.CV_32F, (n, n)) + 1e-3
    around = cv2.boxFilter(grey, cv2.CV_32F, (n, n)) / weight
    # a fold has the hue of the tissue beside it; a stained gland is browner
    brown = np.where(mask, od[..., 2] - od[..., 0], 0.0).astype(np.float32)
    hue = cv2.boxFilter(brown, cv2.CV_32F, (n, n)) / weight / np.maximum(around, 0.01)
    alike = np.abs(brown - hue * grey) < 0.25 * grey
    # among 3+ clones the hue beside is brown too: what is mainly DAB is never called a fold
    alike &= brown < MOST_BROWN * grey
    # a nest in pale stroma is twice as dense as what lies around, but no denser than other nests
    rest = grey[mask & (brown < MOST_BROWN * grey)]
    usual = float(np.percentile(rest, 75)) if rest.size else 0.0
    dense = mask & alike & (grey > 1.5 * around) & (grey > max(0.08, 1.4 * usual))
    dense = _morph(dense, cv2.MORPH_CLOSE, 3 * mpp, mpp)
    return _elongated(_morph(dense, cv2.MORPH_OPEN, 16.0, mpp), mpp)


def _elongated(mask: Mask, mpp: float) -> Mask:
    """Keep pieces at least 150 µm long and five times longer than wide."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    keep = np.zeros(len(stats), bool)
    for i in range(1, len(stats)):
        x, y, w, h, area = (int(v) for v in stats[i])
        if max(w, h) * mpp < 100.0:
            continue
        piece = (labels[y : y + h, x : x + w] == i).astype(np.uint8)
        points = cv2.findNonZero(piece)
        _, (a, b), _ = cv2.minAreaRect(points)
        length = max(a, b, 1.0)
        keep[i] = length * mpp >= 150.0 and length >= 5.0 * area / length
    return np.asarray(keep[labels])
