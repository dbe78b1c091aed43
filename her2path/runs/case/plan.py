"""Before the stream: the slide, its tissue, its stains, and the plan of blocks."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from her2path import __version__
from her2path.cells import reading, stain, tissue
from her2path.cells.analysis import HALO_UM, MAP_PX, REACH_UM, Optics
from her2path.core.errors import NotEvaluable
from her2path.core.geometry import Box, Grid, analysis_factor
from her2path.core.results import QcFlag
from her2path.core.settings import Settings
from her2path.io.slide import Slide, SlideInfo, SlideRef, check_colours
from her2path.scoring import guidelines

__all__ = ["Plan", "Prepared", "area_mm2", "fingerprint", "look", "make_plan", "measured_sha256",
           "reach_blocks"]  # fmt: skip

#: the overview is read at no more than this, and kept for the thumbnail
OVERVIEW_PX = 2400


@dataclass(frozen=True)
class Prepared:
    """What is known of a slide before its cells are."""

    info: SlideInfo
    overview: NDArray[np.uint8]
    tissue: tissue.Tissue
    mask_downsample: float
    optics: Optics
    flags: tuple[QcFlag, ...]


@dataclass(frozen=True)
class Plan:
    """Everything a worker needs: small, picklable, the same for every block."""

    slide: SlideRef
    optics: Optics
    settings: Settings
    grid: Grid
    blocks: tuple[int, ...]
    tissue: NDArray[np.bool_]
    tissue_downsample: float
    work: Path
    incomplete_score: Literal[2, 3]

    @property
    def reading_order(self) -> tuple[int, ...]:
        """The blocks, two columns at a time from top to bottom.

        What a block shares with its neighbours is then still in the slide's tile cache.
        """
        cols = self.grid.shape[1]
        return tuple(sorted(self.blocks, key=lambda i: (i % cols // 2, i // cols, i % cols)))

    def in_tissue(self, x_px: NDArray[np.float64], y_px: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which level-0 points lie in tissue."""
        rows, cols = self.tissue.shape
        col = np.clip((x_px / self.tissue_downsample).astype(np.int64), 0, cols - 1)
        row = np.clip((y_px / self.tissue_downsample).astype(np.int64), 0, rows - 1)
        return self.tissue[row, col]

    def tissue_in(self, box: Box) -> NDArray[np.bool_]:
        """Return the part of the tissue mask that a level-0 box touches."""
        s = self.tissue_downsample
        return self.tissue[
            max(0, int(box.y0 / s)) : int(np.ceil(box.y1 / s)),
            max(0, int(box.x0 / s)) : int(np.ceil(box.x1 / s)),
        ]


def look(slide: Slide, settings: Settings, threads: int = 1) -> Prepared:
    """Look at a slide: tissue, white point, stain vectors, and whether it is H-DAB at all.

    Parameters
    ----------
    slide : Slide
    settings : Settings
    threads : int
        How many threads read and measure; nothing depends on it.

    Raises
    ------
    NotEvaluable
        ``COARSE_MPP``, ``NO_TISSUE`` or ``NOT_H_DAB``.
    """
    info = slide.info
    if info.mpp > settings.qc.max_coarse_mpp:
        raise NotEvaluable(
            f"the slide has {info.mpp:.3g} µm/px, and membranes cannot be read above 0.5 µm/px",
            "Scan at 20x or finer, or correct the pixel size with --mpp --force-mpp",
            code="COARSE_MPP",
        )
    with ThreadPoolExecutor(max(1, threads)) as pool:
        shown = pool.submit(slide.overview, OVERVIEW_PX, threads)
        small, downsample = _for_mask(slide, settings)
        found = tissue.find_tissue(small, info.mpp * downsample, settings.tissue)
        boxes = _sample_boxes(slide, found, downsample, settings)
        samples = list(pool.map(slide.read, boxes))
        model = stain.estimate(samples, info.mpp, settings.stain)
        if model.impossible:
            check_colours(slide, boxes)
        optics = Optics(info.mpp, analysis_factor(info.mpp), model)
        _refuse(samples, model, found)
        flags = (*found.flags, *model.flags)
        overview = shown.result()[0]
    return Prepared(info, overview, found, downsample, optics, flags)


