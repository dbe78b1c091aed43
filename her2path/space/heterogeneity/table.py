"""The table that heterogeneity is measured on, read once and put into one order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from her2path.core.errors import ManifestError, SettingsError
from her2path.core.schema import CELL_TYPES, INTENSITY, PATTERNS, SCORES
from her2path.core.settings import Settings
from her2path.space.spatial.columns import codes_of, column_names, column_of, numbers_of
from her2path.space.spatial.order import canonical
from her2path.space.spatial.tiling import square_ids, territory_um2, unkey

__all__ = ["INTENSITY_OF", "Points", "intensity_counts", "read_points"]

Float = NDArray[np.float64]
Int = NDArray[np.int64]
#: what is known of an intensity alone stands for these patterns
PATTERN_OF_SCORE = np.array(
    [PATTERNS.index(p) for p in ("none", "faint_incomplete", "moderate_complete",
                                 "intense_complete")], np.int8,
)  # fmt: skip
INTENSITY_OF = np.array([INTENSITY[p] for p in PATTERNS], np.int8)
#: slides of one table are laid this far apart, so that no neighbourhood spans two of them, µm
SLIDE_GAP_UM = 20_000.0
#: the largest number of copies that is not a mistake
MAX_COPIES = 1e6


def intensity_counts(patterns: Any) -> Any:
    """Return counts of intensity 0..3, (..., 4), from counts of the seven patterns, (..., 7)."""
    return np.stack([patterns[..., i == INTENSITY_OF].sum(axis=-1) for i in range(4)], axis=-1)


@dataclass(frozen=True)
class Points:
    """Evaluable tumour cells in canonical order (`spatial.canonical`).

    Attributes
    ----------
    x, y : (n,) float64 or None
        µm; None where the table has no positions.
    positive : (n,) bool
    pattern : (n,) int8 or None
        Index into `schema.PATTERNS`.
    area : (n,) int64
        Area of each cell, 0..; -1 where none.
    area_names : tuple of str
    area_kind : str
        ``given`` (area_id), ``region`` (region_id) or ``grid``.
    ground_um2 : (n,) float64
        Ground that a cell stands for.
    basis : "ihc" or "ish"
    copies : (n, 2) float64 or None
        HER2 and CEP17 counts on the ISH basis.
    left_out : int
        Cells without a CEP17 signal.
    measured : (n,) float64 or None
        Membrane OD where given.
    """

    x: Float | None
    y: Float | None
    positive: NDArray[np.bool_]
    pattern: NDArray[np.int8] | None
    area: Int
    area_names: tuple[str, ...]
    area_kind: str
    ground_um2: Float
    basis: Literal["ihc", "ish"]
    copies: Float | None
    left_out: int
    measured: Float | None

    @property
    def n(self) -> int:
        """Number of evaluable tumour cells."""
        return int(self.positive.size)

    @property
    def intensity(self) -> NDArray[np.int8] | None:
        """Intensity 0..3 of each cell; None where only positive or negative is known."""
        return None if self.pattern is None else INTENSITY_OF[self.pattern]

    @property
    def located(self) -> bool:
        """Whether positions are known."""
        return self.x is not None

    def at(self) -> tuple[Float, Float]:
        """Return x and y of located points."""
        if self.x is None or self.y is None:
            raise ValueError("these cells have no positions")
        return self.x, self.y

    def area_counts(self) -> tuple[Int, Int]:
        """Return positive and all cells of each area."""
        inside, size = self.area >= 0, len(self.area_names)
        n = np.bincount(self.area[inside], minlength=size)
        k = np.bincount(self.area[inside & self.positive], minlength=size)
        return k.astype(np.int64), n.astype(np.int64)

    def area_patterns(self) -> Int | None:
        """Return counts of the seven patterns of each area, (areas, 7)."""
        if self.pattern is None:
            return None
        inside = self.area >= 0
        flat = self.area[inside] * len(PATTERNS) + self.pattern[inside]
        size = len(self.area_names) * len(PATTERNS)
        return np.bincount(flat, minlength=size).reshape(-1, len(PATTERNS)).astype(np.int64)


def read_points(
    table: Any, positive: Sequence[str], settings: Settings, *, regions: int | None = None
) -> Points:
    """Read a table of cells.

    Parameters
    ----------
    table : pyarrow.Table, DataFrame or dict of arrays
        What says positive, the first of: a boolean column ``positive``; ``pattern``; ``score``
        (0..3 or 0, 1+, 2+, 3+); ``her2`` and ``cep17`` counts (the ISH basis). Positions ``x_um``,
        ``y_um`` (both or none), and optionally ``cell_type``, ``area_id``, ``slide_id``,
        ``membrane_od``.
    positive : sequence of str
        Patterns that are positive.
    settings : Settings
    regions : int, optional
        Number of regions; the column ``region_id`` (0.. or -1) then gives the areas.

    Raises
    ------
    ManifestError
        For missing columns or values that cannot be used; names the column and the row.
    SettingsError
        For an unknown pattern in ``positive``.
    """
    unknown = [p for p in positive if p not in PATTERNS]
    if unknown or not positive:
        raise SettingsError(
            f"positive names {', '.join(unknown) or 'no pattern'}", f"Valid: {', '.join(PATTERNS)}"
        )
    names = column_names(table)
    pattern, called, copies = _status(table, names, positive, settings)
    located = "x_um" in names or "y_um" in names
    x = numbers_of(table, "x_um") if located else None
    y = numbers_of(table, "y_um") if located else None
    if x is not None and y is not None and "slide_id" in names:
        x = _apart(x, table)
    keep = _tumour(table, names, called.size)
    ground = territory_um2(x, y) if x is not None and y is not None else np.ones(called.size)
    area, area_names, kind = _areas(table, names, (x, y), settings.regions.size_um, regions)
    evaluable = keep if copies is None else keep & (copies[:, 1] > 0)
    rows = np.flatnonzero(evaluable)
    if x is not None and y is not None:
        code = called if pattern is None else pattern
        rows = rows[canonical(x[rows], y[rows], code[rows], area[rows])]
    area = area[rows]
    if regions is None:
        area, area_names = _renumber(area, area_names)
    return Points(
        x=None if x is None else x[rows],
        y=None if y is None else y[rows],
        positive=called[rows],
        pattern=None if pattern is None else pattern[rows],
        area=area,
        area_names=area_names,
        area_kind=kind,
        ground_um2=ground[rows],
        basis="ihc" if copies is None else "ish",
        copies=None if copies is None else copies[rows],
        left_out=int((keep & ~evaluable).sum()),
        measured=_measured(table, names, rows),
    )


def _status(
    table: Any, names: list[str], positive: Sequence[str], settings: Settings
) -> tuple[NDArray[np.int8] | None, NDArray[np.bool_], Float | None]:
    """Return pattern codes, which cells are positive, and copies on the ISH basis."""
    wanted = np.isin(np.arange(len(PATTERNS)), [PATTERNS.index(p) for p in positive])
    if "positive" in names:
        pattern = codes_of(table, "pattern", PATTERNS) if "pattern" in names else None
        return pattern, _flags(table), None
    if "pattern" in names or "score" in names:
        pattern = codes_of(table, "pattern", PATTERNS) if "pattern" in names else _scores(table)
        return pattern, wanted[pattern], None
    if "her2" in names and "cep17" in names:
        copies = np.column_stack(
            [numbers_of(table, name, limit=MAX_COPIES) for name in ("her2", "cep17")]
        )
        low = np.flatnonzero((copies < 0).any(axis=1))
        if low.size:
            raise ManifestError(f"row {low[0] + 1} has a negative count", "Counts are 0 or more")
        # a cell without CEP17 has no ratio: it is left out by the caller
        amplified = (copies[:, 1] > 0) & (copies[:, 0] >= settings.ish.cell_ratio * copies[:, 1])
        return None, amplified, copies
    raise ManifestError(
        f"the table says nothing about HER2 (its columns: {', '.join(names) or 'none'})",
        "Give `pattern`, a boolean `positive`, `score`, or `her2` and `cep17`",
    )


def _flags(table: Any) -> NDArray[np.bool_]:
    values = numbers_of(table, "positive", limit=1.0)
    bad = np.flatnonzero((values != 0) & (values != 1))
    if bad.size:
        raise ManifestError(
            f"the column 'positive' is neither true nor false in row {bad[0] + 1}", "Correct it"
        )
    return values == 1


def _scores(table: Any) -> NDArray[np.int8]:
    column = column_of(table, "score")
    kind = column.type.value_type if isinstance(column, pa.DictionaryArray) else column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        if isinstance(column, pa.DictionaryArray):
            column = column.cast(pa.string())
        words = [w if w is None or w in SCORES else f"{w}+" for w in column.to_pylist()]
        return PATTERN_OF_SCORE[codes_of({"score": words}, "score", SCORES)]
    values = numbers_of(table, "score", limit=3.0)
    bad = np.flatnonzero(~np.isin(values, (0, 1, 2, 3)))
    if bad.size:
        raise ManifestError(f"the column 'score' is not 0..3 in row {bad[0] + 1}", "Correct it")
    return PATTERN_OF_SCORE[values.astype(np.int64)]


def _apart(x: Float, table: Any) -> Float:
    """Return x with slides laid side by side in the order of their names."""
    slide = _words(table, "slide_id")[0]
    out, at = x.copy(), 0.0
    for i in range(int(slide.max()) + 1 if slide.size else 0):
        own = slide == i
        shift = at - float(x[own].min()) if i else 0.0
        out[own] = x[own] + shift
        at = float(out[own].max()) + SLIDE_GAP_UM
    return out


def _words(table: Any, name: str) -> tuple[Int, tuple[str, ...]]:
    """Return a column as codes into its distinct values, sorted; empty cells are -1."""
    values = column_of(table, name).to_pylist()
    words = sorted({str(v) for v in values if v is not None})
    number = {w: i for i, w in enumerate(words)}
    return np.array([-1 if v is None else number[str(v)] for v in values], np.int64), tuple(words)


def _tumour(table: Any, names: list[str], n: int) -> NDArray[np.bool_]:
    if "cell_type" not in names:
        return np.ones(n, bool)
    return codes_of(table, "cell_type", CELL_TYPES) == 0


def _areas(
    table: Any, names: list[str], at: tuple[Float | None, Float | None], size_um: float,
    regions: int | None,
) -> tuple[Int, tuple[str, ...], str]:  # fmt: skip
    if regions is not None:
        region = numbers_of(table, "region_id").astype(np.int64)
        if region.size and not -1 <= int(region.min()) <= int(region.max()) < regions:
            raise ManifestError("region_id names a region that is not in the regions table",
                                "Give the cells and the regions of one run")  # fmt: skip
        return region, tuple(str(i) for i in range(regions)), "region"
    if "area_id" in names:
        return (*_words(table, "area_id"), "given")
    x, y = at
    if x is None or y is None:
        return np.zeros(len(column_of(table, names[0])), np.int64), ("all",), "given"
    used, number = np.unique(square_ids(x, y, size_um), return_inverse=True)
    rows, cols = unkey(used)
    tiles = tuple(f"r{r} c{c}" for r, c in zip(rows.tolist(), cols.tolist(), strict=True))
    return number.ravel().astype(np.int64), tiles, "grid"


def _renumber(area: Int, names: tuple[str, ...]) -> tuple[Int, tuple[str, ...]]:
    """Drop areas of a grid or table that hold no evaluable tumour cell."""
    used = np.unique(area[area >= 0])
    if used.size == len(names):
        return area, names
    number = np.full(len(names) + 1, -1, np.int64)
    number[used] = np.arange(used.size)
    return number[area], tuple(names[i] for i in used)


def _measured(table: Any, names: list[str], rows: Int) -> Float | None:
    if "membrane_od" not in names:
        return None
    return numbers_of(table, "membrane_od")[rows]
