"""Compiles the kernels into numba's cache: ``python -m her2path.runs.case.warm PART``.

On a fresh installation the first slide pays for compiling. `demo` starts the parts in processes of
their own while it paints its slide, so that all processors are busy.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from her2path.cells import analysis, membrane, reading, stain
from her2path.cells.membrane.columns import RAW_COLUMNS, SCALES
from her2path.cells.reading.inputs import PLACES
from her2path.cells.sensitivity import Lines, lay
from her2path.core.geometry import Box
from her2path.core.schema import OUTLINE_PER_UM, OUTLINE_RAYS
from her2path.core.settings import Settings

__all__ = [
    "PARTS", "cold", "compile_borders", "compile_cells", "compile_tables", "drawn_optics",
    "raw_cells", "ready", "warming",
]  # fmt: skip

log = logging.getLogger(__name__)

SIDE_PX = 512
WHITE = 240
SPACING_PX = 64
RADIUS_PX = 16
OPTICS = (0.25, 2)
#: cells along a side of the made-up table
CELLS_ALONG = 32
#: as few draws as show every kernel once
SMALL_RUN = {
    "score.min_cells": 20,
    "score.bootstrap_draws": 20,
    "heterogeneity.permutations": 19,
    "heterogeneity.biopsy_draws": 10,
    "heterogeneity.interval_draws": 20,
    "regions.size_um": 100.0,
}


def compile_cells() -> int:
    """Read the cells of a drawing of stained cells; return how many."""
    settings = Settings()
    optics = drawn_optics(settings)
    planes = stain.reduce_planes(_drawing(), optics.factor, optics.stain)
    return len(reading.read_cells(planes, optics.mpp_a, (0, 0), settings.nuclei))


def compile_borders() -> int:
    """Measure made-up cells on the same drawing; return how many."""
    optics = drawn_optics(Settings())
    rgb, f = _drawing(), optics.factor
    at = np.arange(SPACING_PX // 2, SIDE_PX, SPACING_PX, dtype=np.float64) / f
    y, x = (v.ravel() for v in np.meshgrid(at, at, indexing="ij"))
    nucleus = np.full((x.size, OUTLINE_RAYS), RADIUS_PX / f, np.float32)
    own = np.full((x.size, PLACES), 0.9, np.float32)
    made_up = SimpleNamespace(x=x, y=y, nucleus=nucleus, border=1.7 * nucleus, own=own)
    membrane.measure_rays(rgb, optics.stain.tables()[1], f, optics.mpp, made_up)
    ring = np.full(nucleus.shape, 1.7 * RADIUS_PX)
    lines = Lines(x * f, y * f, ring, np.full(ring.shape, 0.1))
    lay(rgb, lines, optics.stain.dab, optics.mpp, 0.0)
    return int(x.size)


def _drawing() -> np.ndarray:
    """Return a drawing of stained cells, uint8 (SIDE_PX, SIDE_PX, 3)."""
    yy, xx = np.mgrid[:SIDE_PX, :SIDE_PX]
    dy, dx = (v % SPACING_PX - SPACING_PX // 2 for v in (yy, xx))
    far = np.hypot(dy, dx)
    nucleus = 0.4 * (far < RADIUS_PX)
    line = 0.6 * np.exp(-(((far - 1.7 * RADIUS_PX) / 3.0) ** 2))
    od = nucleus[..., None] * np.array([0.65, 0.70, 0.29]) + line[..., None] * np.array(
        [0.27, 0.57, 0.78]
    )
    return np.clip(WHITE * 10.0**-od, 0, 255).astype(np.uint8)


def drawn_optics(settings: Settings) -> analysis.Optics:
    """Return the optics of what is drawn here."""
    fixed = settings.stain.model_copy(
        update={"method": "fixed", "white_point": (float(WHITE),) * 3}
    )
    blank = np.full((8, 8, 3), WHITE, np.uint8)
    return analysis.Optics(*OPTICS, stain.estimate([blank], OPTICS[0], fixed))


def raw_cells() -> pa.Table:
    """Return a made-up table as pass 1 leaves it: a square of cells, one side of it stained."""
    rng = np.random.default_rng(1)
    at = np.arange(CELLS_ALONG) * 24 + 12
    y, x = (v.ravel() * analysis.FIXED for v in np.meshgrid(at, at, indexing="ij"))
    n = x.size
    raw: analysis.Columns = {"cell_id": y * analysis.ID_STRIDE + x, "x_fx": x, "y_fx": y}
    raw |= {
        name: rng.uniform(0.1, 0.9, n).astype(np.float32)
        for name in (
            "nucleus_area_um2", "nucleus_hematoxylin_od", "nucleus_dab_od", "nucleus_elongation",
        )
    }  # fmt: skip
    raw["nucleus_outline"] = np.full((n, OUTLINE_RAYS), 3 * OUTLINE_PER_UM, np.int16)
    raw["outline"] = np.full((n, OUTLINE_RAYS), 6 * OUTLINE_PER_UM, np.int16)
    stained = x < x.max() * 0.4
    raw["kind"] = np.tile(np.array([0.9, 0.08, 0.02], np.float32), (n, 1))
    raw["heat"] = np.full(n, 2.0, np.float32)
    raw["evidence"] = np.where(stained, 3.0, -3.0).astype(np.float32)
    for column in RAW_COLUMNS:
        raw[column.name] = _made_up(column.name, column.type, stained)
    return analysis.to_table(raw)


#: what a stained ring reads, in the columns' units
READS = {"line_r": 6.0, "line_mass": 2.0, "line_crest": 1.2, "line_width": 1.6, "line_own": 0.9}
PLAIN = {"cytoplasm_od": 0.03}


def _made_up(name: str, kind: pa.DataType, stained: np.ndarray) -> np.ndarray:
    if name in PLAIN:
        return np.full(stained.size, PLAIN[name], kind.to_pandas_dtype())
    count = READS.get(name, 0.0) / SCALES.get(name, 1.0)
    keep = np.ones_like(stained) if name == "line_r" else stained
    rows = np.where(keep, count, 0).astype(kind.value_type.to_pandas_dtype())
    return np.repeat(rows[:, None], kind.list_size, 1)


def compile_tables() -> int:
    """Run pass 2, the score and the heterogeneity on a made-up table; return its cells."""
    # the other parts, processes of their own, need not load what judges the table
    from her2path.runs.case.areas import make_regions
    from her2path.runs.case.celltable import with_cell_type, with_region_id
    from her2path.runs.case.verdict import verdict
    from her2path.scoring import guidelines

    settings = Settings().replace(SMALL_RUN)
    side = OPTICS[1] * 24 * CELLS_ALONG
    optics = drawn_optics(settings)
    resolved = analysis.resolve(raw_cells(), Box(0, 0, side, side), optics, settings)
    side_um = 20.0
    squares = int(side * optics.mpp / side_um) + 1
    tissue = np.ones((squares, squares), np.bool_), side_um
    found = with_cell_type(resolved, np.ones(resolved.num_rows, np.bool_))
    table, region_id = make_regions(found, tissue, None, optics.mpp, settings)
    mine = with_region_id(found, region_id)
    guidelines.score_cells(mine, guideline="gastric_biopsy")  # the one that looks for clusters
    return verdict(mine, table, settings).counts["tumour"]


PARTS = {"cells": compile_cells, "borders": compile_borders, "tables": compile_tables}
"""What can be compiled on its own; each part keeps one processor busy."""


@contextmanager
def warming() -> Iterator[None]:
    """Compile all parts meanwhile, each in a process of its own, and wait for them at the end."""
    with ExitStack() as stack:
        for part in PARTS:
            # -P: in a clone's folder -m would compile the clone's kernels, not the installed ones
            command = [sys.executable, "-P", "-m", "her2path.runs.case.warm", part]
            stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
        yield


def cold() -> bool:
    """Tell whether the kernels have to be compiled: none of a late one's code is stored."""
    from her2path.cells.membrane import _lines

    stored = getattr(getattr(_lines.read_line, "_cache", None), "_cache_file", None)
    try:
        return stored is not None and not stored._load_index()
    except Exception:  # noqa: BLE001 - numba's own affair: it then compiles as it goes
        return False


def ready(tell: Callable[[str, int, int, float], object]) -> None:
    """Compile what was never compiled here, on all processors, and say so meanwhile.

    Parameters
    ----------
    tell : callable
        Called with (stage, done, total, megapixels).
    """
    if not cold():
        return
    stage = "compiling, on first use only"
    log.info("compiling the kernels: on first use only, about a minute on two processors")
    tell(stage, 0, 1, 0.0)
    with warming():
        pass
    tell(stage, 1, 1, 0.0)


if __name__ == "__main__":
    PARTS[sys.argv[1]]()
