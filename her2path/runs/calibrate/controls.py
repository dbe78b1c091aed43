"""CONTROLS.csv: which cells are of known level, or of known receptor number."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from her2path.core.csvfile import read_sheet, tidy
from her2path.core.errors import Her2PathError, ManifestError, UsageError, one_line
from her2path.core.results import AssayFacts
from her2path.core.schema import SCORES
from her2path.core.settings import Settings, Source
from her2path.io.annotations import read_annotations, receptors_of
from her2path.io.store import BatchStore, RunStore
from her2path.runs.case import RunOptions, score_slide
from her2path.scoring.calibration.control import MEASURES, Control

__all__ = ["COLUMNS", "Loaded", "read_controls", "with_median"]

COLUMNS = ("result", "slide", "region", "level", "receptors", "name", "batch", "date")
MAX_BYTES = 16 << 20
_CELLS = [*MEASURES, "completeness", "tumour_probability", "x_um", "y_um"]


@dataclass(frozen=True)
class Loaded:
    """A control, what is written down of it, and the assay that its slide names."""

    control: Control
    source: Source
    assay: AssayFacts


#: settings, a folder for results, and what was scored there already
_Scoring = tuple[Settings, Path, dict[Path, RunStore]]


@dataclass(frozen=True)
class _Row:
    line: int
    result: str
    slide: str
    region: str
    level: int | None
    receptors: float | None
    name: str
    batch: str
    date: str


def read_controls(path: Path, settings: Settings, results: Path | None = None) -> list[Loaded]:
    """Read CONTROLS.csv and the cells that it names.

    Parameters
    ----------
    path : Path
        Columns: ``result`` (an OUT) or ``slide`` (a slide file, or a slide's id in `results`),
        ``region``, ``level``, ``receptors``, ``name``, ``batch``, ``date``.
    settings : Settings
        For slides that have no result: they are scored in a temporary folder.
    results : Path, optional
        OUT of a batch, for slide ids.

    Raises
    ------
    ManifestError
        Names every row that cannot be used.
    """
    problems: list[str] = []
    rows = list(_rows(path, problems))
    loaded: list[Loaded] = []
    with tempfile.TemporaryDirectory(prefix="her2path-controls-") as folder:
        scored: dict[Path, RunStore] = {}
        for row in rows if not problems else ():
            try:
                store = _store(row, path.parent, results, (settings, Path(folder), scored))
                loaded.append(_loaded(row, store))
            except Her2PathError as exc:
                problems.append(f"row {row.line}: {one_line(exc.what, 200)}")
    if problems:
        more = f"; and {len(problems) - 8} more" if problems[8:] else ""
        raise ManifestError(f"{path.name}: {'; '.join(problems[:8])}{more}", "Correct these rows")
    return loaded


def _rows(path: Path, problems: list[str]) -> Iterator[_Row]:
    sheet = read_sheet(path, COLUMNS, MAX_BYTES)
    if not {"result", "slide"} & set(sheet.columns):
        raise ManifestError(f"{path.name} has no column result or slide",
                            f"Known columns: {', '.join(COLUMNS)}")  # fmt: skip
    if not {"level", "receptors"} & set(sheet.columns):
        raise ManifestError(f"{path.name} has no column level or receptors",
                            f"Known columns: {', '.join(COLUMNS)}")  # fmt: skip
    if not sheet.rows:
        raise ManifestError(f"{path.name} lists no control", "Add a row for every control")
    for line, values in sheet.records():
        text = {c: tidy(values.get(c, "")) for c in COLUMNS}
        if not (text["result"] or text["slide"]):
            problems.append(f"row {line}: neither result nor slide is given")
            continue
        level, receptors = _stated(line, text, problems)
        yield _Row(line, text["result"], text["slide"], text["region"], level, receptors,
                   text["name"], text["batch"], text["date"])  # fmt: skip


def _stated(
    line: int, text: dict[str, str], problems: list[str]
) -> tuple[int | None, float | None]:
    level: int | None = None
    receptors: float | None = None
    word = text["level"].replace(" ", "").rstrip("+")
    if word and word not in ("0", "1", "2", "3"):
        problems.append(f"row {line}: level {text['level']!r} is not {', '.join(SCORES)}")
    elif word:
        level = int(word)
    if text["receptors"]:
        try:
            receptors = receptors_of(text["receptors"])
        except ValueError as exc:
            problems.append(f"row {line}: {exc}")
    if not (text["level"] or text["receptors"]):
        problems.append(f"row {line}: neither level nor receptors is given")
    return level, receptors


def _store(row: _Row, base: Path, results: Path | None, scoring: _Scoring) -> RunStore:
    """Return the result that a row names; a slide without one is scored now."""
    settings, folder, scored = scoring
    if row.result:
        out = base / row.result
        if row.slide and BatchStore(out).is_batch:
            return _of_batch(out, row.slide)
        if not RunStore(out).complete:
            raise UsageError(f"{row.result} holds no result of a slide")
        return RunStore(out)
    path = base / row.slide
    if not path.is_file():
        if results is None or not BatchStore(results).is_batch:
            raise UsageError(f"the slide {row.slide!r} does not exist")
        return _of_batch(results, row.slide)
    if path not in scored:
        place = folder / str(len(scored))
        score_slide(path, place, settings, options=RunOptions())
        scored[path] = RunStore(place)
    return scored[path]


def _of_batch(out: Path, slide_id: str) -> RunStore:
    for store in BatchStore(out).slides():
        if store.complete and slide_id in (store.out.name, store.result().slide.id):
            return store
    raise UsageError(f"there is no slide {slide_id!r} in {out.name}")


def _loaded(row: _Row, store: RunStore) -> Loaded:
    result = store.result()
    if result.status != "complete":
        raise UsageError(f"the slide {result.slide.id} was not evaluable")
    name = row.name or row.region or result.slide.id
    name = f"{name} (row {row.line})"
    cells = store.cells([*_CELLS, "cell_type"])
    columns = {c: cells.column(c).to_numpy() for c in _CELLS}
    if row.region:
        mine = _in_region(store, row.region, columns, float(result.slide.mpp or 1.0))
        mine &= columns["tumour_probability"] >= 0.5
    else:
        mine = np.array(cells.column("cell_type").to_pylist()) == "tumour"
    kept = {c: v[mine] for c, v in columns.items()}
    control = Control.of(name, kept, row.level, row.receptors)
    source = Source(
        name=name, kind="control", level=None if row.level is None else SCORES[row.level],
        receptors=row.receptors, cells=int(mine.sum()), date=row.date or None,
        batch=row.batch or None, sha256=hashlib.sha256(store.result_path.read_bytes()).hexdigest(),
    )  # fmt: skip
    return Loaded(control, source, result.assay)


def _in_region(
    store: RunStore, name: str, columns: dict[str, np.ndarray], mpp: float
) -> np.ndarray:
    """Return which cells lie in a named annotation, or a named region of the result.

    Raises
    ------
    UsageError
        Where no area, or more than one, has the name.
    """
    areas = dict(_areas(store, mpp))
    if name not in areas:
        raise UsageError(f"there is no region {name!r} (there are: {_some(list(areas))})")
    area = areas[name]
    if area is None:
        raise UsageError(f"several areas are called {name!r}: give each a name of its own")
    shapely.prepare(area)
    return np.asarray(shapely.contains_xy(area, columns["x_um"], columns["y_um"]))


def _areas(store: RunStore, mpp: float) -> Iterator[tuple[str, BaseGeometry | None]]:
    """Yield areas in µm by name, and by class; None for a name that several have."""
    found: dict[str, list[BaseGeometry]] = {}
    if store.annotations_path.exists():
        settings = store.settings()
        planes = store.result().slide.planes
        drawn = read_annotations(store.annotations_path, settings.tumour, stored=True)
        for a in drawn.moved(planes.file, planes.square).items:
            area = shapely.transform(a.polygon, lambda xy: xy * mpp)
            for word in dict.fromkeys((a.name, a.classification)):
                found.setdefault(word, []).append(area)
    table = store.regions()
    for word, wkb in zip(table["name"].to_pylist(), table["polygon"].to_pylist(), strict=True):
        found.setdefault(str(word), []).append(shapely.from_wkb(wkb))
    for word, areas in found.items():
        yield word, areas[0] if _same(areas) else None


def _same(areas: Sequence[BaseGeometry]) -> bool:
    return all(a.equals_exact(areas[0], 1.0) for a in areas[1:])


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(one_line(n, 40) for n in names[:8])
    return (shown + (", ..." if names[8:] else "")) or "none"


def with_median(loaded: Loaded, measure: str) -> Source:
    """Return what is written down of a control, with its median of a measure."""
    median = float(f"{loaded.control.median(measure):.6g}")
    return loaded.source.model_copy(update={"median": median})
