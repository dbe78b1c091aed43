"""What was read, as cells: the items of READS.csv that have a result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from her2path.core.errors import UsageError, one_line
from her2path.core.results import AssayFacts
from her2path.core.settings import Settings
from her2path.io.reads import PROGRAM, REFERENCE, Read
from her2path.io.store import BatchStore, RunStore, read_json
from her2path.scoring.calibration.critical import critical_values

__all__ = ["Item", "critical_of", "items_of", "used_reads"]

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Item:
    """One thing that was read: the tumour cells of each slide that it covers, and its reads.

    ``slides``: per slide strength, completeness, x and y (µm). ``counts`` (4,): reads by score.
    """

    case: str
    slides: tuple[tuple[F64, F64, F64, F64], ...]
    counts: F64
    sha256: str
    assays: tuple[AssayFacts, ...]


def used_reads(reads: Sequence[Read]) -> list[Read]:
    """Return the reads that count: of the adjudicated reader where there is one, else all.

    Raises
    ------
    UsageError
        Where nobody has given a score.
    """
    told = [r for r in reads if r.score is not None and r.reader != PROGRAM]
    reference = [r for r in told if r.reader == REFERENCE]
    if not told:
        raise UsageError("no read has a score", "Fill the column score")
    return reference or told


def items_of(reads: Sequence[Read], results: Path, measure: str) -> list[Item]:
    """Return every item of the reads that has an evaluable result.

    Raises
    ------
    UsageError
        Where none has.
    """
    stores = dict(_stores(results))
    by_item: dict[tuple[str, str, str], list[Read]] = {}
    for r in reads:
        by_item.setdefault(r.item, []).append(r)
    found = []
    for (case, slide, region), mine in by_item.items():
        chosen = [s for name, s in stores.get(case, []) if slide in ("", name)]
        item = _item(case, chosen, region, mine, measure)
        if item is not None:
            found.append(item)
    if not found:
        raise UsageError(
            f"no case of the reads has a result (reads: {_some([k[0] for k in by_item])}; "
            f"results: {_some(list(stores))})", "Give the same case_id in both",
        )  # fmt: skip
    return found


def _stores(out: Path) -> Iterator[tuple[str, list[tuple[str, RunStore]]]]:
    """Yield case id and its slides, each with its id."""
    batch = BatchStore(out)
    if not batch.is_batch:
        store = RunStore(out)
        name = str(store.result().slide.id)  # says so where there is no result
        yield name, [(name, store)]
        return
    for folder in batch.case_dirs():
        tree = read_json(folder / "case.json")
        yield (
            str(tree["case_id"]),
            [
                (str(s["slide_id"]), batch.slide(str(s.get("folder") or s["slide_id"])))
                for s in tree.get("slides") or []
            ],
        )


def _item(
    case: str, stores: Sequence[RunStore], region: str, reads: Sequence[Read], measure: str
) -> Item | None:
    slides, digest, assays = [], hashlib.sha256(), []
    for store in stores:
        if not store.complete or (result := store.result()).status != "complete":
            continue
        cells = _cells(store, region, measure)
        if cells is None:
            continue
        slides.append(cells)
        assays.append(result.assay)
        digest.update(store.result_path.read_bytes())
    if not slides:
        return None
    counts = np.bincount([int(r.score or 0) for r in reads], minlength=4).astype(np.float64)
    return Item(case, tuple(slides), counts, digest.hexdigest(), tuple(assays))


def _cells(store: RunStore, region: str, measure: str) -> tuple[F64, F64, F64, F64] | None:
    names = [measure, "completeness", "x_um", "y_um", "region_id"]
    cells: pa.Table = store.cells(names, pc.field("cell_type") == "tumour")
    if region:
        table = store.regions()
        rows = [i for i, n in zip(table["region_id"].to_pylist(), table["name"].to_pylist(),
                                  strict=True) if region in (str(i), str(n))]  # fmt: skip
        if len(rows) != 1:
            return None
        cells = cells.filter(pc.equal(cells["region_id"], rows[0]))
    if cells.num_rows == 0:
        return None
    a, b, x, y = (cells.column(n).to_numpy().astype(np.float64) for n in names[:4])
    return a, b, x, y


def critical_of(items: Sequence[Item], settings: Settings) -> F64:
    """Return the critical values of every item, (items, 3, 3); of several slides the highest.

    A case's score is that of its highest slide (`score_highest`).
    """
    return np.array([
        np.max([critical_values(v, c, settings, (x, y)) for v, c, x, y in item.slides], axis=0)
        for item in items
    ])  # fmt: skip


def _some(names: Sequence[str]) -> str:
    words = list(dict.fromkeys(names))
    return ", ".join(one_line(n, 30) for n in words[:4]) + (", ..." if words[4:] else "")
