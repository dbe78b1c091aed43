"""A scored drawing against its truth: cut-offs from controls, cells, patterns and the score."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pyarrow as pa

from her2path.core.schema import INTENSITY, PATTERNS
from her2path.core.settings import Settings
from her2path.runs.case import RunOptions, SlideResult, score_slide
from her2path.scoring import guidelines
from scripts.evaluate.matching import f1, pair

#: classes of the control drawings, one each
CONTROLS = ("faint", "moderate", "intense")


class ControlNotEvaluableError(Exception):
    """A control drawing from which no cut-off can be set."""


class Matched(NamedTuple):
    """Tumour cells of a result that stand for a cell of the truth: rows in both, (n,)."""

    found: np.ndarray
    true: np.ndarray


def score_pixels(
    rgb: np.ndarray, out: Path, settings: Settings, name: str = "slide"
) -> SlideResult:  # fmt: skip
    """Score a picture, uint8 (H, W, 3), into ``out``, afresh; ``settings`` tell its pixel size."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / f"{name}.png"
        cv2.imwrite(str(image), rgb[..., ::-1])
        return score_slide(image, out, settings, options=RunOptions(overwrite=True))


def cells_of(result: SlideResult) -> pa.Table | None:
    """Return the cells of a result, None where the slide is not evaluable."""
    return result.cells() if result.status == "complete" else None


def tumour_of(cells: pa.Table) -> pa.Table:
    """Return the tumour cells."""
    return cells.filter(pa.array(np.asarray(cells.column("cell_type").to_pylist()) == "tumour"))


def positions(cells: pa.Table) -> np.ndarray:
    """Return where cells lie, (n, 2) µm."""
    return np.column_stack([cells.column("x_um").to_numpy(), cells.column("y_um").to_numpy()])


def control_cutoffs(
    score_control: Callable[[str], pa.Table | None], settings: Settings
) -> tuple[float, float, float]:
    """Return cut-offs between the medians of neighbouring classes of control drawings.

    ``score_control`` gives the cells of the control of one of `CONTROLS`, None where it is not
    evaluable.

    Raises
    ------
    ControlNotEvaluableError
        Where a control is not evaluable or shows no stained tumour cell.
    """
    medians = []
    for name in CONTROLS:
        cells = score_control(name)
        if cells is None:
            raise ControlNotEvaluableError(f"the {name} control is not evaluable")
        value = tumour_of(cells).column(settings.membrane.measure).to_numpy()
        if not (value > 0).any():
            raise ControlNotEvaluableError(f"the {name} control shows no stained tumour cell")
        medians.append(float(np.median(value[value > 0])))
    faint, moderate, intense = medians
    return faint / 2, float(np.sqrt(faint * moderate)), float(np.sqrt(moderate * intense))


def judge(
    result: SlideResult, mine: pa.Table, truth: dict[str, np.ndarray],
    findable: np.ndarray, graded: np.ndarray,
) -> tuple[dict[str, Any], Matched]:  # fmt: skip
    """Compare a scored drawing with its truth; return figures, and the cells they rest on.

    Parameters
    ----------
    result : SlideResult
        Complete.
    mine : pyarrow.Table
        Its tumour cells.
    truth : dict
        Columns (n,) of `phantoms.drawn.TRUTH_COLUMNS`.
    findable : bool (n,)
        Tumour cells that should be found; the others neither help nor hurt.
    graded : bool (n,)
        Tumour cells whose staining is compared, where they are found.
    """
    at = np.column_stack([truth["x_um"], truth["y_um"]])
    tumour = truth["cell_type"] == "tumour"
    found = positions(mine)
    mate = pair(found, at)
    detection, recall, precision = f1(found, at, tumour, findable)
    rows = np.flatnonzero((mate >= 0) & graded[mate])
    matched = Matched(rows, mate[rows])
    counts = {p: int((truth["pattern"][tumour] == p).sum()) for p in PATTERNS}
    n, got, score = int(tumour.sum()), result.result.fractions, result.result.score
    assert got is not None
    assert score is not None
    return _staining(mine, truth, matched) | {
        "f1": detection,
        "missed": 1 - recall,
        "false": 1 - precision,
        "fraction_error": max(abs(got[p] - counts[p] / n) for p in PATTERNS),
        "score": score.ihc,
        "truth": guidelines.score(counts).ihc,
    }, matched


def _staining(mine: pa.Table, truth: dict[str, np.ndarray], matched: Matched) -> dict[str, Any]:
    """Return how often unstained cells are called stained, and intensities called rightly."""
    called = np.array([INTENSITY[p] for p in mine.column("pattern").to_pylist()])[matched.found]
    truly = np.array([INTENSITY[p] for p in truth["pattern"][matched.true]])
    bare = truly == 0
    return {
        "false_stain": float((called[bare] > 0).mean()) if bare.any() else None,
        "intensity_right": float((called == truly).mean()),
    }


def say_rounded(row: dict[str, Any]) -> None:
    """Print a row, its decimals rounded."""
    print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)


def say_summary(rows: list[dict[str, Any]], names: Iterable[str]) -> None:
    """Print how many drawings were evaluable, medians and ranges, and how many scores are right."""
    good = [r for r in rows if r["score"] is not None]
    print(f"evaluable: {len(good)} of {len(rows)}")
    for name in names:
        values = [r[name] for r in good if r[name] is not None]
        if values:
            print(f"{name:18s} median {np.median(values):.3f}, "
                  f"{min(values):.3f} to {max(values):.3f}")  # fmt: skip
    print("score right:", sum(r["score"] == r["truth"] for r in good), "of", len(good))
