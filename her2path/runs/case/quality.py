"""The quality map of a slide: the blocks' features joined, artefacts named, verdicts drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path.cells import qc
from her2path.cells.analysis import MAP_PX, measure_cells, to_columns
from her2path.cells.qc import slide as whole
from her2path.cells.stain.model import angle_deg
from her2path.core.errors import NotEvaluable
from her2path.core.flags import flag
from her2path.core.geometry import Box, analysis_factor
from her2path.core.results import QcFlag
from her2path.io.slide import Slide
from her2path.runs.case.passes import maps_path, raw_path
from her2path.runs.case.plan import Plan, Prepared

__all__ = ["Quality", "assemble", "judge", "mask_on"]

#: codes that only mark
MARKS = ("no_epithelium",)
#: stain vectors further than this from those of the textbooks deserve a word, degrees
MOST_ANGLE = 25.0
#: side of the field in which another pixel size is tried, level-0 px; fewer finds there say nothing
TRIED_PX, FEW_TRIED = 2048, 30
#: log odds by which the best tenth of the finds is surer at the right pixel size than at twice of
#: it (cores: 0.21 on), and than at half of it (from -0.03 on; where the pixel size is right, the
#: finds at twice of it are less sure by 0.2 and more)
SURER, SURER_THAN_HALF = 0.15, -0.12


@dataclass(frozen=True)
class Quality:
    """What is known of every map cell, and of the slide.

    ``codes`` uint16, ``tissue`` and ``left_out`` bool, (rows, columns) of `side_px` level-0
    pixels; ``maps`` the channels that are stored; ``ratio`` pooled contrast 1 over 4 µm.
    """

    codes: NDArray[np.uint16]
    tissue: NDArray[np.bool_]
    left_out: NDArray[np.bool_]
    maps: dict[str, NDArray[np.float32]]
    side_px: int
    mpp: float
    ratio: float

    def mm2(self, mask: NDArray[np.bool_]) -> float:
        """Return the area of map cells, mm²."""
        return float(mask.sum()) * (self.side_px * self.mpp * 1e-3) ** 2

    def facts(self) -> dict[str, object]:
        """Return what the result says beside the flags."""
        areas = {
            c.name: round(self.mm2((self.codes & c.value > 0) & self.tissue), 5)
            for c in qc.CODES.values()
        }
        return {
            "left_out_mm2": round(self.mm2(self.left_out), 5),
            "artefacts_mm2": {n: a for n, a in areas.items() if a > 0},
            "blur_um": self.blur_um,
        }

    @property
    def blur_um(self) -> float | None:
        """The scan's blur, sigma of a Gaussian, µm."""
        return whole.blur_um(self.ratio)

    def followed(self, cells: pa.Table) -> dict[str, float | None]:
        """Return what is followed from slide to slide: focus, nuclear contrast (OD)."""
        around = self.maps["hematoxylin"][self.tissue & ~self.left_out]
        nuclei = cells.column("nucleus_hematoxylin_od").to_numpy()
        known = len(nuclei) and len(around)
        contrast = float(np.median(nuclei) - np.median(around)) if known else None
        return {"focus": self.ratio, "nuclear_contrast": contrast}


