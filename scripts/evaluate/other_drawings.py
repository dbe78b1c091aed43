"""Measure the program on phantoms that other generators drew, in other ways than its own.

    python -m scripts.evaluate.other_drawings --seeds 900000 900003

`drawn_phantoms.py` (outlines; part of the CNN's training, none of the cell reading's) and
`patchwork_phantoms.py` (maps; nothing is ever fitted on it) draw tumours of every mixture of
`her2path.phantom.TUMOURS`. Control drawings of the same seed and style, one class each, set the
cut-offs; then the whole program scores the drawing. Printed are, drawing by drawing and over all:
F1 of tumour-cell detection within 4 µm, the share of unstained cells called stained, the share of
cells with the right intensity, the largest error of a pattern fraction, and the score. Phantom
figures are not clinical accuracy.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from her2path.core.schema import INTENSITY, PATTERNS
from her2path.core.settings import Settings
from her2path.phantom import TUMOURS
from her2path.runs.case import score_slide
from her2path.scoring import guidelines
from scripts.evaluate.drawings import between, stained_median, tumour_of
from scripts.evaluate.matching import f1, pair
from scripts.phantoms import outlined as drawn_phantoms
from scripts.phantoms import patchwork as patchwork_phantoms
from scripts.phantoms.outlined import Drawn

Painter = Callable[[dict[str, float]], Drawn]
#: cells nearer to the edge than this neither help nor hurt (nor those without a nucleus), µm
EDGE_UM = 12.0
CONTROLS = ("faint_complete", "moderate_complete", "intense_complete")


def painters(seed: int, size_um: float) -> dict[str, Painter]:
    """Return what paints a mixture in each style of both generators, of one protocol a style."""
    kinds = ((drawn_phantoms.draw, drawn_phantoms.STYLES),
             (patchwork_phantoms.patchwork, patchwork_phantoms.STYLES))  # fmt: skip
    return {s: partial(make, seed, s, size_um=size_um) for make, styles in kinds for s in styles}


def score(drawn: Drawn, folder: Path, settings: Settings) -> tuple[Any, pa.Table | None]:
    """Score a drawing; return the result and its cells."""
    image = folder / "slide.png"
    cv2.imwrite(str(image), drawn.rgb[..., ::-1])
    how = settings.replace({"slide.mpp": drawn.mpp})
    result = score_slide(image, folder / "out", how)
    return result, result.cells() if result.result.status == "complete" else None


def cutoffs(paint: Painter, folder: Path, settings: Settings) -> tuple[float, ...]:
    """Return cut-offs between the medians of neighbouring classes of control drawings."""
    medians = []
    for name in CONTROLS:
        place = folder / name
        place.mkdir()
        _, cells = score(paint({name: 1.0}), place, settings)
        if cells is None:
            raise RuntimeError(f"the control {name} is not evaluable")
        medians.append(stained_median(cells, settings))
    return between(*medians)


def judge(result: Any, cells: pa.Table, drawn: Drawn) -> dict[str, Any]:
    """Compare one drawing with its truth."""
    t = {n: drawn.truth.column(n).to_numpy(zero_copy_only=False)
         for n in ("x_um", "y_um", "cell_type", "pattern", "has_nucleus")}  # fmt: skip
    at = np.column_stack([t["x_um"], t["y_um"]])
    width = np.array(drawn.rgb.shape[1::-1]) * drawn.mpp
    inner = ((at > EDGE_UM) & (at < width - EDGE_UM)).all(axis=1)
    tumour = t["cell_type"] == "tumour"
    mine = tumour_of(cells)
    found = np.column_stack([mine.column("x_um").to_numpy(), mine.column("y_um").to_numpy()])
    mate = pair(found, at)
    detection, recall, precision = f1(found, at, tumour, tumour & inner & t["has_nucleus"])
    a = np.flatnonzero((mate >= 0) & (tumour & inner)[mate])
    called = np.array([INTENSITY[p] for p in mine.column("pattern").to_pylist()])[a]
    truly = np.array([INTENSITY[p] for p in t["pattern"][mate[a]]])
    bare = truly == 0
    counts = {p: int((t["pattern"][tumour] == p).sum()) for p in PATTERNS}
    got, n = result.result.fractions, int(tumour.sum())
    return {
        "f1": detection,
        "missed": 1 - recall,
        "false": 1 - precision,
        "false_stain": float((called[bare] > 0).mean()) if bare.any() else None,
        "intensity_right": float((called == truly).mean()),
        "fraction_error": max(abs(got[p] - counts[p] / n) for p in PATTERNS),
        "score": result.result.score.ihc,
        "truth": guidelines.score(counts).ihc,
    }


def evaluate(paint: Painter, settings: Settings) -> list[dict[str, Any]]:
    """Return one row a mixture."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        how = settings.replace({"membrane.cutoffs": list(cutoffs(paint, folder, settings))})
        for name, mixture in TUMOURS.items():
            drawn, here = paint(mixture), folder / f"slide {name}"
            here.mkdir()
            result, cells = score(drawn, here, how)
            facts = {"score": None} if cells is None else judge(result, cells, drawn)
            rows.append({"mixture": name, "mpp": drawn.mpp} | facts)
    return rows


def say(rows: list[dict[str, Any]]) -> None:
    """Print what was found over all drawings."""
    good = [r for r in rows if r["score"] is not None]
    print(f"evaluable: {len(good)} of {len(rows)}")
    for name in ("f1", "missed", "false", "false_stain", "intensity_right", "fraction_error"):
        values = [r[name] for r in good if r[name] is not None]
        print(f"{name:16s} median {np.median(values):.3f}, {min(values):.3f} to {max(values):.3f}")
    print("score right:", sum(r["score"] == r["truth"] for r in good), "of", len(good))


def main() -> None:
    """Evaluate the seeds and print rows and medians."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask.add_argument("--seeds", type=int, nargs=2, default=(900_000, 900_003), help="first, end")
    ask.add_argument("--size-um", type=float, default=360.0)
    ask.add_argument("--json", type=Path)
    args = ask.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in range(*args.seeds):
        for style, paint in painters(seed, args.size_um).items():
            for row in evaluate(paint, Settings()):
                rows.append({"seed": seed, "style": style} | row)
                print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()},
                      flush=True)  # fmt: skip
    say(rows)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
