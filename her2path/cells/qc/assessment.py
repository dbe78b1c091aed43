"""Is the tissue in focus, and what else should a reader know.

Focus is read from the structure function of the analysis plane: how much grey levels differ at
about 1 µm compared with about 4 µm. The ratio does not depend on how strongly tissue is stained;
blur removes the fine differences and leaves the coarse ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from her2path.core.flags import FLAGS, flag, merge
from her2path.core.results import QcFlag
from her2path.core.settings import QcSettings

__all__ = ["FLAGS", "FOCUS_LIMIT", "assess", "flag", "focus_cells", "focus_share",
           "structure"]  # fmt: skip

#: the smallest ratio of a map cell in focus
FOCUS_LIMIT = 0.10
#: distances compared, µm
FINE_UM, COARSE_UM = 1.0, 4.0
#: less contrast than this at the coarse distance says nothing (squared grey levels)
LEAST_CONTRAST = 60.0
#: squared grey levels that noise and JPEG add at every distance
NOISE = 4.0
#: nuclei paler, or darker, than this deserve a word (median hematoxylin OD)
PALE_H, STRONG_H = 0.12, 0.70
#: DAB OD of the stroma from which faint staining is unreliable
MOST_BACKGROUND = 0.06
#: less in focus than this deserves a word (share of the tissue)
PARTLY = 0.85
#: where fewer map cells than this have any contrast, all is blurred (share of the tissue)
LEAST_JUDGED = 0.04
#: less tissue than this deserves a word, mm²
LITTLE_MM2 = 0.05
#: grey levels that one OD is worth near white: 240 ln 10
GREY_PER_OD = 550.0


@njit(cache=True, nogil=True)
def _grey(plane, scale, out):  # type: ignore[no-untyped-def]
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            v = plane[y, x] * scale
            out[y, x] = np.int16(min(max(v, np.float32(-4096.0)), np.float32(4096.0)))


@njit(cache=True, nogil=True)
def _squares(row, right, below, size):  # type: ignore[no-untyped-def]
    """Return the sum of the squared differences to both neighbours."""
    total = np.int64(0)
    for x in range(size):
        g = np.int32(row[x])
        a = np.int32(right[x]) - g
        b = np.int32(below[x]) - g
        total += np.int32(a * a) + np.int32(b * b)
    return total


@njit(cache=True, nogil=True)
def _structure(gray, cell, fine, coarse, noise, least, out, contrast):  # type: ignore[no-untyped-def]
    # differences stay inside the map cell: nothing depends on how the plane was cut
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            y0 = j * cell
            x0 = i * cell
            y1 = min(y0 + cell, gray.shape[0])
            x1 = min(x0 + cell, gray.shape[1])
            near = np.int64(0)
            far = np.int64(0)
            count = np.int64(0)
            for y in range(y0, y1 - coarse, 2):  # every other row is enough
                row = gray[y, x0:x1]
                near += _squares(row, row[fine:], gray[y + fine, x0:x1], x1 - x0 - coarse)
                far += _squares(row, row[coarse:], gray[y + coarse, x0:x1], x1 - x0 - coarse)
                count += 2 * max(x1 - x0 - coarse, 0)
            out[j, i] = np.nan
            contrast[j, i] = 0.0
            if count > 0:
                top = max(np.float64(near) / count - noise, 0.0)
                low = np.float64(far) / count - noise
                contrast[j, i] = np.float32(max(low, 0.0))
                if low >= least:
                    out[j, i] = np.float32(top / low)


def focus_cells(
    plane: npt.NDArray[np.uint8] | npt.NDArray[np.float32], cell_px: int, mpp: float = 0.5
) -> npt.NDArray[np.float32]:
    """Measure the focus of every map cell.

    Parameters
    ----------
    plane : float32 (h, w), uint8 (h, w) or (h, w, 3)
        The analysis plane: the sum of both stains' optical density, or grey levels, or colours (the
        green channel is used, in which both stains show).
    cell_px : int
        Side of a map cell in pixels of the plane; 16 µm or more.
    mpp : float
        µm per pixel of the plane.

    Returns
    -------
    float32 (ceil(h / cell_px), ceil(w / cell_px))
        Fine over coarse contrast, 0 (blurred) to about 0.8; NaN where there is too little contrast
        to tell (glass, even stroma). A map cell's value rests on its own pixels alone.
    """
    return structure(plane, cell_px, mpp)[0]


def structure(
    plane: npt.NDArray[np.uint8] | npt.NDArray[np.float32], cell_px: int, mpp: float = 0.5
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return `focus_cells` and the contrast it rests on.

    The contrast is the mean squared difference of grey levels at the coarse distance, noise taken
    off; 0 in even places.
    """
    flat: npt.NDArray[Any] = plane if plane.ndim == 2 else plane[..., 1]
    grey = np.empty(flat.shape, np.int16)
    if flat.dtype == np.uint8:
        grey[:] = flat
    else:
        _grey(np.ascontiguousarray(flat, dtype=np.float32), np.float32(GREY_PER_OD), grey)
    shape = (-(-flat.shape[0] // cell_px), -(-flat.shape[1] // cell_px))
    out = np.empty(shape, np.float32)
    fine, coarse = max(1, round(FINE_UM / mpp)), max(2, round(COARSE_UM / mpp))
    contrast = np.empty(shape, np.float32)
    _structure(grey, cell_px, fine, coarse, NOISE, LEAST_CONTRAST, out, contrast)
    return out, contrast


def focus_share(focus: npt.NDArray[np.floating]) -> float | None:
    """Return the share (0..1) of the judged map cells that are in focus; None where none was."""
    judged = focus[np.isfinite(focus)]
    return float((judged >= FOCUS_LIMIT).mean()) if judged.size else None


def assess(
    settings: QcSettings,
    *,
    focus: npt.NDArray[np.floating] | None = None,
    bad_fraction: float = 0.0,
    tissue_area_mm2: float | None = None,
    nucleus_h_od: float | None = None,
    background_dab_od: float | None = None,
    known: tuple[QcFlag, ...] = (),
) -> list[QcFlag]:
    """Turn what was measured on a slide into flags.

    Parameters
    ----------
    settings : QcSettings
        Limits.
    focus : float (any shape), optional
        `focus_cells` of the map cells in tissue; NaN where it could not be told.
    bad_fraction : float
        Share of the tissue (0..1) that could not be read.
    tissue_area_mm2 : float, optional
        Area of the tissue mask.
    nucleus_h_od : float, optional
        Median hematoxylin OD of the nuclei.
    background_dab_od : float, optional
        Median DAB OD in and around cells that are not tumour.
    known : tuple of QcFlag
        Flags found earlier; joined, one per code.

    Returns
    -------
    list of QcFlag
        Gravest first.
    """
    found = _of_focus(focus, settings) + _of_stain(nucleus_h_od, background_dab_od)
    if bad_fraction > 0:
        share = f"Share of the tissue: {100 * bad_fraction:.2g} %."
        found.append(flag("UNREADABLE_TILES", share))
    if tissue_area_mm2 is not None and tissue_area_mm2 <= 0:
        found.append(flag("NO_TISSUE"))
    elif tissue_area_mm2 is not None and tissue_area_mm2 < LITTLE_MM2:
        found.append(flag("LITTLE_TISSUE", f"Area: {tissue_area_mm2:.3f} mm²."))
    return list(merge(found, known))


def _of_focus(focus: npt.NDArray[np.floating] | None, settings: QcSettings) -> list[QcFlag]:
    """Flag a slide, or part of it, that is out of focus."""
    if focus is None or focus.size == 0:
        return []
    if np.isfinite(focus).mean() < LEAST_JUDGED:
        return [flag("OUT_OF_FOCUS", "The tissue shows no detail at all.")]
    share = focus_share(focus) or 0.0
    sharp = f"In focus: {100 * share:.0f} %."
    if share < settings.min_focus:
        return [flag("OUT_OF_FOCUS", sharp)]
    return [flag("PARTLY_OUT_OF_FOCUS", sharp)] if share < PARTLY else []


def _of_stain(nucleus_h_od: float | None, background_dab_od: float | None) -> list[QcFlag]:
    """Flag stains that are too weak or too strong."""
    flags = []
    if nucleus_h_od is not None:
        median = f"Median nuclear OD: {nucleus_h_od:.2f}."
        if nucleus_h_od < PALE_H:
            flags.append(flag("PALE_STAIN", median))
        elif nucleus_h_od > STRONG_H:
            flags.append(flag("STRONG_COUNTERSTAIN", median))
    if background_dab_od is not None and background_dab_od > MOST_BACKGROUND:
        flags.append(flag("HIGH_BACKGROUND", f"Median OD outside tumour: {background_dab_od:.2f}."))
    return flags