def mask_on(plan: Plan, mask: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Return the tissue mask, or another one of its grid, on the maps' grid."""
    side = plan.optics.factor * MAP_PX
    rows, cols = -(-plan.grid.height_px // side), -(-plan.grid.width_px // side)
    y, x = (np.arange(rows) + 0.5) * side, (np.arange(cols) + 0.5) * side
    mask = plan.tissue if mask is None else mask
    j = np.clip((y / plan.tissue_downsample).astype(np.int64), 0, mask.shape[0] - 1)
    i = np.clip((x / plan.tissue_downsample).astype(np.int64), 0, mask.shape[1] - 1)
    return mask[j][:, i]


def _joined(plan: Plan) -> dict[str, NDArray[np.float32]]:
    side = plan.optics.factor * MAP_PX
    rows, cols = -(-plan.grid.height_px // side), -(-plan.grid.width_px // side)
    maps: dict[str, NDArray[np.float32]] = {}
    for index in plan.blocks:
        core = plan.grid[index].core
        with np.load(maps_path(plan, plan.grid[index])) as part:
            for name in part.files:
                tile = part[name]
                plane = maps.setdefault(name, np.zeros((rows, cols), np.float32))
                y, x = core.y0 // side, core.x0 // side
                plane[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return maps


def assemble(plan: Plan, seen: Prepared) -> Quality:
    """Join the features of all blocks, and name what is no good tissue."""
    settings = plan.settings.qc
    maps = _joined(plan)
    tissue = mask_on(plan)
    codes = qc.classify(qc.Field(maps, tissue, mask_on(plan, seen.tissue.pen)), settings)
    # pen is out of the tissue already where settings say so (tissue.exclude_pen)
    left_out = tissue & ((codes & qc.left_out_bits(settings)) > 0)
    contrast = np.where(tissue, maps["contrast"], 0.0).astype(np.float64)
    ratio = float((contrast * np.nan_to_num(maps["focus"])).sum() / max(contrast.sum(), 1e-9))
    kept = {n: maps[n] for n in ("hematoxylin", "dab", "focus")}
    return Quality(
        codes, tissue, left_out, kept, plan.optics.factor * MAP_PX, plan.optics.mpp, ratio
    )


def judge(
    plan: Plan, seen: Prepared, made: Quality, drawn: bool = False, slide: Slide | None = None
) -> list[QcFlag]:
    """Say what the quality map and the finds mean for the slide.

    Where a person has drawn the tumour (``drawn``), epithelium need not be recognised. With the
    ``slide`` at hand, a pixel size that the nuclei contradict is tried against the likely one.

    Raises
    ------
    NotEvaluable
        ``OUT_OF_FOCUS``, ``MPP_UNLIKELY``, ``TOO_LITTLE_LEFT`` or ``NO_EPITHELIUM``.
    """
    settings, total = plan.settings.qc, max(1, int(made.tissue.sum()))
    finds = _finds(plan)
    flags = [*_of_mpp(plan, finds, made.ratio, slide), *whole.hidden_flag(finds, settings)]
    shares = {
        c.name: float(((made.codes & c.value > 0) & made.tissue).sum()) / total
        for c in qc.CODES.values()
    }
    if settings.blurry and shares["blurry"] > 1.0 - settings.min_focus:
        raise NotEvaluable(
            f"too little of the tissue is in focus: {1 - shares['blurry']:.0%}",
            "Scan the slide again, or lower qc.min_focus", code="OUT_OF_FOCUS",
        )  # fmt: skip
    gone = float(made.left_out.sum()) / total
    if gone > settings.max_left_out:
        worst = sorted(shares, key=lambda n: -shares[n] if n not in MARKS else 0.0)[:2]
        raise NotEvaluable(
            f"{gone:.0%} of the tissue cannot be used: "
            + ", ".join(f"{qc.CODES[n].words} {shares[n]:.0%}" for n in worst if shares[n] > 0),
            "Look at the quality map; cut, stain or scan the slide again", code="TOO_LITTLE_LEFT",
        )  # fmt: skip
    found_by_us = plan.settings.tumour.method != "all" and not drawn
    if found_by_us and shares["no_epithelium"] > ALL_STROMA:
        raise NotEvaluable(
            "no epithelium was recognised anywhere on the slide",
            "Choose a block with tumour, or annotate the tumour", code="NO_EPITHELIUM",
        )  # fmt: skip
    flags += whole.area_flags(shares, gone, settings)
    flags += whole.soft_flag(whole.blur_um(made.ratio), settings)
    flags += whole.mark_flag(seen.overview)
    return flags + _of_stain(plan, seen)


#: so much of the tissue in fields without epithelium is a slide without any
ALL_STROMA = 0.995


def _of_stain(plan: Plan, seen: Prepared) -> list[QcFlag]:
    """Say where an estimated stain vector is far from the textbooks' one."""
    model, usual = seen.optics.stain, plan.settings.stain
    if model.method == "fixed":
        return []
    far = {
        "hematoxylin": angle_deg(model.hematoxylin, usual.hematoxylin),
        "DAB": angle_deg(model.dab, usual.dab),
    }
    told = [f"{name} by {angle:.0f} degrees" for name, angle in far.items() if angle > MOST_ANGLE]
    return [flag("STAIN_VECTORS_UNUSUAL", f"{', '.join(told)}.")] if told else []


def _of_mpp(
    plan: Plan, finds: whole.Finds, ratio: float, slide: Slide | None = None
) -> list[QcFlag]:
    """Refuse a pixel size that the nuclei contradict; warn where it was forced.

    Raises
    ------
    NotEvaluable
        ``MPP_UNLIKELY``.
    """
    if not plan.settings.qc.check_mpp:
        return []
    factor = whole.mpp_factor(finds, ratio)
    if factor == 1.0 or (slide is not None and not _surer_at(slide, plan, factor)):
        return []
    mpp = plan.optics.mpp
    size = "too small" if factor < 1 else "too large"
    text = f"At {mpp:.3g} µm per pixel nuclei are {size}: {mpp / factor:.3g} is likely."
    if plan.settings.slide.force_mpp:
        return [flag("MPP_UNLIKELY", text, "warning")]
    raise NotEvaluable(
        f"the pixel size of {mpp:.3g} µm cannot be right: nuclei are {size}; about "
        f"{mpp / factor:.3g} µm is likely",
        f"Give --mpp {mpp / factor:.3g} --force-mpp, or --mpp {mpp:.3g} --force-mpp to insist",
        code="MPP_UNLIKELY",
    )


def _surer_at(slide: Slide, plan: Plan, factor: float) -> bool:
    """Tell whether nuclei are found with more certainty at the likely pixel size.

    Large or small nuclei alone may be the tissue's own, and a pale or soft scan is read with less
    certainty at any pixel size.
    """
    core = plan.grid[max(plan.blocks, key=lambda index: _raw(plan, index).num_rows)].core
    half = TRIED_PX // 2
    x, y = (core.x0 + core.x1) // 2, (core.y0 + core.y1) // 2
    box = Box(max(core.x0, x - half), max(core.y0, y - half), min(core.x1, x + half),
              min(core.y1, y + half))  # fmt: skip
    rgb, sure = slide.read(box), []
    for mpp in (plan.optics.mpp, plan.optics.mpp / factor):
        optics = replace(plan.optics, mpp=mpp, factor=analysis_factor(mpp))
        step = optics.factor * MAP_PX
        size = Box(0, 0, box.width // step * step, box.height // step * step)
        found = measure_cells(rgb[: size.height, : size.width], size, size, optics, plan.settings)
        heat = found.column("heat").to_numpy()
        sure.append(float(np.percentile(heat, 90)) if len(heat) >= FEW_TRIED else -np.inf)
    return sure[1] > sure[0] + (SURER if factor > 1 else SURER_THAN_HALF)


#: raw columns that tell of a find's size, stain and certainty
_OF_FINDS = ("nucleus_area_um2", "nucleus_dab_od", "heat", "kind")


def _raw(plan: Plan, index: int) -> pa.Table:
    """Return the raw cells of a block."""
    with pa.memory_map(str(raw_path(plan, plan.grid[index]))) as source:
        return pa.ipc.open_file(source).read_all()


def _finds(plan: Plan) -> whole.Finds:
    """Read area, log odds and kind of all finds from the blocks' parts."""
    parts = [to_columns(_raw(plan, index), _OF_FINDS) for index in plan.blocks]

    def joined(columns: list[NDArray[np.generic]]) -> NDArray[np.float32]:
        return np.concatenate([np.zeros(0, np.float32), *columns]).astype(np.float32)

    return whole.Finds(
        area_um2=joined([p["nucleus_area_um2"] for p in parts]),
        heat=joined([p["heat"] for p in parts]),
        nothing=joined([p["kind"][:, 2] for p in parts]),
        dab=joined([p["nucleus_dab_od"] for p in parts]),
    )
