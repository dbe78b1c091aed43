"""Draws tumours as point patterns with a known layout, for `evaluate/heterogeneity.py`.

Written apart from the patterns that the tests use and the rules were set on: cells are a hard-core
point process, tumours are sheets, islands, ducts or cords, clones are ragged discs, fronts or whole
islands, mosaics may be clumped by pairs or repel each other. Density, drop-outs, calling errors and
gradients vary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

Rng: TypeAlias = np.random.Generator
#: which cells are positive, and how they were chosen; None where the draw made no such layout
Labelled: TypeAlias = tuple[np.ndarray, dict[str, Any]]

LAYOUTS = ("homogeneous", "clustered", "mosaic", "scattered")
#: fewer cells are drawn anew
FEWEST = 300
#: a clone of fewer cells is not yet a clone
MIN_CLONE = 40
#: half of the cells lie in islands of at least so many; clones by smaller ones look like a mosaic
MIN_ISLAND = 25


@dataclass(frozen=True)
class PointPattern:
    """One tumour: positions (µm), who is called positive, and how it was made."""

    x: np.ndarray
    y: np.ndarray
    positive: np.ndarray
    layout: str
    facts: dict[str, Any]


def draw(layout: str, seed: int) -> PointPattern:
    """Draw one tumour of a layout."""
    rng = np.random.default_rng([seed, LAYOUTS.index(layout), 4711])
    while True:
        x, y, facts = cells(rng)
        if x.size < FEWEST:
            continue
        found = LABELLERS[layout](rng, x, y)
        if found is None:
            continue
        label, more = found
        # rare false positives in a negative tumour, up to what the settings expect (1 %)
        error = rng.uniform(0, 0.008 if not label.any() else 0.03)
        called = label ^ (rng.random(x.size) < error)
        facts |= more | {"cells": int(x.size), "error": round(float(error), 4),
                         "share": round(float(called.mean()), 4), "seed": seed}  # fmt: skip
        return PointPattern(x, y, called, layout, facts)


def cells(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Draw positions: a hard-core process inside the tumour, thinned by gradient and drop-outs."""
    side, core = rng.uniform(450, 1700), rng.uniform(6.5, 11.0)
    x, y = rng.uniform(0, side, (2, int(2.2 * side**2 / core**2 / 2.5)))
    shape = str(rng.choice(list(SHAPES)))
    inside = SHAPES[shape](rng, x, y, side)
    x, y = hard_core(rng, x[inside], y[inside], core)
    angle, low = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 1.0)
    along = (x * np.cos(angle) + y * np.sin(angle)) / side
    along = (along - along.min()) / max(float(np.ptp(along)), 1e-9) if along.size else along
    dropped = rng.uniform(0, 0.3)
    keep = rng.random(x.size) < (low + (1 - low) * along) * (1 - dropped)
    for _ in range(rng.integers(0, 4)):  # folds, bubbles: no cells there at all
        cx, cy = rng.uniform(0, side, 2)
        keep &= np.hypot(x - cx, y - cy) > rng.uniform(20, 0.12 * side)
    facts = {"shape": shape, "side": round(side), "core": round(core, 1),
             "dropped": round(dropped, 2), "gradient": round(low, 2)}  # fmt: skip
    return x[keep], y[keep], facts


