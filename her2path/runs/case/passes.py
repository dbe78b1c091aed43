"""What a worker does with one block: pass 1 measures pixels, pass 2 resolves tables.

Each part is written to a temporary name and renamed, so that a part that exists is whole; a run
that was killed goes on with the parts that are missing. After a power loss a part may be there and
cut short (none is forced to the disk, that would cost more than doing it again): it counts as
missing.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from her2path.cells import analysis
from her2path.cells.reading.inputs import RADIUS_UM
from her2path.core._scratch import scratch
from her2path.core.geometry import Block, Box
from her2path.io.slide import get_slide
from her2path.runs.case.plan import Plan, reach_blocks

__all__ = ["BlockDone", "measure_block", "resolve_block"]


@dataclass(frozen=True)
class BlockDone:
    """What a task returns: a few numbers, never pixels."""

    index: int
    cells: int
    pixels: int
    tissue_px: int
    bad_px: int


def raw_path(plan: Plan, block: Block) -> Path:
    """Return where pass 1 leaves a block's raw cells."""
    return plan.work / "raw" / f"{block.name}.arrow"


def maps_path(plan: Plan, block: Block) -> Path:
    """Return where pass 1 leaves a block's maps."""
    return plan.work / "maps" / f"{block.name}.npz"


def cells_path(plan: Plan, block: Block) -> Path:
    """Return where pass 2 leaves a block's cells."""
    return plan.work / "cells" / f"{block.name}.arrow"


def measure_block(plan: Plan, index: int) -> BlockDone:
    """Pass 1: read one block, measure its cells, write its part."""
    block = plan.grid[index]
    part, maps = raw_path(plan, block), maps_path(plan, block)
    known = _done_before(part, maps)
    if known is not None:
        return known
    slide = get_slide(plan.slide)
    slide.take_bad_boxes()
    shape = (block.read.height, block.read.width, 3)
    rgb = slide.read(block.read, scratch("pixels", shape, np.uint8))
    bad = slide.take_bad_boxes()
    found = analysis.measure(rgb, block.read, block.core, plan.optics, plan.settings)
    raw = _kept(plan, found.raw, bad)
    tissue_px, bad_px = _counted(plan, block, bad)
    _write_npz(maps, found.maps)
    done = BlockDone(index, raw.num_rows, block.core.area, tissue_px, bad_px)
    facts = {k: str(v) for k, v in vars(done).items()}
    _write_arrow(part, raw.replace_schema_metadata(facts))
    return done


def _done_before(part: Path, maps: Path) -> BlockDone | None:
    """Return what an earlier run noted of a block; None where it left nothing whole."""
    facts = _facts(part)
    if facts is None or not zipfile.is_zipfile(maps):
        return None
    return BlockDone(**facts)


def _facts(part: Path) -> dict[str, int] | None:
    """Return the numbers that a part carries; None where it is missing or cut short."""
    try:
        with pa.memory_map(str(part)) as source:
            facts = pa.ipc.open_file(source).schema.metadata
    except (OSError, pa.ArrowInvalid):
        return None
    return {k.decode(): int(v) for k, v in facts.items()}


def _kept(plan: Plan, raw: pa.Table, bad: list[Box]) -> pa.Table:
    """Leave out cells outside tissue, and those that touch a tile that could not be read."""
    f = plan.optics.factor
    x = analysis.level0(raw.column("x_fx").to_numpy(), f)
    y = analysis.level0(raw.column("y_fx").to_numpy(), f)
    keep = plan.in_tissue(x, y)
    margin = RADIUS_UM / plan.optics.mpp
    for box in bad:
        near = box.grow(int(np.ceil(margin)))
        keep &= ~((x >= near.x0) & (x < near.x1) & (y >= near.y0) & (y < near.y1))
    return raw.filter(pa.array(keep))


def _counted(plan: Plan, block: Block, bad: list[Box]) -> tuple[int, int]:
    """Return tissue pixels of the core, and how many of them could not be read (level 0)."""
    cell = plan.tissue_downsample**2
    tissue_px = int(plan.tissue_in(block.core).sum() * cell)
    lost = sum(
        int(plan.tissue_in(b.clip(block.core)).sum() * cell)
        for b in bad
        if not b.clip(block.core).empty
    )
    return tissue_px, min(lost, tissue_px)


def resolve_block(plan: Plan, left_out: NDArray[np.bool_], index: int) -> int:
    """Pass 2: take the raw cells of a block and its surroundings, write its final cells."""
    block = plan.grid[index]
    part = cells_path(plan, block)
    known = _facts(part)
    if known is not None:
        return known["cells"]
    raw = _surroundings(plan, block)
    table = analysis.resolve(raw, block.core, plan.optics, plan.settings, plan.incomplete_score)
    # left out only now: neighbours share their lines with these cells all the same
    side = plan.optics.factor * analysis.MAP_PX
    y, x = ((table.column(n).to_numpy() / side).astype(np.int64) for n in ("y_px", "x_px"))
    y, x = np.clip(y, 0, left_out.shape[0] - 1), np.clip(x, 0, left_out.shape[1] - 1)
    table = table.filter(pa.array(~left_out[y, x]))
    _write_arrow(part, table.replace_schema_metadata({"cells": str(table.num_rows)}))
    return int(table.num_rows)


def _surroundings(plan: Plan, block: Block) -> pa.Table:
    reach = int(np.ceil(analysis.REACH_UM / plan.optics.mpp))
    near = block.core.grow(reach)
    tables = [
        _near(raw_path(plan, plan.grid[i]), near, plan.optics.factor)
        for i in _around(plan, block.index)
    ]
    return pa.concat_tables([t.replace_schema_metadata(None) for t in tables])


def _around(plan: Plan, index: int) -> list[int]:
    known = set(plan.blocks)
    rings = reach_blocks(plan.grid, plan.optics.mpp)
    return [i for i in plan.grid.neighbours(index, rings) if i in known]


def _near(path: Path, box: Box, factor: int) -> pa.Table:
    """Read the cells of one part that lie in a box; positions first, the rest only for those."""
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
        x = analysis.level0(table.column("x_fx").to_numpy(), factor)
        y = analysis.level0(table.column("y_fx").to_numpy(), factor)
        keep = (x >= box.x0) & (x < box.x1) & (y >= box.y0) & (y < box.y1)
        return pc.take(table, pa.array(np.flatnonzero(keep)))


def _write_arrow(path: Path, table: pa.Table) -> None:
    tmp = _tmp(path)
    with pa.OSFile(str(tmp), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    tmp.replace(path)


def _write_npz(path: Path, arrays: dict[str, Any]) -> None:
    tmp = _tmp(path)
    with tmp.open("wb") as f:
        np.savez(f, **arrays)
    tmp.replace(path)


def _tmp(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
