"""Pairing what was found with what is there: one to one, nearest first."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

#: a detection this near is the nucleus, µm
MATCH_UM = 4.0


def pair(found: np.ndarray, truth: np.ndarray, within: float = MATCH_UM) -> np.ndarray:
    """Return for every found point (n, 2) the truth it is paired with, or -1."""
    mine = np.full(len(found), -1)
    if not len(found) or not len(truth):
        return mine
    near = cKDTree(found).sparse_distance_matrix(cKDTree(truth), within, output_type="coo_matrix")
    taken = np.zeros(len(truth), bool)
    for k in np.lexsort((near.col, near.row, near.data)):
        i, j = near.row[k], near.col[k]
        if mine[i] < 0 and not taken[j]:
            mine[i], taken[j] = j, True
    return mine


def away(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return how far every point lies from the nearest target, infinity where there is none."""
    return cKDTree(targets).query(points)[0] if len(targets) else np.full(len(points), np.inf)


def f1(
    at: np.ndarray, truth: np.ndarray, tumour: np.ndarray, findable: np.ndarray
) -> tuple[float, float, float]:
    """Return F1, recall and precision of cells called tumour.

    Tumour cells that are not findable (at the picture's edge, spoilt by an artefact, without a
    nucleus in the section) neither help nor hurt.

    Parameters
    ----------
    at : (n, 2)
        What was called tumour, µm.
    truth : (m, 2)
        All that is there, µm.
    tumour, findable : bool (m,)
    """
    mate = pair(at, truth)
    hit = np.zeros(len(truth), bool)
    hit[mate[mate >= 0]] = True
    wanted = tumour & findable
    good, neutral = int((hit & wanted).sum()), int((hit & tumour & ~findable).sum())
    found = len(at) - neutral
    total = int(wanted.sum())
    return 2 * good / max(1, found + total), good / max(1, total), good / max(1, found)
