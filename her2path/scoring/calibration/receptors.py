"""Receptors of cells, of regions and of a slide, by a calibration's curve."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path.core.flags import flag
from her2path.core.results import QcFlag, Receptors
from her2path.core.settings import Curve, Settings
from her2path.scoring.calibration.control import F64
from her2path.scoring.calibration.curve import read_off, relative_error_at

__all__ = ["by_region", "receptor_flags", "summary", "with_receptors"]

NO_CURVE = "there is no curve of membrane OD against receptors (see her2path calibrate --controls)"


def with_receptors(cells: pa.Table, curve: Curve | None) -> pa.Table:
    """Return the cells with the column ``receptors`` (float32, null outside the curve)."""
    if curve is None:
        column = pa.nulls(cells.num_rows, pa.float32())
    else:
        values = read_off(curve, cells.column(curve.measure).to_numpy())
        column = pa.array(values, pa.float32(), mask=~np.isfinite(values))
    if "receptors" in cells.column_names:
        return cells.set_column(cells.schema.get_field_index("receptors"), "receptors", column)
    return cells.append_column("receptors", column)


def _censored(cells: pa.Table, curve: Curve) -> F64:
    """Return receptors with 0 for what lies below the curve and infinity for what lies above."""
    values = cells.column("receptors").to_numpy(zero_copy_only=False).astype(np.float64)
    od = cells.column(curve.measure).to_numpy()
    outside = ~np.isfinite(values)
    values[outside] = np.where(od[outside] < curve.od[0], 0.0, np.inf)
    return values


def _inside(value: float) -> float | None:
    return float(value) if 0 < value < np.inf else None


def summary(tumour: pa.Table, curve: Curve | None, settings: Settings) -> Receptors:
    """Return the slide's receptors; the interval from blocks of tissue and from the curve.

    Parameters
    ----------
    tumour : pyarrow.Table
        Tumour cells with ``receptors``, the curve's measure, ``x_um``, ``y_um``.
    """
    if curve is None:
        return Receptors(reason=NO_CURVE)
    values = _censored(tumour, curve)
    below, above = float((values == 0).mean()), float(np.isinf(values).mean())
    facts = {"range": curve.range, "below": below, "above": above}
    middle = _inside(_middle(values))
    if middle is None:
        where = "below" if below >= 0.5 else "above"
        return Receptors(**facts, reason=f"the median tumour cell lies {where} the range")
    low, high = _interval(values, tumour, settings)
    error = relative_error_at(curve, middle)
    # the two errors are independent: logarithms add as squares
    down = np.hypot(np.log(middle / low), np.log1p(error)) if low > 0 else np.inf
    up = np.hypot(np.log(high / middle), np.log1p(error)) if high < np.inf else np.inf
    ends = [middle * np.exp(-down), middle * np.exp(up)]
    least, most = curve.range
    return Receptors(
        **facts, median=middle, low=_inside(ends[0]) if ends[0] >= least else None,
        high=_inside(ends[1]) if ends[1] <= most else None,
    )  # fmt: skip


def _middle(values: F64) -> float:
    """Return the lower median: an order statistic, which 0 and infinity do not spoil."""
    return float(np.partition(values, (len(values) - 1) // 2)[(len(values) - 1) // 2])


def _interval(values: F64, tumour: pa.Table, settings: Settings) -> tuple[float, float]:
    """Return the 95 % interval of the median over blocks of tissue drawn with replacement."""
    side = settings.score.bootstrap_block_um
    x, y = (np.floor(tumour.column(n).to_numpy().astype(np.float64) / side).astype(np.int64)
            for n in ("x_um", "y_um"))  # fmt: skip
    block = np.unique(y * (1 << 31) + x, return_inverse=True)[1]
    n = int(block.max()) + 1
    order = np.argsort(values, kind="stable")
    ranked, owner = values[order], block[order]
    rng = np.random.default_rng(settings.seed)
    draws = []
    for _ in range(min(settings.score.bootstrap_draws, 200)):
        times = rng.multinomial(n, np.full(n, 1 / n))
        total = np.cumsum(times[owner])
        if total[-1]:
            draws.append(ranked[np.searchsorted(total, (total[-1] + 1) // 2)])
    ordered = np.sort(draws)
    last = len(ordered) - 1
    return float(ordered[int(0.025 * last)]), float(ordered[int(np.ceil(0.975 * last))])


def by_region(regions: pa.Table, tumour: pa.Table, curve: Curve | None, least: int) -> pa.Table:
    """Return the regions with ``receptors_median``; null where cells or curve do not carry one.

    Parameters
    ----------
    regions, tumour : pyarrow.Table
        Regions, and tumour cells with ``region_id`` and ``receptors``.
    least : int
        Regions with fewer tumour cells have none.
    """
    found: list[float | None] = [None] * regions.num_rows
    if curve is not None:
        values, owner = _censored(tumour, curve), tumour.column("region_id").to_numpy()
        for i, mine in _groups(owner, regions.num_rows):
            if len(mine) >= max(least, 1):
                found[i] = _inside(_middle(values[mine]))
    where = regions.schema.get_field_index("receptors_median")
    return regions.set_column(where, regions.schema.field(where), pa.array(found, pa.float64()))


def _groups(owner: NDArray[np.int32], n: int) -> list[tuple[int, NDArray[np.int64]]]:
    order = np.argsort(owner, kind="stable")
    edges = np.searchsorted(owner[order], np.arange(n + 1))
    return [(i, order[edges[i] : edges[i + 1]]) for i in range(n)]


def receptor_flags(found: Receptors) -> list[QcFlag]:
    """Return the flag of cells outside the range: a warning where the median is."""
    if found.range is None or not ((found.below or 0) + (found.above or 0)) > 0:
        return []
    least, most = found.range
    words = (f"Below {least:.0f}: {found.below:.0%}; above {most:.0f}: {found.above:.0%} of the "
             "tumour cells.")  # fmt: skip
    return [flag("RECEPTORS_OUTSIDE_RANGE", words, "warning" if found.median is None else None)]
