"""Do a slide's controls stain as others do: over- and under-staining, as a flag in words.

Controls are matched by what they state, a level or a number of receptors; compared are the medians
of the membrane's OD over their stained cells (`Control.median`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from her2path.core.flags import flag
from her2path.core.results import ControlFacts, QcFlag
from her2path.core.settings import Source

__all__ = ["Medians", "Stated", "medians_of", "staining_flag"]

#: what a control states: its level, its receptors a cell
Stated = tuple[str | None, float | None]
#: the median OD of controls, by what they state; 0 where most of the cells are unstained
Medians = Mapping[Stated, float]


def medians_of(controls: Iterable[ControlFacts | Source]) -> dict[Stated, float]:
    """Return the median over the controls that state the same; those without one are left out."""
    found: dict[Stated, list[float]] = {}
    for control in controls:
        states_any = control.level is not None or control.receptors is not None
        if states_any and control.median is not None:
            found.setdefault((control.level, control.receptors), []).append(control.median)
    return {stated: float(np.median(values)) for stated, values in found.items()}


def staining_flag(
    own: Medians, usual: Medians, max_ratio: float, whose: str = "the controls of the slide"
) -> list[QcFlag]:
    """Say where controls stain more weakly or more strongly than is usual for them.

    Parameters
    ----------
    own, usual : mapping
        Median OD by what the controls state.
    max_ratio : float
        Most that the middle one of their ratios may be, or its inverse.
    whose : str
        Whose controls `own` are, for people.

    Returns
    -------
    list of QcFlag
        ``UNDER_STAINED`` or ``OVER_STAINED``; empty where nothing can be compared, as where both
        are unstained.
    """
    common = [s for s in own if s in usual and max(own[s], usual[s]) > 0]
    if not common:
        return []
    ratio = _middle([_ratio(own[s], usual[s]) for s in common])
    if 1 / max_ratio <= ratio <= max_ratio:
        return []
    told = ", ".join(f"{_word(s)} {own[s]:.3f} (usual {usual[s]:.3f})" for s in common)
    code = "UNDER_STAINED" if ratio < 1 else "OVER_STAINED"
    return [flag(code, f"Median OD, {whose}: {told}.")]


def _ratio(own: float, usual: float) -> float:
    return own / usual if usual > 0 else math.inf


def _middle(ratios: list[float]) -> float:
    """Return the middle one; of two, the one nearer to 1, so that one control alone decides less.

    An unstained control has the ratio 0 or infinity.
    """
    ordered = sorted(ratios)
    two = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return min(two, key=lambda r: abs(math.log(r)) if 0 < r < math.inf else math.inf)


def _word(stated: Stated) -> str:
    level, receptors = stated
    return f"control {level}" if level is not None else f"control of {receptors:.0f} receptors"
