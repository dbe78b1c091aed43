"""What cells can be coloured by: score, completeness, density, receptors, certainty, reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from her2path.core.schema import PATTERNS
from her2path.io.store import RunStore
from her2path.outputs.palette import SCORE_COLOURS, rgb
from her2path.outputs.viewer.index import OTHER, CellIndex
from her2path.space.heterogeneity.bystander import RADII_UM, nearest_positive

__all__ = ["Measure", "Measures"]

#: colours of a measure from its least to its most; even steps look even (viridis)
RAMP: NDArray[np.uint8] = cv2.applyColorMap(
    np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_VIRIDIS
)[:, 0, ::-1].copy()
_SCORES = np.array([rgb(c) for c in SCORE_COLOURS.values()], np.float64)
#: cells that are no tumour, or have no value
GREY = (105, 105, 105)
#: colours that outlines are drawn in: more cannot be told apart, and each is drawn at one go
_STEPS = 24
SCORE = "score"


@dataclass(frozen=True)
class Measure:
    """One measure: what it is called, its unit, and the range that the colours span."""

    name: str
    words: str
    unit: str
    low: float
    high: float
    log: bool = False

    def place(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return where values lie in the range, 0..1; NaN stays."""
        v = np.asarray(values, np.float64)
        low, high = self.low, self.high
        if self.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                v, low, high = np.log10(v), float(np.log10(low)), float(np.log10(high))
        placed: NDArray[np.float64] = np.clip((v - low) / (high - low), 0, 1)
        return placed

    def facts(self) -> dict[str, Any]:
        """Return what the page's legend needs."""
        stops = ([f"rgb({r},{g},{b})" for r, g, b in _SCORES.astype(int)] if self.name == SCORE
                 else [f"rgb({r},{g},{b})" for r, g, b in RAMP[::51]])  # fmt: skip
        return {"name": self.name, "words": self.words, "unit": self.unit, "low": self.low,
                "high": self.high, "log": self.log, "stops": stops}  # fmt: skip


#: column, words, unit; the range is the table's own where none is given
_COLUMNS: tuple[tuple[str, str, str, tuple[float, float] | None], ...] = (
    ("completeness", "completeness of the membrane", "", (0.0, 1.0)),
    ("membrane_od", "membrane OD", "OD", None),
    ("membrane_mass", "membrane mass", "OD·µm", None),
    ("cytoplasm_od", "cytoplasm OD", "OD", None),
    ("kind_certainty", "certainty of the kind of cell", "", (0.0, 1.0)),
    ("receptors", "receptors a cell", "", None),
)
_REACH = ("bystander", "distance to the nearest positive cell", "µm", None)
#: of a measure without a range of its own the most is this quantile, so that few do not rule all
_MOST = 0.99


class Measures:
    """The measures of one run; read when they are first asked for.

    Parameters
    ----------
    store : RunStore
    index : CellIndex
        Whose rows the values are in.
    positive : sequence of str
        Patterns of a positive cell.
    """

    def __init__(self, store: RunStore, index: CellIndex, positive: tuple[str, ...]) -> None:
        self._store, self._index = store, index
        self._positive = [PATTERNS.index(p) for p in positive]
        self._values: dict[str, NDArray[np.float32]] = {}
        self._known: dict[str, Measure] = {}
        there = store.cell_columns() if store.cells_path.exists() else []
        self.names = (SCORE, *(c[0] for c in _COLUMNS if c[0] in there), "bystander")

    def labels(self) -> list[tuple[str, str]]:
        """Return name and words of every measure, without reading any."""
        words = {SCORE: SCORE, **{c[0]: c[1] for c in (*_COLUMNS, _REACH)}}
        return [(name, words[name]) for name in self.names]

    def measure(self, name: str) -> Measure:
        """Return a measure by its name; `KeyError` where there is none."""
        if name not in self.names:
            raise KeyError(name)
        if name not in self._known:
            self._known[name] = self._made(name)
        return self._known[name]

    def _made(self, name: str) -> Measure:
        if name == SCORE:
            return Measure(SCORE, "score", "", 0, 3)
        _, words, unit, limits = next(c for c in (*_COLUMNS, _REACH) if c[0] == name)
        log = name == "receptors"
        if limits is None:
            values = self.values(name)
            known = values[np.isfinite(values) & (values > 0)]
            high = float(np.quantile(known, _MOST)) if len(known) else 1.0
            low = float(np.quantile(known, 1 - _MOST)) if log and len(known) else 0.0
            limits = (low, high if high > low else low + 1.0)
        return Measure(name, words, unit, *limits, log=log)

    def values(self, name: str) -> NDArray[np.float32]:
        """Return every cell's value, (n,) float32; NaN where it has none."""
        if name == SCORE:
            cells = self._index.cells
            return np.where(cells.kind == OTHER, np.nan, cells.score).astype(np.float32)
        if name not in self._values:
            self._values[name] = self._reach() if name == "bystander" else self._column(name)
        return self._values[name]

    def _column(self, name: str) -> NDArray[np.float32]:
        out = np.full(len(self._index.cells), np.nan, np.float32)
        for table in self._store.iter_cells(columns=("cell_id", name)):
            rows = self._index.rows_of(table["cell_id"].to_numpy())
            out[rows] = table[name].to_numpy(zero_copy_only=False)
        out[~self._index.tumour] = np.nan
        return out

    def _reach(self) -> NDArray[np.float32]:
        index = self._index
        out = np.full(len(index.cells), np.nan, np.float32)
        mine = np.flatnonzero(index.tumour)
        if len(mine):
            x, y = (getattr(index.cells, a)[mine].astype(np.float64) * index.mpp
                    for a in ("x_px", "y_px"))  # fmt: skip
            positive = np.isin(index.cells.kind[mine], self._positive)
            out[mine] = np.minimum(nearest_positive(x, y, positive), RADII_UM[-1])
        return out

    def forget(self) -> None:
        """Drop what depends on how cells are classed."""
        self._values.pop("bystander", None)

    def groups(
        self, name: str, rows: NDArray[np.int64]
    ) -> list[tuple[NDArray[np.int64], tuple[int, int, int]]]:
        """Return rows by the colour that they are drawn in."""
        values = self.values(name)[rows]
        if name == SCORE:
            code = np.where(np.isfinite(values), np.clip(np.nan_to_num(values), 0, 3), -1)
            colours = {k: tuple(int(v) for v in _SCORES[k]) for k in range(4)}
        else:
            place = np.nan_to_num(self.measure(name).place(values), nan=-1.0)
            code = np.where(np.isfinite(values), np.round(place * (_STEPS - 1)), -1)
            colours = {k: tuple(int(v) for v in RAMP[round(255 * k / (_STEPS - 1))])
                       for k in range(_STEPS)}  # fmt: skip
        code = code.astype(np.int64)
        return [(rows[code == k], colours.get(k, GREY))  # type: ignore[misc]
                for k in np.unique(code).tolist()]  # fmt: skip


def ramp(measure: Measure, mean: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the colour of each value, (..., 3) uint8; NaN counts as the least."""
    if measure.name != SCORE:
        place = np.nan_to_num(measure.place(mean))
        return RAMP[np.round(place * 255).astype(np.int64)]
    clean = np.clip(np.nan_to_num(mean), 0, 3)
    low = np.minimum(clean.astype(int), 2)
    part = (clean - low)[..., None]
    mixed = _SCORES[low] * (1 - part) + _SCORES[low + 1] * part
    return np.asarray(np.round(mixed), np.uint8)
