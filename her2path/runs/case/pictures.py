"""Pictures kept with a result, so that report and viewer work without the slide."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path.core.geometry import Box
from her2path.core.schema import PATTERNS
from her2path.io.slide import Slide

__all__ = ["Gallery", "gallery", "thumbnail"]

THUMBNAIL_PX = 1600
PATCH_PX = 64
#: µm that a patch shows
PATCH_UM = 32.0
PER_PATTERN = 12
BORDERLINE = 24
#: odd multiplier of a splitmix step: a fixed, position-free shuffle of cell identities
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Gallery:
    """Patches uint8 (N, 64, 64, 3) and a table with one row each."""

    patches: NDArray[np.uint8]
    table: pa.Table


def thumbnail(overview: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """Return the overview at no more than `THUMBNAIL_PX`, and its reduction."""
    rows, cols = overview.shape[:2]
    scale = max(1.0, max(rows, cols) / THUMBNAIL_PX)
    size = (max(1, round(cols / scale)), max(1, round(rows / scale)))
    small = cv2.resize(overview, size, interpolation=cv2.INTER_AREA)
    return small, cols / size[0]


def gallery(
    slide: Slide, cells: pa.Table, cutoffs: tuple[float, ...], measure: str, complete_at: float
) -> Gallery:
    """Cut patches of tumour cells: some of every pattern, and those nearest to a cut-off.

    Parameters
    ----------
    slide : Slide
        Open slide.
    cells : pyarrow.Table
        Tumour cells with ``cell_id x_px y_px pattern completeness`` and ``measure``.
    cutoffs : three floats
        Intensity cut-offs of ``measure``.
    complete_at : float
        Completeness that separates complete from incomplete.
    """
    pattern = cells.column("pattern").combine_chunks()
    codes = np.asarray(pattern.indices) if len(pattern) else np.zeros(0, np.int8)
    ids = cells.column("cell_id").to_numpy()
    shuffled = np.argsort(_mix(ids), kind="stable")
    picks: list[tuple[int, bool]] = []
    for code in range(len(PATTERNS)):
        some = shuffled[codes[shuffled] == code][:PER_PATTERN]
        picks += [(int(i), False) for i in some]
    picks += [(int(i), True) for i in _borderline(cells, cutoffs, measure, complete_at)]
    patches = [_patch(slide, cells, i) for i, _ in picks]
    rows = cells.take(pa.array([i for i, _ in picks], pa.int64()))
    rows = rows.select(["cell_id", "pattern", "x_px", "y_px"])
    table = rows.append_column("borderline", pa.array([b for _, b in picks], pa.bool_()))
    table = table.append_column("mpp", pa.array([PATCH_UM / PATCH_PX] * len(picks), pa.float32()))
    stacked = np.stack(patches) if patches else np.zeros((0, PATCH_PX, PATCH_PX, 3), np.uint8)
    return Gallery(stacked, table)


def _mix(ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        z = ids.astype(np.uint64) * _GOLDEN
        z ^= z >> np.uint64(31)
        return z * _GOLDEN


def _borderline(
    cells: pa.Table, cutoffs: tuple[float, ...], measure: str, complete_at: float
) -> NDArray[np.int64]:
    """Return the cells nearest to a cut-off, relative in the measure or in completeness."""
    value = cells.column(measure).to_numpy().astype(np.float64)
    stained = value > 0
    near = np.full(len(value), np.inf)
    for cut in cutoffs:
        near = np.minimum(near, np.abs(value / cut - 1.0))
    complete = np.abs(cells.column("completeness").to_numpy() - complete_at)
    near = np.where(stained, np.minimum(near, complete), np.inf)
    order = np.argsort(near, kind="stable")[:BORDERLINE]
    return order[np.isfinite(near[order])].astype(np.int64)


def _patch(slide: Slide, cells: pa.Table, i: int) -> NDArray[np.uint8]:
    half = max(1, round(PATCH_UM / 2 / slide.info.mpp))
    x = int(cells.column("x_px")[i].as_py())
    y = int(cells.column("y_px")[i].as_py())
    rgb = slide.read(Box(x - half, y - half, x + half, y + half))
    return np.asarray(cv2.resize(rgb, (PATCH_PX, PATCH_PX), interpolation=cv2.INTER_AREA), np.uint8)
