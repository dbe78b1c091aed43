"""Measure the program against known truth, on phantoms drawn at random.

    python -m scripts.evaluate.drawings --seeds 100 101 102 --size-um 600

For every seed a protocol (stains, scanner, strength, hardness, layout, mixture) is drawn, control
slides of the same protocol are scored to set the cut-offs, and then the slide itself. Printed are,
slide by slide and over all: detection of tumour cells (F1 within 4 µm, cells with a nucleus in the
section), mean absolute error of completeness, errors of the pattern fractions, the share of
unstained cells called stained, and the score. Phantom figures are not clinical accuracy.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from her2path.core.schema import INTENSITY, PATTERNS
from her2path.core.settings import Settings
from her2path.phantom import PhantomSpec, control_specs, make_phantom, random_spec, write_slide
from her2path.runs.case import score_slide
from her2path.scoring import guidelines
from scripts.evaluate.matching import f1, pair


def run(spec: PhantomSpec, folder: Path, settings: Settings) -> tuple[Any, pa.Table, Any]:
    """Paint a phantom, score it; return result, cells and phantom."""
    phantom = make_phantom(spec)
    slide = folder / "slide.svs"
    write_slide(phantom, slide)
    result = score_slide(slide, folder / "out", settings)
    return result, result.cells() if result.result.status == "complete" else None, phantom


def cutoffs(spec: PhantomSpec, folder: Path, settings: Settings) -> tuple[float, float, float]:
    """Set the cut-offs from control slides: between the medians of neighbouring classes."""
    medians = {}
    for name, control in control_specs(spec).items():
        if name == "negative":
            continue
        place = folder / name
        place.mkdir()
        small = control.model_copy(update={"width_um": 350.0, "height_um": 350.0})
        _, cells, _ = run(small, place, settings)
        medians[name] = stained_median(cells, settings)
    return between(medians["faint"], medians["moderate"], medians["intense"])


def stained_median(cells: pa.Table, settings: Settings) -> float:
    """Return the median strength of a control's stained tumour cells."""
    value = tumour_of(cells).column(settings.membrane.measure).to_numpy()
    return float(np.median(value[value > 0]))


def between(faint: float, moderate: float, intense: float) -> tuple[float, float, float]:
    """Return cut-offs between the medians of neighbouring classes."""
    return faint / 2, float(np.sqrt(faint * moderate)), float(np.sqrt(moderate * intense))


def tumour_of(cells: pa.Table) -> pa.Table:
    """Return the tumour cells."""
    return cells.filter(pa.array(np.asarray(cells.column("cell_type").to_pylist()) == "tumour"))


def judge(result: Any, cells: pa.Table, phantom: Any) -> dict[str, Any]:
    """Compare one slide with its truth."""
    truth = phantom.truth
    t = {n: truth.column(n).to_numpy(zero_copy_only=False) for n in truth.column_names}
    sound = ~(t["touches_edge"] | t["in_fold"] | t["out_of_focus"] | t["under_pen"])
    tumour = t["cell_type"] == "tumour"
    findable = tumour & t["has_nucleus"] & sound
    mine = tumour_of(cells)
    found = np.column_stack([mine.column("x_um").to_numpy(), mine.column("y_um").to_numpy()])
    everything = np.column_stack([t["x_um"], t["y_um"]])
    mate = pair(found, everything)
    # cells that touch the edge, lie under artefacts or have no nucleus neither help nor hurt
    score, recall, precision = f1(found, everything, tumour, findable)
    a = np.flatnonzero((mate >= 0) & findable[mate])
    b = mate[a]
    own = mine.column("completeness").to_numpy()[a]
    measured = np.array([INTENSITY[p] for p in mine.column("pattern").to_pylist()])[a]
    unstained = t["intensity"][b] == 0
    fractions = {p: float((t["pattern"][tumour] == p).mean()) for p in PATTERNS}
    got = result.result.fractions
    counts = {p: int((t["pattern"][tumour] == p).sum()) for p in PATTERNS}
    want = guidelines.score(counts).ihc
    return {
        "f1": score,
        "missed": 1 - recall,
        "false": 1 - precision,
        "completeness_mae": float(np.abs(own - t["completeness"][b]).mean()),
        "false_stain": float((measured[unstained] > 0).mean()) if unstained.any() else None,
        "od_ratio": _od_ratio(mine, a, t, b),
        "fraction_error": max(abs(got[p] - fractions[p]) for p in PATTERNS),
        "intensity_right": float((measured == t["intensity"][b]).mean()),
        "score": result.result.score.ihc,
        "truth": want,
    }


def _od_ratio(mine: pa.Table, a: np.ndarray, t: dict[str, np.ndarray], b: np.ndarray) -> Any:
    od = mine.column("membrane_od").to_numpy()[a]
    both = (od > 0) & (t["od_crest"][b] > 0)
    return float(np.median(od[both] / t["od_crest"][b][both])) if both.any() else None


def main() -> None:
    """Evaluate the seeds and print a table and means."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    ask.add_argument("--seeds", type=int, nargs="+", default=list(range(1000, 1020)))
    ask.add_argument("--size-um", type=float, default=600.0)
    ask.add_argument("--json", type=Path)
    args = ask.parse_args()
    rows = []
    for seed in args.seeds:
        spec = random_spec(seed, width_um=args.size_um, height_um=args.size_um)
        with tempfile.TemporaryDirectory() as folder:
            base = Settings()
            cut = cutoffs(spec, Path(folder), base)
            settings = base.replace({"membrane.cutoffs": list(cut)})
            result, cells, phantom = run(spec, Path(folder), settings)
        if cells is None:
            print(seed, spec.layout, "not evaluable", [f.code for f in result.result.qc.flags])
            continue
        row = {
            "seed": seed,
            "layout": spec.layout,
            "mpp": spec.mpp,
            "jpeg": spec.subsampling,
            **judge(result, cells, phantom),
        }
        rows.append(row)
        print(
            " ".join(
                f"{k}={v:.3f}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()
            ),
            flush=True,
        )
    names = (
        "f1",
        "missed",
        "false",
        "completeness_mae",
        "false_stain",
        "fraction_error",
        "intensity_right",
    )
    for name in names:
        values = [r[name] for r in rows if r[name] is not None]
        print(
            f"{name:18s} median {np.median(values):.3f}"
            f"  from {min(values):.3f} to {max(values):.3f}"
        )
    print("score right:", sum(r["score"] == r["truth"] for r in rows), "of", len(rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
