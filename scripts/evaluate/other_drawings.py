"""Measure the program on phantoms that other generators drew, in other ways than its own.

    python -m scripts.evaluate.other_drawings --seeds 900000 900003

`phantoms/outlined.py` (outlines) and `phantoms/patchwork.py` (maps; nothing is ever fitted on it)
draw tumours of every mixture of `her2path.phantom.TUMOURS`. Control drawings of the same seed and
style, one class each, set the cut-offs; then the whole program scores the drawing. Printed are,
drawing by drawing and over all: F1 of tumour-cell detection within 4 µm, the share of unstained
cells called stained, the share of cells with the right intensity, the largest error of a pattern
fraction, and the score. Phantom figures are not clinical accuracy.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from her2path.core.settings import Settings
from her2path.phantom import TUMOURS
from her2path.runs.case import SlideResult
from scripts.evaluate import comparison
from scripts.evaluate.comparison import ControlNotEvaluableError, cells_of, tumour_of
from scripts.phantoms.drawn import Drawn, Generator
from scripts.phantoms.generators import GENERATORS

Painter = Callable[[Mapping[str, float]], Drawn]
#: the generators whose drawings are judged
OTHERS = ("outlined", "patchwork")
#: cells nearer to the edge than this neither help nor hurt (nor those without a nucleus), µm
EDGE_UM = 12.0


def painter(generator: Generator, seed: int, style: str, size_um: float) -> Painter:
    """Return what paints a mixture in one style, of one protocol."""
    return partial(generator.draw, seed, style, size_um=size_um)


def score(drawn: Drawn, folder: Path, settings: Settings) -> tuple[SlideResult, pa.Table | None]:
    """Score a drawing; return the result and its cells, None where it is not evaluable."""
    how = settings.replace({"slide.mpp": drawn.mpp})
    result = comparison.score_pixels(drawn.rgb, folder / "out", how)
    return result, cells_of(result)


def cutoffs(paint: Painter, folder: Path, settings: Settings) -> tuple[float, float, float]:
    """Set the cut-offs from control drawings of the same seed and style.

    Raises
    ------
    ControlNotEvaluableError
        See `comparison.control_cutoffs`.
    """

    def score_control(name: str) -> pa.Table | None:
        return score(paint({f"{name}_complete": 1.0}), folder / name, settings)[1]

    return comparison.control_cutoffs(score_control, settings)


def judge(result: SlideResult, cells: pa.Table, drawn: Drawn) -> dict[str, Any]:
    """Compare one drawing with its truth."""
    t = drawn.columns()
    tumour = (t["cell_type"] == "tumour") & drawn.away_from_edge(EDGE_UM)
    return comparison.judge(result, tumour_of(cells), t, tumour & t["has_nucleus"], tumour)[0]


def evaluate(paint: Painter, settings: Settings) -> list[dict[str, Any]]:
    """Return one row a mixture; its score is None where it or a control is not evaluable."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        try:
            how = settings.replace({"membrane.cutoffs": list(cutoffs(paint, folder, settings))})
        except ControlNotEvaluableError as fault:
            return [{"mixture": name, "score": None, "why": str(fault)} for name in TUMOURS]
        for name, mixture in TUMOURS.items():
            drawn = paint(mixture)
            result, cells = score(drawn, folder / f"slide {name}", how)
            facts = {"score": None} if cells is None else judge(result, cells, drawn)
            rows.append({"mixture": name, "mpp": drawn.mpp} | facts)
    return rows


def main() -> None:
    """Evaluate the seeds and print rows and medians."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask.add_argument("--seeds", type=int, nargs=2, default=(900_000, 900_003), help="first, end")
    ask.add_argument("--size-um", type=float, default=360.0)
    ask.add_argument("--generators", choices=OTHERS, nargs="+", default=OTHERS)
    ask.add_argument("--json", type=Path)
    args = ask.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in range(*args.seeds):
        for generator in (GENERATORS[g] for g in args.generators):
            for style in generator.STYLES:
                paint = painter(generator, seed, style, args.size_um)
                for row in evaluate(paint, Settings()):
                    rows.append({"seed": seed, "style": style} | row)
                    comparison.say_rounded(rows[-1])
    comparison.say_summary(rows, (
        "f1", "missed", "false", "false_stain", "intensity_right", "fraction_error",
    ))  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
