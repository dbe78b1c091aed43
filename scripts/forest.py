"""Boosted trees of scikit-learn as the plain arrays that `her2path.trees` walks."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier


def arrays(
    name: str, features: tuple[str, ...], fitted: HistGradientBoostingClassifier
) -> dict[str, Any]:
    """Return the arrays of a fitted forest, for `her2path.trees.read_trees`."""
    nodes = [p[0].nodes for p in fitted._predictors]
    leaf = [n["is_leaf"].astype(bool) for n in nodes]
    put = {
        "names": np.array(features),
        "base": np.float64(np.ravel(fitted._baseline_prediction)[0]),
        "root": np.cumsum([0, *(len(n) for n in nodes[:-1])]).astype(np.int32),
        "feature": np.concatenate(
            [np.where(f, -1, n["feature_idx"]) for n, f in zip(nodes, leaf, strict=True)]
        ).astype(np.int16),
        "limit": np.concatenate([n["num_threshold"] for n in nodes]).astype(np.float32),
        "left": np.concatenate([n["left"] for n in nodes]).astype(np.int16),
        "right": np.concatenate([n["right"] for n in nodes]).astype(np.int16),
        "value": np.concatenate(
            [np.where(f, n["value"], 0) for n, f in zip(nodes, leaf, strict=True)]
        ).astype(np.float32),
    }
    return {f"{name}_{k}": v for k, v in put.items()}
