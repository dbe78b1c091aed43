"""Spatial statistics on point tables: arrays in, numbers out; no files, no state.

Every function takes points in canonical order (`order.canonical`), so that a result does not
depend on the order of the rows; random draws take a seed.
"""

from __future__ import annotations

from her2path.space.spatial.blocks import Blocks, make_blocks
from her2path.space.spatial.fdr import benjamini_hochberg
from her2path.space.spatial.getis import gi_star, hot_and_cold, local_types
from her2path.space.spatial.joincount import JoinCounts, join_counts
from her2path.space.spatial.moran import geary, local_moran, moran
from her2path.space.spatial.order import canonical
from her2path.space.spatial.permutation import LabelTest, label_test
from her2path.space.spatial.ripley import PairCounts, cross_k, pair_counts
from her2path.space.spatial.tiling import hexagon_ids, square_ids, territory_um2
from her2path.space.spatial.variogram import Variogram, fit_variogram
from her2path.space.spatial.weights import Weights, knn, neighbours, radius

__all__ = [
    "Blocks",
    "JoinCounts",
    "LabelTest",
    "PairCounts",
    "Variogram",
    "Weights",
    "benjamini_hochberg",
    "canonical",
    "cross_k",
    "fit_variogram",
    "geary",
    "gi_star",
    "hexagon_ids",
    "hot_and_cold",
    "join_counts",
    "knn",
    "label_test",
    "local_moran",
    "local_types",
    "make_blocks",
    "moran",
    "neighbours",
    "pair_counts",
    "radius",
    "square_ids",
    "territory_um2",
]
