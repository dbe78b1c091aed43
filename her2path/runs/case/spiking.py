"""The detection limit of a slide, measured on the slide itself.

Some fields of the tissue are read as they are. Over the borders of half of their tumour cells that
read unstained, lines of known strength and coverage are laid (`her2path.cells.sensitivity`), in the
field's own pixels, and the field is read once more by the same code. What is found, by strength, is
the slide's sensitivity; the other half, which got no line, are its blanks.

Fields, cells and lines follow from the slide's size, its tissue and the cells' places alone.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from her2path.cells import analysis, sensitivity
from her2path.cells.analysis import HALO_UM, MAP_PX
from her2path.cells.rings import RAYS
from her2path.cells.sensitivity import Jpeg, Lines, Spikes
from her2path.core.flags import flag
from her2path.core.geometry import Block, Grid
from her2path.core.intervals import wilson
from her2path.core.results import SWITCHED_OFF, QcFlag, Score, Sensitivity
from her2path.core.schema import OUTLINE_PER_UM
from her2path.io.annotations import Annotations
from her2path.io.slide import Slide
from her2path.runs.case.celltable import assign, is_tumour
from her2path.runs.case.plan import Plan, area_mm2

__all__ = ["sensitivity_flags", "spike"]

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]

#: side of a field's core, µm, and the least share of it that is tissue
FIELD_UM, LEAST_TISSUE = 200.0, 0.6
#: fields that are read at a time: whether more are needed is asked after so many
WAVE = 2
#: a large slide is looked at in more places: one for so many mm² of tissue, up to so many
MM2_A_FIELD, SPREAD_FIELDS = 5.0, 12
#: no more fields than this, however few unstained tumour cells they hold
MOST_FIELDS = 5
#: every so manieth unstained tumour cell gets a line, the others are blanks
EVERY = 2
#: a cell is the same one in two readings within this, µm
SAME_UM = 2.5


@dataclass(frozen=True)
class _Field:
    """One field as it is.

    Pixels; the tumour cells that read unstained: their centres and borders (N, 48), level-0 pixels
    of the field, and identities (N,); how many tumour cells read stained; the edges' spread, µm.
    """

    block: Block
    rgb: U8
    at: F64
    border: F64
    cell_id: NDArray[np.int64]
    stained: int
    spread: float


@dataclass(frozen=True)
class _Scan:
    """What a new line has to go through to be like the slide's own."""

    blur_um: float
    jpeg: Jpeg | None


