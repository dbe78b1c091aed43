"""Measures the heterogeneity figures against known truth: point patterns and painted slides.

    python -m scripts.evaluate.heterogeneity patterns --seeds 1000 1050
    python -m scripts.evaluate.heterogeneity slides --seeds 1000 1010 --size-um 1000

`patterns`: tumours drawn by `phantoms/tumours.py` (four a seed, one of each layout), typed.
`slides`: for every seed and layout a protocol is drawn, control slides set the cut-offs, the slide
is scored, and its heterogeneity is compared with that of the true cells, measured in the same way.
Three columns tell where an error comes from: `program`; `found` (the cells that the program found,
with their true patterns); `truth`.
Phantom figures are not clinical accuracy.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from her2path.core.intervals import wilson
from her2path.core.settings import Settings
from her2path.phantom import PhantomSpec, make_phantom, random_spec
from her2path.space import heterogeneity
from her2path.space.heterogeneity.pattern import type_pattern
from her2path.space.regions import make_regions
from her2path.space.spatial import canonical, territory_um2
from scripts.evaluate.comparison import ControlNotEvaluableError, positions, tumour_of
from scripts.evaluate.drawings import cutoffs, run
from scripts.evaluate.matching import pair
from scripts.phantoms import tumours as drawn_tumours
from scripts.phantoms.tumours import LAYOUTS, draw

#: populations: what is not positive, and what is
LOW = ({"none": 1.0}, {"none": 0.45, "faint_incomplete": 0.42, "faint_complete": 0.13},
       {"none": 0.12, "faint_complete": 0.3, "moderate_incomplete": 0.18,
        "moderate_complete": 0.40})  # fmt: skip
HIGH = {"intense_complete": 1.0}
SHARES = ("positive_cell_fraction", "positive_area_fraction", "area_fraction_5_50")


def patterns(seeds: range, error_rate: float) -> list[dict[str, Any]]:
    """Type four drawn tumours a seed."""
    how = Settings().replace(
        {"heterogeneity.permutations": 199, "heterogeneity.error_rate": error_rate}
    )
    rows = []
    for seed in seeds:
        for layout in LAYOUTS:
            drawn = draw(layout, seed)
            order = canonical(drawn.x, drawn.y, drawn.positive)
            x, y, positive = drawn.x[order], drawn.y[order], drawn.positive[order]
            facts = type_pattern(x, y, positive, territory_um2(x, y), how)
            p = None if facts.test is None else facts.test.p_value
            rows.append({"layout": layout, "typed": facts.type, "p_value": p} | drawn.facts)
    return rows


def spec_of(seed: int, layout: str, size_um: float) -> PhantomSpec:
    """Draw a slide whose cells really lie as the layout says: clones may miss the tumour."""
    for again in range(20):
        spec = drawn_spec([seed, LAYOUTS.index(layout), again], layout, size_um)
        if layout != "clustered":
            return spec
        coarse = make_phantom(spec.model_copy(update={"mpp": 1.0}))
        if 0.08 < coarse.areas["second_fraction"] < 0.85:
            return spec
    raise RuntimeError(f"no {layout} slide for seed {seed}")


def drawn_spec(seed: list[int], layout: str, size_um: float) -> PhantomSpec:
    """Draw a protocol and populations of which one is positive throughout and one is not."""
    rng = np.random.default_rng([*seed, 99])
    low = LOW[int(rng.integers(len(LOW)))]
    share = {
        "homogeneous": 0.0,
        "clustered": rng.uniform(0.15, 0.75),
        "mosaic": rng.uniform(0.17, 0.65),
        "scattered": rng.uniform(0.03, 0.075),
    }[layout]
    main = HIGH if layout == "homogeneous" and rng.random() < 0.5 else low
    return random_spec(
        int(rng.integers(2**31)), width_um=size_um, height_um=size_um, layout=layout,
        mixture=main, second=HIGH if share else {}, second_fraction=float(share),
        clone_um=float(rng.uniform(100, 320)), tumour_share=float(rng.uniform(0.55, 0.8)),
    )  # fmt: skip


def measured(cells: Any, settings: Settings) -> Any:
    """Measure a table of cells over a grid of regions."""
    regions, region = make_regions(cells, "grid", settings)
    columns = {k: np.asarray(cells[k]) for k in ("x_um", "y_um", "pattern")} | {"region_id": region}
    return heterogeneity.measure(columns, settings=settings, regions=regions), regions


def slide(seed: int, layout: str, size_um: float, base: Settings) -> dict[str, Any]:
    """Score one painted slide and compare."""
    spec = spec_of(seed, layout, size_um)
    row: dict[str, Any] = {"seed": seed, "layout": layout, "mpp": spec.mpp}
    with tempfile.TemporaryDirectory() as folder:
        try:
            cut = cutoffs(spec, Path(folder), base)
        except ControlNotEvaluableError as fault:
            return row | {"typed": None, "why": str(fault)}
        how = base.replace({"membrane.cutoffs": list(cut)})
        _, cells, phantom = run(spec, Path(folder), how)
    if cells is None:
        return row | {"typed": None}
    true = tumour_of(phantom.truth)
    own, found = tumour_of(cells), with_truth(tumour_of(cells), phantom.truth)
    tables = {"program": words(own), "found": found, "truth": words(true)}
    told = {name: measured(table, how) for name, table in tables.items()}
    row |= {"cells": true.num_rows, "wrong": misread(tables["program"], found)}
    for name, (facts, _) in told.items():
        row |= {f"{name}_type": facts.pattern.type}
        row |= {f"{name}_{s}": getattr(facts, s) for s in SHARES}
    row["typed"] = row["program_type"]
    row["near_limit"] = near_limit(told["truth"][1])
    return row


def words(table: pa.Table) -> dict[str, np.ndarray]:
    """Return positions and patterns of a table."""
    pattern = np.asarray(table["pattern"].cast(pa.string()).to_pylist())
    return {"x_um": np.asarray(table["x_um"], float), "y_um": np.asarray(table["y_um"], float),
            "pattern": pattern}  # fmt: skip


def with_truth(cells: pa.Table, truth: pa.Table) -> dict[str, np.ndarray]:
    """Return the found cells that are true tumour cells, with their true patterns."""
    mine = words(cells)
    mate = pair(positions(cells), positions(truth))
    i = np.flatnonzero(mate >= 0)
    j = mate[i]
    tumour = np.asarray(truth["cell_type"].to_pylist())[j] == "tumour"
    i, j = i[tumour], j[tumour]
    return {"x_um": mine["x_um"][i], "y_um": mine["y_um"][i],
            "pattern": np.asarray(truth["pattern"].to_pylist())[j], "row": i}  # fmt: skip


def misread(mine: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the shares of matched positive and negative cells that were called otherwise."""
    called = mine["pattern"][found["row"]] == "intense_complete"
    truly = found["pattern"] == "intense_complete"
    return {"missed_positive": float((~called[truly]).mean()) if truly.any() else 0.0,
            "false_positive": float(called[~truly].mean()) if (~truly).any() else 0.0}  # fmt: skip


