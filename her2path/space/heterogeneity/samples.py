"""One slide, block or biopsy of a case, reduced to what a case needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path.core.results import Heterogeneity, Score
from her2path.core.schema import PATTERNS
from her2path.core.settings import Settings
from her2path.scoring import guidelines
from her2path.space.heterogeneity.areas import AreaTable, area_table
from her2path.space.heterogeneity.bands import block_side_um
from her2path.space.heterogeneity.between import area_labels
from her2path.space.heterogeneity.table import Points, read_points
from her2path.space.heterogeneity.verdicts import rules_of
from her2path.space.spatial.ripley import pair_counts
from her2path.space.spatial.tiling import square_ids
from her2path.space.spatial.variogram import fit_variogram

__all__ = ["Sample", "rules_of", "sample"]

Int = NDArray[np.int64]
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """One slide, block or biopsy of a case, reduced to what a case needs.

    Attributes
    ----------
    name : str
    timepoint : str or None
    ihc, category : str
    blocks : (b, 7) int64
        Counts of the patterns in each block of tissue.
    areas : AreaTable
    area_patterns : (a, 7) int64
    positive : tuple of str
        Patterns that are positive.
    pattern_type : str or None
        Homogeneous, clustered, mosaic, scattered, where it was measured.
    leak : float
        Share of variance that the blocks' borders hide.
    area_block : (a,) int64 or None
        Block of tissue that each area is drawn with; None where each is its own.
    """

    name: str
    timepoint: str | None
    ihc: str
    category: str
    blocks: Int
    areas: AreaTable
    area_patterns: Int
    positive: tuple[str, ...]
    pattern_type: str | None = None
    leak: float = 0.0
    area_block: Int | None = None

    @property
    def counts(self) -> Int:
        """Counts of the seven patterns."""
        return self.blocks.sum(axis=0)


def sample(
    name: str, table: Any, settings: Settings | None = None, *,
    timepoint: str | None = None, score: Score | None = None,
    regions: pa.Table | None = None, heterogeneity: Heterogeneity | None = None,
) -> Sample:  # fmt: skip
    """Reduce one sample's tumour cells.

    Parameters
    ----------
    name : str
        For people; of a slide, block or biopsy.
    table : pyarrow.Table, DataFrame or dict of arrays
        As in `measure`, with ``pattern`` or ``score``.
    settings : Settings, optional
    timepoint : str, optional
        A date, a number or a word; see `timepoints.time_groups`.
    score : Score, optional
        The sample's score; without it the guideline scores the counts.
    regions : pyarrow.Table, optional
        The regions that ``region_id`` refers to.
    heterogeneity : Heterogeneity, optional
        The sample's own, for its pattern type.

    Raises
    ------
    ManifestError
        For columns that cannot be used, or a table without patterns or without tumour cells.
    """
    from her2path.core.errors import ManifestError

    settings = settings or Settings()
    positive = tuple(
        settings.heterogeneity.positive or guidelines.positive_definition(settings.score.guideline)
    )
    points = read_points(
        table, positive, settings, regions=None if regions is None else regions.num_rows
    )
    patterns = points.area_patterns()
    if points.pattern is None or patterns is None or points.n == 0:
        raise ManifestError(f"sample {name!r} has no tumour cells with a pattern", "Leave it out")
    side, leak = _side(points, heterogeneity, settings)
    label = square_ids(*points.at(), side) if points.located else points.area
    block = np.unique(label, return_inverse=True)[1].ravel()
    flat = block * len(PATTERNS) + points.pattern
    size = (int(block.max()) + 1) * len(PATTERNS)
    k, n = points.area_counts()
    inside = points.area >= 0
    ground = np.asarray(np.bincount(points.area[inside], points.ground_um2[inside], n.size), float)
    blocks = np.bincount(flat, minlength=size).reshape(-1, len(PATTERNS)).astype(np.int64)
    if score is None:
        tally = blocks.sum(axis=0).tolist()
        score = guidelines.score(
            dict(zip(PATTERNS, tally, strict=True)), settings.score.guideline, settings.score
        )
    return Sample(
        name=name,
        timepoint=timepoint,
        ihc=score.ihc,
        category=score.category,
        blocks=blocks,
        areas=area_table(points.area_names, k, n, ground, rules_of(settings)),
        area_patterns=patterns,
        positive=positive,
        pattern_type=None if heterogeneity is None else heterogeneity.pattern.type,
        leak=leak,
        area_block=area_labels(points, n.size, side),
    )


def _side(points: Points, known: Heterogeneity | None, settings: Settings) -> tuple[float, float]:
    """Return side and hidden variance of the blocks: as measured already, or by the variogram."""
    measured = getattr(known, "intervals", None) or {}
    if measured.get("block_um") is not None:
        return float(measured["block_um"]), float(measured["hidden_variance"])
    k = int(points.positive.sum())
    if not points.located or points.n < 3 or k in (0, points.n):
        return settings.heterogeneity.interval_block_um, 0.0
    rules = settings.heterogeneity
    pairs = pair_counts(
        *points.at(), points.positive, rules.variogram_um, rules.variogram_lag_um, settings.seed
    )
    return block_side_um(points, fit_variogram(pairs), settings)