def hard_core(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, core: float
) -> tuple[np.ndarray, np.ndarray]:
    """Keep points that are the first-comers within their core distance (Matern II)."""
    if x.size < 2:
        return x, y
    age = rng.random(x.size)
    pairs = cKDTree(np.column_stack([x, y])).query_pairs(core, output_type="ndarray")
    younger = np.where(age[pairs[:, 0]] > age[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
    keep = np.ones(x.size, bool)
    keep[younger] = False
    return x[keep], y[keep]


def _sheet(_rng: Rng, x: np.ndarray, _y: np.ndarray, _side: float) -> np.ndarray:
    return np.ones(x.size, bool)


def _islands(rng: Rng, x: np.ndarray, y: np.ndarray, side: float) -> np.ndarray:
    inside = np.zeros(x.size, bool)
    for _ in range(rng.integers(6, 40)):
        cx, cy = rng.uniform(0, side, 2)
        a = rng.uniform(0, np.pi)
        half = rng.uniform(40, 170, 2)
        u = (x - cx) * np.cos(a) + (y - cy) * np.sin(a)
        v = (y - cy) * np.cos(a) - (x - cx) * np.sin(a)
        inside |= (u / half[0]) ** 2 + (v / half[1]) ** 2 < 1
    return inside


def _ducts(rng: Rng, x: np.ndarray, y: np.ndarray, side: float) -> np.ndarray:
    inside = np.zeros(x.size, bool)
    for _ in range(rng.integers(8, 30)):
        r = np.hypot(x - rng.uniform(0, side), y - rng.uniform(0, side))
        outer = rng.uniform(50, 160)
        inside |= (r < outer) & (r > outer - rng.uniform(15, 45))
    return inside


def _cords(rng: Rng, x: np.ndarray, y: np.ndarray, _side: float) -> np.ndarray:
    a, pitch, wave = rng.uniform(0, np.pi), rng.uniform(60, 160), rng.uniform(100, 400)
    u, v = x * np.cos(a) + y * np.sin(a), y * np.cos(a) - x * np.sin(a)
    phase = (v + 30 * np.sin(2 * np.pi * u / wave)) / pitch
    return phase % 1 < rng.uniform(0.35, 0.7)


SHAPES: dict[str, Callable[[Rng, np.ndarray, np.ndarray, float], np.ndarray]] = {
    "sheet": _sheet,
    "islands": _islands,
    "ducts": _ducts,
    "cords": _cords,
}


def _homogeneous(rng: Rng, x: np.ndarray, _y: np.ndarray) -> Labelled:
    share = float(rng.choice([0.0, 1.0, rng.uniform(0.80, 0.99)]))
    return rng.random(x.size) < share, {"kind": "negative" if share == 0 else "positive"}


def _scattered(rng: Rng, x: np.ndarray, y: np.ndarray) -> Labelled:
    wanted = round(rng.uniform(0.025, 0.07) * x.size)
    order = rng.permutation(x.size)
    if rng.random() < 0.5:  # isolated: no two of them side by side
        near = cKDTree(np.column_stack([x, y])).query_ball_point(np.column_stack([x, y]), 18.0)
        taken: list[int] = []
        blocked = np.zeros(x.size, bool)
        for i in order:
            if not blocked[i] and len(taken) < wanted:
                taken.append(i)
                blocked[near[i]] = True
        order = np.array(taken)
    label = np.zeros(x.size, bool)
    label[order[:wanted]] = True
    return label, {"kind": "isolated" if order.size < x.size else "random"}


def _mosaic(rng: Rng, x: np.ndarray, y: np.ndarray) -> Labelled:
    share = rng.uniform(0.14, 0.68)
    kind = str(rng.choice(["random", "pairs", "apart", "tilted"]))
    if kind == "tilted":  # a slight gradient of the positive share over the slide
        u = (x - x.mean()) / max(float(np.ptp(x)), 1.0)
        return rng.random(x.size) < share * (1 + rng.uniform(-0.3, 0.3) * u), {"kind": kind}
    if kind == "random":
        return rng.random(x.size) < share, {"kind": kind}
    nearest = cKDTree(np.column_stack([x, y])).query(np.column_stack([x, y]), 2)[1][:, 1]
    if kind == "pairs":  # daughters lie beside each other
        label = rng.random(x.size) < 1 - np.sqrt(1 - share)
        label[nearest[label]] = True
        return label, {"kind": kind}
    label = rng.random(x.size) < share
    both = label & label[nearest] & (rng.random(x.size) < 0.5)
    free = np.flatnonzero(~label)
    moved = rng.permutation(free)[: int(both.sum())]
    label[np.flatnonzero(both)[: moved.size]] = False
    label[moved] = True
    return label, {"kind": kind}


def _clustered(rng: Rng, x: np.ndarray, y: np.ndarray) -> Labelled | None:
    kind = str(rng.choice(["discs", "front", "islands"]))
    clone = {"discs": _discs, "front": _front, "islands": _whole_islands}[kind](rng, x, y)
    if rng.random() < 0.3:
        clone = ~clone  # a negative clone in a positive tumour
    pure, stray = rng.uniform(0.8, 1.0), rng.uniform(0, 0.04)
    label = rng.random(x.size) < np.where(clone, pure, stray)
    # the smaller side is the clone that must be found; it holds most of the cells of its kind
    own, kind_of = (clone, label) if clone.mean() <= 0.5 else (~clone, ~label)
    held = float((own & kind_of).sum()) / max(1, int(kind_of.sum()))
    few = own.sum() < max(MIN_CLONE, 0.06 * x.size)
    if few or held < 0.62 or not 0.05 < label.mean() < 0.85:
        return None
    return label, {"kind": kind, "clone": round(float(clone.mean()), 3), "pure": round(pure, 2)}


def _discs(rng: Rng, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    clone = np.zeros(x.size, bool)
    for _ in range(rng.integers(1, 7)):
        i = rng.integers(x.size)
        angle = np.arctan2(y - y[i], x - x[i])
        rim = 1 + sum(rng.normal(0, 0.12) * np.cos(k * angle + rng.uniform(0, 6.3))
                      for k in (2, 3, 5))  # fmt: skip
        clone |= np.hypot(x - x[i], y - y[i]) < rng.uniform(60, 350) * rim
    return clone


def _front(rng: Rng, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    a = rng.uniform(0, 2 * np.pi)
    u, v = x * np.cos(a) + y * np.sin(a), y * np.cos(a) - x * np.sin(a)
    u = u + rng.uniform(0, 60) * np.sin(2 * np.pi * v / rng.uniform(150, 500))
    return u > np.quantile(u, rng.uniform(0.2, 0.9))


def _whole_islands(rng: Rng, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    pairs = cKDTree(np.column_stack([x, y])).query_pairs(30.0, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(x.size, x.size))
    count, island = connected_components(graph, directed=False)
    if np.median(np.bincount(island)[island]) < MIN_ISLAND:
        return np.zeros(x.size, bool)  # crumbs, not islands: refused, and drawn anew
    return (rng.random(count) < rng.uniform(0.15, 0.8))[island]


LABELLERS: dict[str, Callable[[Rng, np.ndarray, np.ndarray], Labelled | None]] = {
    "homogeneous": _homogeneous,
    "clustered": _clustered,
    "mosaic": _mosaic,
    "scattered": _scattered,
}
