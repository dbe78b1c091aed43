"""How well control areas on the slide calibrate it: drawings at gain 0.5 to 2.0.

Every tumour is scored twice, on a slide with control areas and on one without. Measured: the score
against the one that the truth's own patterns give, the right score's probability without controls,
and receptors of known cells (found within 3 µm, inside the curve's range) against the truth.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.spatial import cKDTree

from her2path.core.settings import Settings
from her2path.phantom import TUMOURS, PhantomSpec, make_files
from her2path.runs.case import score_slide
from her2path.scoring import guidelines

CONTROLS = ("0", "1+", "2+", "3+", "40000 receptors", "80000 receptors", "160000 receptors",
            "320000 receptors", "800000 receptors")  # fmt: skip
QUICK = {"score.min_cells": 20, "heterogeneity.permutations": 19, "heterogeneity.biopsy_draws": 10,
         "heterogeneity.interval_draws": 20, "score.bootstrap_draws": 100}  # fmt: skip
MATCH_UM = 3.0


def main() -> None:
    """Draw, score, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, help="JSON of every drawing")
    parser.add_argument("--gains", type=float, nargs="+", default=[0.5, 0.7, 1.0, 1.4, 2.0])
    parser.add_argument("--tumours", nargs="+", default=["unstained", "1+", "2+", "3+"])
    parser.add_argument("--seed", type=int, default=500)
    parser.add_argument("--side", type=float, default=420.0, help="of the tumour, µm")
    parser.add_argument("--control", type=float, default=200.0, help="of a control area, µm")
    args = parser.parse_args()
    rows = []
    for i, gain in enumerate(args.gains):
        for j, tumour in enumerate(args.tumours):
            seed = args.seed + 10 * i + j
            rows.append(one(seed, gain, tumour, (args.side, args.control)))
            print(json.dumps({k: v for k, v in rows[-1].items() if k != "relative"}), flush=True)
    if args.out:
        args.out.write_text(json.dumps(rows))
    print(json.dumps(summary(rows), indent=2))


def one(seed: int, gain: float, tumour: str, sides: tuple[float, float]) -> dict[str, Any]:
    """Draw one slide and score it with and without its control areas."""
    spec = PhantomSpec(seed=seed, width_um=sides[0], height_um=sides[0], strength=gain,
                       mixture=TUMOURS[tumour], controls=CONTROLS, control_um=sides[1])  # fmt: skip
    settings = Settings().replace(QUICK)
    with tempfile.TemporaryDirectory() as folder:
        made = make_files(spec, Path(folder) / "drawing")
        alone = make_files(spec.model_copy(update={"controls": ()}), Path(folder) / "alone")
        read = score_slide(made["slide"], Path(folder) / "with", settings, made["annotations"])
        bare = score_slide(alone["slide"], Path(folder) / "without", settings)
        truth = pq.read_table(made["truth"])
        right = _right(truth, settings)
        own = read.cells() if read.status == "complete" else None
        relative = [] if own is None else _receptors(truth, own)
        made_by, stain = read.result.calibration, read.result.stain
        return {
            "seed": seed, "gain": gain, "tumour": tumour, "right": right,
            "with": read.score.ihc if read.score else None,
            "without": bare.score.ihc if bare.score else None,
            "p_without": bare.score.probability[right] if bare.score else None,
            "calibration": stain.calibration if stain and own is not None else None,
            "cutoffs": made_by.cutoffs if made_by else None,
            "flags": [f.code for f in read.result.qc.flags if f.severity != "info"],
            "receptors": len(relative), "median_error": _median(relative),
            "median_absolute_error": _median([abs(r) for r in relative]), "relative": relative,
        }  # fmt: skip


def _right(truth: pa.Table, settings: Settings) -> str:
    tumour = np.array(truth["cell_type"].to_pylist()) == "tumour"
    pattern = np.array(truth["pattern"].to_pylist())[tumour]
    return guidelines.score({"pattern": pattern}, settings.score.guideline, settings).ihc


def _receptors(truth: pa.Table, cells: pa.Table) -> list[float]:
    """Return read over true receptors, minus 1, of stained tumour cells inside the range."""
    at = np.stack([cells["x_um"].to_numpy(), cells["y_um"].to_numpy()], axis=1)
    true = np.stack([truth["x_um"].to_numpy(), truth["y_um"].to_numpy()], axis=1)
    away, i = cKDTree(at).query(true)
    known = truth["receptors"].to_numpy()
    kept = (np.array(truth["cell_type"].to_pylist()) == "tumour") & (known > 0) & (away < MATCH_UM)
    read = cells["receptors"].to_numpy(zero_copy_only=False)[i[kept]]
    relative = read / known[kept] - 1
    return [round(float(v), 4) for v in relative[np.isfinite(relative)]]


def _median(values: list[float]) -> float | None:
    return round(float(np.median(values)), 4) if values else None


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures over all drawings."""
    everyone = [v for r in rows for v in r["relative"]]
    fair = [r["with"] == r["right"] for r in rows]
    bare = [r["without"] == r["right"] or (r["p_without"] or 0) >= 0.1 for r in rows]
    return {
        "drawings": len(rows),
        "right_with_controls": int(sum(fair)),
        "right_without": int(sum(r["without"] == r["right"] for r in rows)),
        "right_or_10_percent_without": int(sum(bare)),
        "cells_with_receptors": len(everyone),
        "receptors_median_error": _median(everyone),
        "receptors_median_absolute_error": _median([abs(v) for v in everyone]),
    }


if __name__ == "__main__":
    main()