def near_limit(regions: pa.Table) -> int:
    """Return how many true regions lie at a limit: 5 % or 50 % within Wilson's interval."""
    pairs = zip(regions["positive_cells"].to_pylist(), regions["tumour_cells"].to_pylist(),
                strict=True)  # fmt: skip
    bands = [wilson(k, n) for k, n in pairs if n >= 50]
    return sum(any(low < limit < high for limit in (0.05, 0.5)) for low, high in bands)


def say_types(rows: list[dict[str, Any]], column: str, truth: str = "layout") -> None:
    """Print the table of types."""
    counts = Counter((r[truth], r[column]) for r in rows)
    for (was, typed), n in sorted(counts.items(), key=str):
        print(f"  {was!s:14s} typed {typed!s:14s} {n}")
    right = sum(n for (was, typed), n in counts.items() if was == typed)
    low, high = wilson(right, len(rows))
    share = right / len(rows)
    print(f"  right: {right} of {len(rows)} ({share:.1%}; 95 % {low:.1%} to {high:.1%})")
    plain = [r for r in rows if r[truth] == "homogeneous"]
    false = sum(r[column] in ("clustered", "mosaic") for r in plain)
    print(f"  homogeneous called clustered or mosaic: {false} of {len(plain)}")


def say_slides(rows: list[dict[str, Any]]) -> None:
    """Print types and errors of the shares, for the program and for its cells read rightly."""
    good = [r for r in rows if r["typed"] is not None]
    print(f"evaluable: {len(good)} of {len(rows)}")
    for column in ("program_type", "found_type", "truth_type"):
        print(f"{column} against the layout")
        say_types(good, column)
    print("program_type against truth_type")
    say_types(good, "program_type", "truth_type")
    clear = [r for r in good if not r["near_limit"]]
    for which in ("program", "found"):
        for share in SHARES:
            say_errors(f"{which:8s} {share:24s}", good, which, share)
            say_errors("    where no region lies at a limit", clear, which, share)


def say_errors(head: str, rows: list[dict[str, Any]], which: str, share: str) -> None:
    """Print how far a share is from the true cells'."""
    errors = np.array([abs(r[f"{which}_{share}"] - r[f"truth_{share}"]) for r in rows])
    if errors.size:
        print(f"{head} within 2 points: {(errors <= 0.02).sum()} of {errors.size}; error: median"
              f" {np.median(errors):.4f}, 90 % {np.quantile(errors, 0.9):.4f}, largest"
              f" {errors.max():.4f}")  # fmt: skip


def main() -> None:
    """Run one part and print what was found."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    ask.add_argument("part", choices=("patterns", "slides"))
    ask.add_argument("--seeds", type=int, nargs=2, default=(1000, 1050), help="first, end")
    ask.add_argument("--size-um", type=float, default=1000.0)
    ask.add_argument("--region-um", type=float, default=300.0)
    ask.add_argument("--error-rate", type=float, default=0.01, help="told to the program")
    ask.add_argument("--min-island", type=int, default=25, help="patterns: cells of an island")
    ask.add_argument("--json", type=Path, help="rows, written as they come")
    args = ask.parse_args()
    if args.part == "patterns":
        drawn_tumours.MIN_ISLAND = args.min_island
        rows = patterns(range(*args.seeds), args.error_rate)
        say_types(rows, "typed")
        for r in rows:
            if r["typed"] != r["layout"]:
                print(r)
    else:
        base = Settings().replace({"regions.size_um": args.region_um, "stream.workers": 1,
                                   "heterogeneity.permutations": 199,
                                   "heterogeneity.error_rate": args.error_rate})  # fmt: skip
        rows = []
        for seed in range(*args.seeds):
            for layout in LAYOUTS:
                rows.append(slide(seed, layout, args.size_um, base))
                print(rows[-1], flush=True)
        say_slides(rows)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
