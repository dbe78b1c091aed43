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

from her2path.core.settings import Settings
from her2path.phantom import PhantomSpec, control_specs, make_phantom, random_spec, write_slide
from her2path.phantom.make import Phantom
from her2path.runs.case import SlideResult, score_slide
from scripts.evaluate import comparison
from scripts.evaluate.comparison import ControlNotEvaluableError, cells_of, tumour_of

#: side of a control slide, µm
CONTROL_UM = 350.0


def run(
    spec: PhantomSpec, folder: Path, settings: Settings
) -> tuple[SlideResult, pa.Table | None, Phantom]:
    """Paint a phantom and score its file; return result, cells (None: not evaluable), phantom."""
    phantom = make_phantom(spec)
    slide = folder / "slide.svs"
    write_slide(phantom, slide)
    result = score_slide(slide, folder / "out", settings)
    return result, cells_of(result), phantom


def cutoffs(spec: PhantomSpec, folder: Path, settings: Settings) -> tuple[float, float, float]:
    """Set the cut-offs from control slides of the same protocol.

    Raises
    ------
    ControlNotEvaluableError
        See `comparison.control_cutoffs`.
    """
    controls = control_specs(spec)

    def score_control(name: str) -> pa.Table | None:
        place = folder / name
        place.mkdir()
        sides = {"width_um": CONTROL_UM, "height_um": CONTROL_UM}
        return run(controls[name].model_copy(update=sides), place, settings)[1]

    return comparison.control_cutoffs(score_control, settings)


def judge(result: SlideResult, cells: pa.Table, phantom: Phantom) -> dict[str, Any]:
    """Compare one slide with its truth."""
    truth = phantom.truth
    t = {n: truth.column(n).to_numpy(zero_copy_only=False) for n in truth.column_names}
    sound = ~(t["touches_edge"] | t["in_fold"] | t["out_of_focus"] | t["under_pen"])
    findable = (t["cell_type"] == "tumour") & t["has_nucleus"] & sound
    mine = tumour_of(cells)
    row, (a, b) = comparison.judge(result, mine, t, findable, findable)
    whole = mine.column("completeness").to_numpy()[a]
    od, crest = mine.column("membrane_od").to_numpy()[a], t["od_crest"][b]
    both = (od > 0) & (crest > 0)
    return row | {
        "completeness_mae": float(np.abs(whole - t["completeness"][b]).mean()),
        "od_ratio": float(np.median(od[both] / crest[both])) if both.any() else None,
    }


def evaluate(spec: PhantomSpec) -> dict[str, Any]:
    """Return the row of one slide; its score is None where it or a control is not evaluable."""
    base = Settings()
    with tempfile.TemporaryDirectory() as folder:
        try:
            cut = cutoffs(spec, Path(folder), base)
        except ControlNotEvaluableError as fault:
            return {"score": None, "why": str(fault)}
        settings = base.replace({"membrane.cutoffs": list(cut)})
        result, cells, phantom = run(spec, Path(folder), settings)
        if cells is None:
            return {"score": None, "why": [f.code for f in result.result.qc.flags]}
        return judge(result, cells, phantom)


def main() -> None:
    """Evaluate the seeds and print a table and means."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    ask.add_argument("--seeds", type=int, nargs="+", default=list(range(1000, 1020)))
    ask.add_argument("--size-um", type=float, default=600.0)
    ask.add_argument("--json", type=Path)
    args = ask.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        spec = random_spec(seed, width_um=args.size_um, height_um=args.size_um)
        facts = {"seed": seed, "layout": spec.layout, "mpp": spec.mpp, "jpeg": spec.subsampling}
        rows.append(facts | evaluate(spec))
        comparison.say_rounded(rows[-1])
    comparison.say_summary(rows, (
        "f1", "missed", "false", "completeness_mae", "false_stain", "fraction_error",
        "intensity_right",
    ))  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