def _refuse(
    samples: list[NDArray[np.uint8]], model: stain.StainModel, found: tissue.Tissue
) -> None:
    """Refuse what is not H-DAB, and a slide without tissue."""
    fits, reason = stain.is_h_dab(samples, model)
    if not fits:
        raise NotEvaluable(
            f"this is not a brown DAB stain on blue hematoxylin ({reason})",
            "Give a HER2 IHC slide (H-DAB)",
            code="NOT_H_DAB",
        )
    if not found.mask.any():
        raise NotEvaluable("no tissue was found", "Check the slide", code="NO_TISSUE")


def _for_mask(slide: Slide, settings: Settings) -> tuple[NDArray[np.uint8], float]:
    """Return the slide reduced to the mask's pixel size, and its reduction from level 0."""
    info = slide.info
    longest_px = max(info.width_px, info.height_px)
    mpp = tissue.overview_mpp(info.width_px * info.mpp, info.height_px * info.mpp, settings.tissue)
    side = max(16, round(longest_px * info.mpp / mpp))
    rgb, _ = slide.overview(2 * side)
    scale = max(1.0, max(rgb.shape[:2]) / side)
    size = (max(1, round(rgb.shape[1] / scale)), max(1, round(rgb.shape[0] / scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), info.width_px / size[0]


def _sample_boxes(
    slide: Slide, found: tissue.Tissue, downsample: float, settings: Settings
) -> list[Box]:
    mask = found.mask if found.mask.any() else np.ones_like(found.mask)
    boxes = stain.sample_boxes(mask, slide.info.mpp * downsample, slide.info.mpp, settings.stain)
    whole = Box(0, 0, slide.info.width_px, slide.info.height_px)
    return [b.clip(whole) for b in boxes if not b.clip(whole).empty]


def make_plan(
    slide: SlideRef, seen: Prepared, settings: Settings, work: Path, incomplete_score: Literal[2, 3]
) -> Plan:
    """Lay the blocks over the tissue; blocks without tissue are never read."""
    optics = seen.optics
    info = seen.info
    grid = Grid(
        info.width_px,
        info.height_px,
        settings.stream.block_px,
        int(np.ceil(HALO_UM / info.mpp)),
        align=optics.factor * MAP_PX,
    )
    plan = Plan(
        slide,
        optics,
        settings,
        grid,
        (),
        seen.tissue.mask,
        seen.mask_downsample,
        work,
        incomplete_score,
    )
    blocks = tuple(b.index for b in grid if plan.tissue_in(b.core).any())
    return replace(plan, blocks=blocks)


def measured_sha256(
    info: SlideInfo, annotations_sha256: str | None, model_sha256: str | None = None
) -> str:
    """Return what cells are measured from: slide, pixel size, annotations, nets, version."""
    return _sha256({
        "slide": info.sha256_quick,
        "mpp": [info.mpp_x, info.mpp_y],
        "annotations": annotations_sha256,
        # weights are files too: a resumed run never mixes two fits
        "reading": reading.weights_sha256(),
        "model": model_sha256,
        "version": __version__,
    })  # fmt: skip


def fingerprint(measured: str, settings: Settings, corrections_sha256: str | None = None) -> str:
    """Return what makes two results the same: measured cells, settings, a reader's corrections."""
    facts = {
        "measured": measured,
        "settings": settings.sha256(),
        # one's own rule set is a file: what it says counts, not only where it lies
        "rules": guidelines.rule_set(settings.score.guideline).model_dump(mode="json"),
        "corrections": corrections_sha256,
    }
    return _sha256(facts)


def _sha256(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def reach_blocks(grid: Grid, mpp: float) -> int:
    """Return how many blocks around one hold what its cells may depend on."""
    return max(1, int(np.ceil((REACH_UM / mpp) / grid.side)))


def area_mm2(mask: NDArray[np.bool_], mpp: float) -> float:
    """Return the area of a mask in mm²."""
    return float(mask.sum()) * mpp * mpp * 1e-6
