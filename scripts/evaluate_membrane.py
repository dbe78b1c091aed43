"""Measure the membrane reading against known truth on slides that took part in no fit.

    python scripts/evaluate_membrane.py --tables /tmp/tables/test

Slides of both generators are drawn and measured once and kept in `--tables`, in a folder of these
weights (the looks of borders hang on them), then attributed.
Those of this program come with control slides of the same protocol, one class each, which set the
cut-offs as in `evaluate.py`. Printed are, slide by slide: mean absolute error of completeness,
share of unstained cells called stained, share of stained ones called unstained (cells matched
within 4 µm), the largest error of a pattern fraction over the tumour cells that the program found,
and the score. With the real images (`HER2PATH_REAL_DATA`) also membranes painted on real tissue
(`tissue_phantoms.py`). Phantom figures are not clinical accuracy.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from evaluate import between
from membrane_phantoms import Drawn, draw_other
from membrane_slides import draw_own, draw_tissue, find, look, match

from her2path import analysis, guidelines, membrane
from her2path.geometry import Box
from her2path.membrane import weights
from her2path.phantom import PhantomSpec, control_specs
from her2path.phantom.cells import COMPLETE_AT
from her2path.phantom.presets import TUMOURS
from her2path.schema import PATTERNS
from her2path.settings import Settings
from her2path.stain import StainModel

SIZE_UM, CONTROL_UM = 360.0, 260.0
NONE = {"none": 1.0}
INTENSE = {"intense_complete": 0.8, "intense_incomplete": 0.2}
FAINT = {"none": 0.4, "faint_complete": 0.25, "faint_incomplete": 0.35}


def _two(layout: str, main: dict[str, float], second: dict[str, float], share: float) -> Any:
    return {"layout": layout, "mixture": main, "second": second, "second_fraction": share}


#: name, fields of the specification
PLAN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("unstained 0.25", {"mixture": NONE, "mpp": 0.25}),
    ("unstained 0.50 4:2:0", {"mixture": NONE, "mpp": 0.5, "subsampling": "4:2:0"}),
    ("ultralow", {"mixture": TUMOURS["ultralow"]}),
    ("1+", {"mixture": TUMOURS["1+"]}),
    ("2+", {"mixture": TUMOURS["2+"]}),
    ("3+", {"mixture": TUMOURS["3+"]}),
    ("focal 3+ in unstained", _two("scattered", NONE, INTENSE, 0.08)),
    ("clustered 3+ in unstained", _two("clustered", NONE, TUMOURS["3+"], 0.35)),
    ("clustered 2+ in ultralow", _two("clustered", TUMOURS["ultralow"], TUMOURS["2+"], 0.4)),
    ("mosaic 3+ in unstained", _two("mosaic", NONE, TUMOURS["3+"], 0.4)),
    ("mosaic 3+ in faint", _two("mosaic", FAINT, INTENSE, 0.35)),
    ("mosaic 2+ in 1+", _two("mosaic", TUMOURS["1+"], TUMOURS["2+"], 0.4)),
    ("2+ second protocol", {"mixture": TUMOURS["2+"]}),
    ("3+ second protocol", {"mixture": TUMOURS["3+"]}),
    ("unstained second protocol", {"mixture": NONE, "mpp": 0.25}),
)
#: seeds of the test slides; those that were fitted have 7000 and more
SEED, OTHERS, OTHER_UM = 5000, range(300_000, 300_010), 240.0
TISSUE = range(30)
COLUMNS = ("x_um", "y_um", "cell_type", "completeness", "membrane_od", "membrane_mass", "pattern")


def specification(number: int) -> PhantomSpec:
    """Return the slide of a row of the plan."""
    fixed = {"layout": "homogeneous", "second": {}, "second_fraction": 0.0, **PLAN[number][1]}
    size = {"width_um": SIZE_UM, "height_um": SIZE_UM}
    return PhantomSpec.random(SEED + number, margin_um=10.0, tumour_share=0.75, **size, **fixed)


def measured(draw: Callable[[], Drawn], file: Path) -> tuple[Any, Any, pa.Table]:
    """Return truth, scale and raw cells of a slide, drawn and measured once and kept in a file."""
    notes = file.with_suffix(".npz")
    if not notes.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        drawn = draw()
        rgb, optics = look(drawn)
        pq.write_table(find(rgb, optics), file)
        scale = [optics.mpp, optics.factor, rgb.shape[1], rgb.shape[0]]
        truth = {k: v for k, v in drawn.truth.items() if v.dtype != object}
        np.savez(notes, scale=scale, **truth | {"cell_type": drawn.truth["cell_type"].astype(str)})
    truth = dict(np.load(notes))
    return truth, truth.pop("scale"), pq.read_table(file)


def resolve(raw: pa.Table, scale: Any, settings: Settings) -> Any:
    """Return the final cells of a slide, columns as arrays."""
    mpp, factor, width, height = (float(v) for v in scale)
    # stains and white point were used in the measurement; they count no more
    optics = analysis.Optics(mpp, int(factor), StainModel((255,) * 3, (1, 0, 0), (0, 0, 1)))
    cells = analysis.resolve(raw, Box(0, 0, int(width), int(height)), optics, settings)
    return {n: cells.column(n).to_numpy(zero_copy_only=False) for n in COLUMNS}


def cutoffs(number: int, folder: Path, base: Settings) -> list[float]:
    """Set the cut-offs from control slides: between the medians of neighbouring classes."""
    medians = []
    for name, spec in control_specs(specification(number), CONTROL_UM).items():
        if name == "negative":
            continue
        draw = partial(draw_own, spec)
        _, scale, raw = measured(draw, folder / f"own_{number:02d}_{name}.parquet")
        cells = resolve(raw, scale, base)
        value = cells[base.membrane.measure][cells["cell_type"] == "tumour"]
        medians.append(float(np.median(value[value > 0])))
    return list(between(*medians))


def judge(cells: Any, truth: Any, exact: bool) -> dict[str, Any]:
    """Compare one slide with its truth; fractions and score only where cut-offs are ``exact``."""
    found = np.column_stack([cells["x_um"], cells["y_um"]])
    rows = match(found, truth)
    tumour = truth["cell_type"] == "tumour"
    sound = (tumour & truth["has_nucleus"] & ~truth["touches_edge"])[rows] & (rows >= 0)
    rows, mine = rows[sound], cells["completeness"][sound]
    off, stained, true = (
        np.abs(mine - truth["completeness"][rows]),
        mine >= 0.1,
        truth["intensity"][rows],
    )
    share = [float(off[true == k].mean()) if (true == k).any() else np.nan for k in range(4)]
    out: dict[str, Any] = {
        "n": len(rows),
        "mae": float(off.mean()),
        "by_class": share,
        "unstained": int((true == 0).sum()),
        "false": float(stained[true == 0].mean()) if (true == 0).any() else np.nan,
        "missed": float((~stained)[true > 0].mean()) if (true > 0).any() else np.nan,
    }
    if not exact:
        return out
    chosen = cells["pattern"][cells["cell_type"] == "tumour"]
    known = _patterns(truth)[tumour]
    got, want = ({p: int((c == p).sum()) for p in PATTERNS} for c in (chosen, known))
    off = [got[p] / max(len(chosen), 1) - want[p] / len(known) for p in PATTERNS]
    worst = int(np.argmax(np.abs(off)))
    out |= {
        "fraction": float(abs(off[worst])),
        "which": PATTERNS[worst],
        "sign": float(np.sign(off[worst])),
    }
    out |= {"score": guidelines.score(got).ihc, "truth": guidelines.score(want).ihc}
    return out


def _patterns(truth: Any) -> Any:
    names = np.array(PATTERNS)
    code = 2 * truth["intensity"] - 1 + (truth["completeness"] >= COMPLETE_AT)
    return names[np.where(truth["intensity"] > 0, code, 0)]


def main() -> None:
    """Evaluate and print."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask.add_argument("--tables", type=Path, required=True)
    ask.add_argument("--numbers", type=int, nargs="*", default=list(range(len(PLAN))))
    args = ask.parse_args()
    fitted = resources.files(membrane).joinpath(weights.FILE).read_bytes()
    folder = args.tables / sha256(fitted).hexdigest()[:8]
    base, rows = Settings(), []
    for number in args.numbers:
        draw = partial(draw_own, specification(number))
        truth, scale, raw = measured(draw, folder / f"own_{number:02d}.parquet")
        cut = cutoffs(number, folder, base)
        cells = resolve(raw, scale, base.replace({"membrane.cutoffs": cut}))
        rows.append((PLAN[number][0], judge(cells, truth, True)))
        _say(*rows[-1])
    for number in OTHERS:
        draw = partial(draw_other, number, OTHER_UM)
        file = folder / f"other_{number}.parquet"
        rows.append(_uncalibrated(f"other {number}", draw, file, base))
    _sum_up(rows, ("mae", "false", "missed", "fraction"))
    if os.environ.get("HER2PATH_REAL_DATA"):
        on_tissue = []
        for number in TISSUE:
            file = folder / f"tissue_{number:02d}.parquet"
            draw = partial(draw_tissue, number)
            on_tissue.append(_uncalibrated(f"on real tissue {number}", draw, file, base))
        _sum_up(on_tissue, ("mae", "false", "missed"))
    scored = [r for _, r in rows if "score" in r]
    print("score right:", sum(r["score"] == r["truth"] for r in scored), "of", len(scored))


