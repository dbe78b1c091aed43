"""From patches to regions, to the slide, to a verdict beside the rule-based score."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.results import CnnResult, Score
from her2path.core.schema import SCORES

__all__ = ["DISAGREES", "decide", "region_probabilities", "slide_probabilities", "verdict"]

#: flag of a second look that differs by a class or more
DISAGREES = "CNN_DISAGREES"
Floats = NDArray[np.float64]


def region_probabilities(values: NDArray[Any], region: NDArray[Any], ids: NDArray[Any]) -> Floats:
    """Return each region's mean over its patches: probabilities, or features of any number.

    Parameters
    ----------
    values : float (N, D)
        Of sampled patches.
    region : int (N,)
        Region of each patch.
    ids : int (R,)
        Identities of the regions, in the order wanted.

    Returns
    -------
    float64 (R, D)
        NaN for a region without a patch.
    """
    ids = np.asarray(ids)
    order = np.argsort(ids, kind="stable")
    out = np.full((len(ids), np.shape(values)[1]), np.nan)
    if not len(ids):
        return out
    at = np.clip(np.searchsorted(ids[order], region), 0, len(ids) - 1)
    known = ids[order][at] == region
    place = order[at[known]]
    count = np.bincount(place, minlength=len(ids))
    mine = np.asarray(values, np.float64)[known]
    has = count > 0
    for k in range(out.shape[1]):
        total = np.bincount(place, weights=mine[:, k], minlength=len(ids))
        out[has, k] = total[has] / count[has]
    return out


def slide_probabilities(regions: Floats, tumour_cells: NDArray[Any]) -> Floats | None:
    """Return the regions' mean, weighted by their tumour cells, float64 (4,); None without any."""
    known = ~np.isnan(regions[:, 0]) & (np.asarray(tumour_cells) > 0)
    if not known.any():
        return None
    weight = np.asarray(tumour_cells, np.float64)[known]
    mean = (regions[known] * weight[:, None]).sum(axis=0) / weight.sum()
    return np.asarray(mean / mean.sum())


def decide(probabilities: NDArray[Any], share: float = 0.5) -> NDArray[np.int64]:
    """Return the highest score that at least ``share`` of the tissue reaches, in expectation.

    Parameters
    ----------
    probabilities : float (N, 4)
        Mean probabilities of regions or slides; rows with NaN give -1.
    share : float
        Of the model card. At 0.5 this is the median score; guidelines ask for less (10 % of the
        cells make a 3+), which is why the card holds what did best on held-out cases.
    """
    p = np.asarray(probabilities, np.float64)
    at_least = np.cumsum(p[:, ::-1], axis=1)[:, ::-1]
    # the tolerance keeps rounding of stored probabilities from moving a decision
    best = (at_least >= share - 1e-9).sum(axis=1) - 1
    return np.where(np.isnan(p).any(axis=1), -1, np.maximum(best, 0)).astype(np.int64)


def verdict(
    probabilities: Floats | None, rule_based: Score | None, model: str, share: float = 0.5
) -> CnnResult:
    """Return the second look at a slide.

    Parameters
    ----------
    probabilities : float64 (4,) or None
        Of the slide.
    rule_based : Score or None
        What the rules said; it is compared, never changed.
    model : str
        Name of the model.
    share : float
        See `decide`.
    """
    if probabilities is None:
        return CnnResult(model=model, score=None, probability=None, agrees=None, flag=None)
    score = SCORES[int(decide(probabilities[None], share)[0])]
    agrees = None if rule_based is None else score == rule_based.ihc
    return CnnResult(
        model=model,
        score=score,
        probability={s: round(float(p), 4) for s, p in zip(SCORES, probabilities, strict=True)},
        agrees=agrees,
        flag=DISAGREES if agrees is False else None,
    )
