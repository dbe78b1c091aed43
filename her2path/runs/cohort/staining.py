"""Over- and under-staining of a batch's slides, by the controls on them and in their run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from her2path.core.results import ControlFacts, QcFlag, Result
from her2path.scoring.calibration.staining import medians_of, staining_flag

__all__ = ["against_controls"]

#: other slides with controls that tell what is usual
LEAST_OTHERS = 3

Placed = tuple[Mapping[str, str], Result]


def against_controls(slides: Sequence[Placed], max_ratio: float) -> list[QcFlag | None]:
    """Return each slide's flag of over- or under-staining, None where it has none.

    A slide is judged by the controls drawn on it; without any by those of the slides of its
    staining run (column ``batch`` of the manifest). Usual is the median over the controls of the
    batch's other slides, or other runs, that state the same.

    Parameters
    ----------
    slides : sequence of (mapping, Result)
        What the manifest says of each slide, and its result.
    max_ratio : float
        ``qc.max_staining_ratio``.
    """
    controls = [_controls(result) for _, result in slides]
    runs = [row.get("batch", "") for row, _ in slides]
    holds = [i for i, mine in enumerate(controls) if mine]
    found: list[QcFlag | None] = []
    for i, run in enumerate(runs):
        judged = [i] if controls[i] else [j for j in holds if run and runs[j] == run]
        others = [j for j in holds if j not in judged]
        if not judged or len(others) < LEAST_OTHERS:
            found.append(None)
            continue
        own, usual = (medians_of(c for j in group for c in controls[j])
                      for group in (judged, others))  # fmt: skip
        whose = "the controls of the slide" if controls[i] else f"the controls of its run {run}"
        found.append(next(iter(staining_flag(own, usual, max_ratio, whose)), None))
    return found


def _controls(result: Result) -> tuple[ControlFacts, ...]:
    return result.calibration.controls if result.calibration else ()
