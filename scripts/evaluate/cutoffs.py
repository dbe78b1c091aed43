"""The intensity cut-offs that real cells read by eye ask for: of each image, and of all together.

    python -m scripts.evaluate.cutoffs RESULTS [RESULTS ...]

RESULTS are folders as `reads.py --score` makes them, each with nets that had not seen the
images in it. On tumour cells that both readers call so, and that the program found, the lower
limits of faint, moderate and intense in `membrane_od` are sought that bring the mean quadratic
kappa with both readers highest: for every image alone, and one set for all images, each weighing
alike. The spread of the images' own limits (as a factor) is what an uncalibrated laboratory of the
same stain may be off by; other laboratories differ by more.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds

from scripts.evaluate.matching import pair
from scripts.evaluate.read_figures import READS, agreement, read_points, rows_of

MATCH_UM, FEWEST = 3.0, 25
#: limits that are tried, OD
FAINT = (0.008, 0.012, 0.015, 0.02)
HIGHER = np.geomspace(0.03, 0.5, 40)


def cells_of(results: Path, points: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return grades of both readers, OD and whether stained, (n, 4), of every image."""
    out = defaultdict(list)
    for field in rows_of(READS / "fields.csv"):
        path = results / field["image"] / "cells.parquet"
        if field["look"] != "as_is" or not path.exists():
            continue
        names = ["x_px", "y_px", "membrane_od", "completeness"]
        table = ds.dataset(path).to_table(columns=names)
        x, y, od, share = (table.column(n).to_numpy() for n in names)
        mpp, mine = float(field["mpp"]), points[field["field"]]
        mine = mine[(mine["kind"] == "tumour").all(axis=1) & (mine["grade"] >= 0).all(axis=1)]
        mate = pair(np.stack([x, y], axis=1) * mpp, mine["at"] * mpp, MATCH_UM)
        hit = mate >= 0
        out[field["image"]].append(
            np.column_stack([mine["grade"][mate[hit]], od[hit], share[hit] > 0])
        )
    return {k: np.concatenate(v) for k, v in out.items()}


def kappa(cells: np.ndarray, limits: tuple[float, ...]) -> float:
    """Return the mean quadratic kappa with both readers under some limits."""
    level = np.where(cells[:, 3] > 0, np.searchsorted(limits, cells[:, 2], side="right"), 0)
    both = [agreement(cells[:, k].astype(int), level)["kappa"] for k in (0, 1)]
    return float(np.mean([k if k is not None else np.nan for k in both]))


def main() -> None:
    """Read the command line, print the limits."""
    raw = argparse.RawDescriptionHelpFormatter
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    ask.add_argument("results", type=Path, nargs="+")
    args = ask.parse_args()
    cells: dict[str, np.ndarray] = {}
    for folder in args.results:
        cells |= cells_of(folder, read_points(READS))
    # an image without a moderate cell says nothing of the limits
    cells = {k: v for k, v in cells.items() if len(v) >= FEWEST and v[:, :2].max() > 1}
    tried = [t for t in product(FAINT, HIGHER, HIGHER) if t[2] >= 1.6 * t[1]]
    found = {k: np.array([kappa(v, t) for t in tried]) for k, v in cells.items()}
    own = {k: tried[int(np.nanargmax(v))] for k, v in found.items()}
    for k, v in found.items():
        highest = round(float(np.nanmax(v)), 2)
        print(k, len(cells[k]), "cells, limits", np.round(own[k], 3), "kappa", highest)
    mean = np.mean(list(found.values()), axis=0)
    best = tried[int(np.nanargmax(mean))]
    print("one set for all:", np.round(best, 3), "kappa",
          {k: round(kappa(v, best), 2) for k, v in cells.items()})  # fmt: skip
    spread = np.exp(np.std(np.log(list(own.values())), axis=0, ddof=1)) if len(own) > 1 else None
    print("spread of the images' own limits, as a factor (SD):", spread)


if __name__ == "__main__":
    main()