def _uncalibrated(
    name: str, draw: Callable[[], Drawn], file: Path, base: Settings
) -> tuple[str, dict[str, Any]]:
    """Judge and print a slide that has no controls: completeness and stain, no fractions."""
    truth, scale, raw = measured(draw, file)
    row = name, judge(resolve(raw, scale, base), truth, False)
    _say(*row)
    return row


def _sum_up(rows: list[tuple[str, dict[str, Any]]], names: tuple[str, ...]) -> None:
    for name in names:
        values = np.array([r.get(name, np.nan) for _, r in rows])
        said = f"mean {np.nanmean(values):.3f}, median {np.nanmedian(values):.3f}"
        print(f"{name}: {said}, largest {np.nanmax(values):.3f}")
    cells = np.array([r["unstained"] for _, r in rows])
    false = np.array([r["false"] if r["unstained"] else 0.0 for _, r in rows])
    mixed = np.array([not np.isnan(r["missed"]) for _, r in rows])
    for which, chosen in (("with stained cells", mixed), ("without", ~mixed)):
        share = (cells * false)[chosen].sum() / max(cells[chosen].sum(), 1)
        print(f"false over all unstained cells of slides {which}: {100 * share:.1f} %")


def _say(name: str, row: dict[str, Any]) -> None:
    by_class = "/".join("-" if np.isnan(v) else f"{v:.2f}" for v in row["by_class"])
    said = f"{name:27s} n {row['n']:4d}  mae {row['mae']:.3f} ({by_class})"
    said += f"  false {100 * row['false']:5.1f} % of {row['unstained']:4d}"
    said += f"  missed {100 * row['missed']:5.1f} %"
    if "score" in row:
        said += f"  fraction {100 * row['sign'] * row['fraction']:+5.1f} {row['which']}"
        said += f"  score {row['score']} ({row['truth']})"
    print(said, flush=True)


if __name__ == "__main__":
    main()
