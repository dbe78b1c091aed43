"""Connected tumour nests."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from her2path.space.regions.cells import Cells
from her2path.space.regions.layout import Layout
from her2path.space.spatial._kernels import cell_list, link_components
from her2path.space.spatial.order import canonical
from her2path.space.spatial.tiling import square_ids, unkey

__all__ = ["MIN_NEST", "nest_layout"]

Float = NDArray[np.float64]
#: fewer linked cells are strays, not a nest
MIN_NEST = 5
#: an outline is drawn on bins of at least this side, µm
BIN_UM = 15.0
#: bins of one outline: larger nests get coarser bins
MAX_BINS = 20_000


def nest_layout(cells: Cells, link_um: float) -> Layout:
    """Return nests: tumour cells linked, directly or through others, within ``link_um``.

    Nests are numbered from the top of the slide downward. An outline is the ground covered by the
    nest's own cells; membership is by links, not by the outline.
    """
    region_of = np.full(cells.n, -1, np.int32)
    mine = np.flatnonzero(cells.tumour)
    if mine.size == 0:
        return Layout("nest", (), (), region_of)
    mine = mine[canonical(cells.x[mine], cells.y[mine])]
    x, y = cells.x[mine], cells.y[mine]
    label = _components(x, y, link_um)
    sizes = np.bincount(label)
    top = np.full(sizes.size, np.inf)
    np.minimum.at(top, label, y)
    left = np.full(sizes.size, np.inf)
    np.minimum.at(left, label, x)
    kept = np.flatnonzero(sizes >= MIN_NEST)
    kept = kept[np.lexsort((left[kept], top[kept]))]
    number = np.full(sizes.size, -1, np.int32)
    number[kept] = np.arange(kept.size)
    region_of[mine] = number[label]
    order = np.argsort(number[label], kind="stable")
    edges = np.searchsorted(number[label][order], np.arange(kept.size + 1))
    groups = [order[a:b] for a, b in pairwise(edges)]
    outlines = tuple(_outline(x[g], y[g], link_um) for g in groups)
    return Layout("nest", tuple(f"nest {i + 1}" for i in range(kept.size)), outlines, region_of)


def _components(x: Float, y: Float, link_um: float) -> NDArray[np.int64]:
    # a hair wider than the link, so that rounding never hides a neighbour
    order, keys, columns = cell_list(x, y, link_um * (1 + 1e-9))
    roots = link_components(x[order], y[order], keys, columns, link_um)
    label = np.empty(x.size, np.int64)
    label[order] = np.unique(roots, return_inverse=True)[1].ravel()
    return label


def _outline(x: Float, y: Float, link_um: float) -> Any:
    """Return the union of the bins that hold cells, grown until linked cells' bins meet."""
    side = BIN_UM
    while True:
        bins = np.column_stack(unkey(np.unique(square_ids(x, y, side))))
        if bins.shape[0] <= MAX_BINS:
            break
        side *= 2
    # runs of neighbouring bins in a row become one box: far fewer pieces to join
    new = np.ones(bins.shape[0], bool)
    new[1:] = (np.diff(bins[:, 0]) != 0) | (np.diff(bins[:, 1]) != 1)
    first = np.flatnonzero(new)
    last = np.append(first[1:], bins.shape[0]) - 1
    boxes = shapely.box(
        bins[first, 1] * side, bins[first, 0] * side,
        (bins[last, 1] + 1) * side, (bins[last, 0] + 1) * side,
    )  # fmt: skip
    grow = link_um / 2
    joined = shapely.union_all(boxes).buffer(grow, quad_segs=2).buffer(-grow * 0.75, quad_segs=2)
    return joined.simplify(side / 8)