def spike(
    slide: Slide, plan: Plan, annotations: Annotations | None = None, threads: int = 1
) -> Sensitivity:
    """Measure what this slide would show of faint membranes.

    Parameters
    ----------
    slide : Slide
    plan : Plan
        Of the run; its tissue, optics and settings are used.
    annotations : Annotations, optional
        On the plane that cells are measured on: what is no tumour there is not spiked.
    threads : int
        Nothing depends on it.
    """
    wanted = plan.settings.sensitivity.cells
    if wanted == 0:
        return Sensitivity.without(SWITCHED_OFF)
    grid = _grid(plan)
    order = _fields(plan, grid, annotations)
    if not order:
        return Sensitivity.without("no field of the slide is filled with tissue")
    tissue_mm2 = area_mm2(plan.tissue, plan.tissue_downsample * plan.optics.mpp)
    places = min(SPREAD_FIELDS, int(tissue_mm2 / MM2_A_FIELD))
    fields: list[_Field] = []

    def look(index: int) -> _Field:
        return _look(slide, plan, grid[index], annotations)

    with ThreadPoolExecutor(max(1, threads)) as pool:
        while len(fields) < len(order):
            enough = sum(len(s.cell_id) for s in fields) >= wanted
            most = places if enough else max(places, MOST_FIELDS)
            if len(fields) >= max(most, 1):
                break
            end = min(len(fields) + WAVE, max(most, 1))
            fields += pool.map(look, order[len(fields) : end])
        scan = _Scan(
            sensitivity.blur_of([s.spread for s in fields]), sensitivity.jpeg_of(fields[0].rgb)
        )

        def again(job: tuple[_Field, int]) -> Spikes:
            return _again(*job, plan, scan)

        # the doses go on from field to field, so that each is as frequent as it should be
        begun = np.cumsum([0, *(-(-len(s.cell_id) // EVERY) for s in fields)])
        jobs = [(s, int(n)) for s, n in zip(fields, begun, strict=False) if len(s.cell_id)]
        done = list(pool.map(again, jobs))
    stained = sum(s.stained for s in fields)
    return sensitivity.conclude(sensitivity.join(done), stained, scan.blur_um, plan.settings)


def _grid(plan: Plan) -> Grid:
    f, mpp = plan.optics.factor, plan.optics.mpp
    halo, side = int(np.ceil(HALO_UM / mpp)), round(FIELD_UM / mpp)
    return Grid(plan.grid.width_px, plan.grid.height_px, side, halo, align=f * MAP_PX)


def _fields(plan: Plan, grid: Grid, annotations: Annotations | None) -> list[int]:
    """Return the fields that may be looked at, in the order in which they are."""
    drawn = annotations.tumour if annotations is not None else None
    if drawn is not None:
        shapely.prepare(drawn)
    found = []
    for block in grid:
        tissue = plan.tissue_in(block.core)
        if not tissue.size or tissue.mean() < LEAST_TISSUE:
            continue
        box = shapely.box(block.core.x0, block.core.y0, block.core.x1, block.core.y1)
        if drawn is None or shapely.intersects(drawn, box):
            found.append((_mixed(np.array([block.index]))[0], block.index))
    return [index for _, index in sorted(found)]


def _mixed(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return numbers that look random, of whole numbers (splitmix64)."""
    with np.errstate(over="ignore"):
        z = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))


def _look(slide: Slide, plan: Plan, block: Block, annotations: Annotations | None) -> _Field:
    """Read a field as it is."""
    rgb = slide.read(block.read)
    cells = _read(rgb, block, plan, annotations)
    mine = is_tumour(cells)
    stained = cells.column("membrane_od").to_numpy() > 0
    free = np.flatnonzero(mine & ~stained)
    x, y = (cells.column(n).to_numpy()[free].astype(np.float64) for n in ("x_px", "y_px"))
    outline = cells.column("outline").combine_chunks().flatten().to_numpy().reshape(-1, RAYS)
    border = outline[free] / (OUTLINE_PER_UM * plan.optics.mpp)
    # pixel centres at whole numbers, as pixels are counted
    at = np.stack([x - block.read.x0 - 0.5, y - block.read.y0 - 0.5], axis=1)
    ids = cells.column("cell_id").to_numpy()[free]
    spread = sensitivity.edge_spread(rgb, plan.optics.mpp)
    return _Field(block, rgb, at, border, ids, int((mine & stained).sum()), spread)


def _read(rgb: U8, block: Block, plan: Plan, annotations: Annotations | None = None) -> pa.Table:
    """Return a field's cells by the code that reads the slide."""
    raw = analysis.measure_cells(rgb, block.read, block.core, plan.optics, plan.settings)
    cells = analysis.resolve(raw, block.core, plan.optics, plan.settings)
    x, y = (cells.column(n).to_numpy() for n in ("x_px", "y_px"))
    return assign(cells.filter(pa.array(plan.in_tissue(x, y))), annotations, plan.settings)


def _again(field: _Field, begun: int, plan: Plan, scan: _Scan) -> Spikes:
    """Lay lines over every other cell of a field, and read it again; so many doses were given."""
    order = np.argsort(_mixed(field.cell_id), kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    mine = place % EVERY == 0
    crest, coverage = sensitivity.doses(begun + place[mine] // EVERY)
    od = sensitivity.draw_lines(crest, coverage, field.cell_id[mine])
    dab, mpp = plan.optics.stain.dab, plan.optics.mpp
    border = sensitivity.off_borders(field.border[mine], field.cell_id[mine], mpp)
    lines = Lines(field.at[mine, 0], field.at[mine, 1], border, od)
    rgb = sensitivity.lay(field.rgb, lines, dab, mpp, scan.blur_um)
    rgb = sensitivity.recompress(field.rgb, rgb, scan.jpeg, field.block.index)
    cells = _read(rgb, field.block, plan)
    to = np.stack([cells.column(n).to_numpy() for n in ("x_px", "y_px")], axis=1)
    corner = np.array([field.block.read.x0, field.block.read.y0]) + 0.5
    read = np.zeros(len(mine))
    if len(to) and len(mine):
        from scipy.spatial import cKDTree

        away, which = cKDTree((to - corner) * mpp).query(field.at * mpp)
        seen = away <= SAME_UM
        read[seen] = cells.column("membrane_od").to_numpy()[which[seen]]
    return Spikes(crest, coverage, read[mine], read[~mine])


def sensitivity_flags(measured: Sensitivity | None, score: Score) -> list[QcFlag]:
    """Say where 0 cannot be told from 1+ on a slide that reads 0 or 1+.

    That is so where cells with a faint line read stained no more often than those without: at the
    lower limit of ``faint_found`` their share does not lie above the upper limit of the blank rate;
    and where the limit could not be measured although it was asked for.
    """
    if measured is None or score.ihc not in ("0", "1+"):
        return []
    if measured.faint_found_low is None or measured.faint_found is None:
        off = measured.reason is None or measured.reason == SWITCHED_OFF
        return [] if off else [flag("FAINT_NOT_MEASURABLE", f"Not measured: {measured.reason}.")]
    rate = measured.blank_rate or 0.0
    low = rate + (1 - rate) * measured.faint_found_low
    if low > wilson(round(rate * measured.blanks), measured.blanks)[1]:
        return []
    return [flag(
        "FAINT_NOT_MEASURABLE",
        f"Of faint lines laid over unstained cells {measured.faint_found:.0%} were found, of none "
        f"{measured.blank_rate:.0%}.",
    )]  # fmt: skip
