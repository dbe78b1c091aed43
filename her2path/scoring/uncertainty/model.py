"""How sure a score is, as values that go into ``result.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from her2path.core.results import Score

__all__ = ["Distance", "Uncertainty", "add_to"]

#: an equivocal reading at least as probable as this asks for ISH even where the score is not 2+
REFLEX_AT = 0.5
_ANSWERED = ("positive", "negative")
#: flags of the rule set that ask for a second look by themselves
SECOND_LOOK_FLAGS = ("FAINT_COMPLETE", "OUTSIDE_DEFINITION", "STAINED_WITHOUT_CLUSTER")


@dataclass(frozen=True)
class Distance:
    """A fraction and a threshold of the guideline.

    ``distance`` is value minus limit (fractions 0..1); ``low`` and ``high`` are the 95 % interval
    of the distance; ``probability`` is the share of draws in which the comparison holds.
    """

    name: str
    op: str
    limit: float
    value: float
    distance: float
    low: float
    high: float
    probability: float


@dataclass(frozen=True)
class Uncertainty:
    """What the spatial bootstrap says of a score.

    Attributes
    ----------
    probability : dict of str to float
        Of every score ``0, 1+, 2+, 3+``; sums to 1.
    substate_probability, category_probability : dict of str to float
        Of ``null`` and ``ultralow``, and of every category.
    intervals : dict of str to (low, high)
        95 % intervals of the seven patterns, of ``any``, ``moderate_or_more``, ``intense`` and
        ``positive`` (fractions 0..1), and of ``h_score`` (0..300).
    distances : tuple of Distance
        One for every share that the guideline compares with a threshold.
    reflex_ish, second_look : bool
        By the rules stated in docs/guidelines.md.
    effective_cells : dict of str to float
        Independent cells that would tell as much as the correlated ones, by fraction.
    reach_um : float
        Distance beyond which cells no longer resemble each other, of the fraction that decides.
    block_um : float
        Side of a resampled block.
    blocks : int
        Blocks that hold tumour cells.
    independent_parts : float
        Parts of the tumour that are independent of each other, of the fraction that decides.
    draws : int
        Draws of the bootstrap.
    cutoffs_relative_error : float
        Half-width of the cut-offs' 95 % interval that the draws used; 0 where the table has no
        measure to cut.
    few_parts : bool
        Fewer than six independent parts: the intervals are wide and rest on little.
    """

    probability: dict[str, float]
    substate_probability: dict[str, float]
    category_probability: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    distances: tuple[Distance, ...]
    reflex_ish: bool
    second_look: bool
    second_look_reasons: tuple[str, ...]
    effective_cells: dict[str, float]
    reach_um: float
    block_um: float
    blocks: int
    independent_parts: float
    draws: int
    cutoffs_relative_error: float
    few_parts: bool

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def _has_substates(sure: Uncertainty) -> bool:
    """Whether the rule set divides the score 0: the parts are then its whole probability."""
    return abs(sum(sure.substate_probability.values()) - sure.probability["0"]) < 1e-9 and any(
        name in sure.category_probability for name in sure.substate_probability
    )


def add_to(score: Score, sure: Uncertainty) -> Score:
    """Return the score with its probability, intervals and flags.

    A ``SECOND_LOOK`` flag and its reasons are added where one is due; ``reflex_ish`` is set.
    """
    tree = score.model_dump()
    flags, trace = list(tree["flags"]), list(tree["trace"])
    if sure.second_look and "SECOND_LOOK" not in flags:
        flags.append("SECOND_LOOK")
        trace += [f"second look: {reason}" for reason in sure.second_look_reasons]
    return Score.model_validate(
        tree
        | {
            "flags": flags,
            "trace": trace,
            "probability": sure.probability,
            "substate_probability": sure.substate_probability if _has_substates(sure) else None,
            # where ISH has answered, it is not due again
            "reflex_ish": sure.reflex_ish and tree.get("ish_status") not in _ANSWERED,
            "uncertainty": sure.as_dict(),
        }
    )
