"""How good probabilities are: confusion, quadratic kappa, likelihood, calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.cnn.ordinal import CLASSES, probabilities

__all__ = [
    "Reliability",
    "confusion",
    "expected_calibration_error",
    "fit_temperature",
    "negative_log_likelihood",
    "quadratic_kappa",
    "reliability",
    "summary",
]

Floats = NDArray[np.float64]
Labels = NDArray[Any]


@dataclass(frozen=True)
class Reliability:
    """Bins of stated probability: number, mean stated probability, share that was right."""

    count: NDArray[np.int64]
    stated: Floats
    observed: Floats


def confusion(labels: Labels, predicted: Labels) -> NDArray[np.int64]:
    """Return counts (4, 4): row = truth, column = prediction."""
    flat = np.asarray(labels, np.int64) * CLASSES + np.asarray(predicted, np.int64)
    return np.bincount(flat, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def quadratic_kappa(table: NDArray[np.int64]) -> float | None:
    """Return Cohen's kappa with quadratic weights; None where chance leaves nothing to explain."""
    n = table.sum()
    if n == 0:
        return None
    k = np.arange(len(table))
    weight = (k[:, None] - k[None]).astype(np.float64) ** 2
    expected = np.outer(table.sum(1), table.sum(0)) / n
    by_chance = float((weight * expected).sum())
    return None if by_chance == 0 else 1.0 - float((weight * table).sum()) / by_chance


def negative_log_likelihood(p: Floats, labels: Labels) -> float:
    """Return the mean of -ln p(truth)."""
    mine = p[np.arange(len(p)), np.asarray(labels, np.int64)]
    return float(-np.log(np.maximum(mine, 1e-12)).mean())


def reliability(p: Floats, labels: Labels, bins: int = 10) -> Reliability:
    """Return bins of equal width over the probability of the predicted class."""
    top = p.max(axis=1)
    right = p.argmax(axis=1) == labels
    where = np.minimum((top * bins).astype(np.int64), bins - 1)
    count = np.bincount(where, minlength=bins)
    share = np.maximum(count, 1)
    stated = np.bincount(where, weights=top, minlength=bins) / share
    observed = np.bincount(where, weights=right, minlength=bins) / share
    return Reliability(count, stated, observed)


def expected_calibration_error(p: Floats, labels: Labels, bins: int = 10) -> float:
    """Return the mean gap between stated and observed, weighted by the bins' numbers."""
    found = reliability(p, labels, bins)
    gap = np.abs(found.stated - found.observed)
    return float((gap * found.count).sum() / max(1, found.count.sum()))


def fit_temperature(logits: NDArray[Any], labels: Labels) -> float:
    """Return the temperature in 0.2..8 that makes held-out labels most likely.

    References
    ----------
    Guo et al. 2017, "On calibration of modern neural networks".
    """

    def loss(log_t: float) -> float:
        return negative_log_likelihood(probabilities(logits, float(np.exp(log_t))), labels)

    from scipy.optimize import minimize_scalar

    best = minimize_scalar(loss, bounds=(np.log(0.2), np.log(8.0)), method="bounded")
    return float(np.exp(best.x))


def summary(p: Floats, labels: Labels) -> dict[str, Any]:
    """Return patches, accuracy, quadratic kappa, calibration error, likelihood and confusion."""
    if not len(p):
        return {"patches": 0}
    table = confusion(labels, p.argmax(axis=1))
    kappa = quadratic_kappa(table)
    return {
        "patches": len(p),
        "accuracy": round(float(np.trace(table) / table.sum()), 4),
        "within_one": round(float((np.abs(p.argmax(axis=1) - labels) <= 1).mean()), 4),
        "quadratic_kappa": None if kappa is None else round(kappa, 4),
        "calibration_error": round(expected_calibration_error(p, labels), 4),
        "negative_log_likelihood": round(negative_log_likelihood(p, labels), 4),
        "confusion": table.tolist(),
    }
