"""Finds of the program matched with cells read by eye, and every figure of the two.

What each figure is stands at the head of `reads.py`.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from scripts.evaluate.matching import away, pair

READS = Path(__file__).parents[2] / "tests" / "data" / "reads"
MATCH_UM = 3.0
COMPLETE_AT = 0.8
GRADES = ("none", "weak", "moderate", "strong")
COLUMNS = ("cell_type", "intensity", "completeness", "uncertain")
#: a read point: px of the image; two voices, grade and completeness -1 where none is given;
#: whether it is a second dot; and what the program says, False and 0 where it found nothing
POINT = np.dtype([
    ("at", float, 2), ("letter", "U8", 2), ("kind", "U8", 2), ("grade", int, 2), ("whole", int, 2),
    ("second", bool), ("found", bool), ("tumour", bool), ("uncertain", bool), ("intensity", int),
    ("completeness", float),
])  # fmt: skip
Row = dict[str, str]
Judged = tuple[np.ndarray, Counter[str]]
Figures = dict[str, Any]


def rows_of(path: Path) -> list[Row]:
    """Return the rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_points(folder: Path) -> dict[str, np.ndarray]:
    """Return the points of every field that two readers read, POINT (n,)."""
    voices: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in sorted(rows_of(folder / "reads.csv"), key=lambda r: r["reader"]):
        voices[row["field"], row["n"]].append(row)
    out, odd = defaultdict(list), set()
    for (field, _), two in voices.items():
        if len(two) == len({v["reader"] for v in two}) == 2:
            out[field].append(_point(two))
        else:
            odd.add(field)
    if odd:
        print(f"points without two readers are left out: {', '.join(sorted(odd))}", file=sys.stderr)
    return {k: np.concatenate(v) for k, v in out.items()}


def _point(two: list[Row]) -> np.ndarray:
    point = np.zeros(1, POINT)
    point["at"] = float(two[0]["x_px"]), float(two[0]["y_px"])
    point["letter"], point["kind"] = ([v[k] for v in two] for k in ("reader", "kind"))
    point["grade"] = [GRADES.index(v["membrane"]) if v["membrane"] in GRADES else -1 for v in two]
    point["whole"] = [{"no": 0, "yes": 1}.get(v["complete"], -1) for v in two]
    # where one reader sees a nucleus of its own, the dot is no second one
    nothing = all(v["kind"] == "nothing" for v in two)
    point["second"] = nothing and any(v["complete"] == "double" for v in two)
    return point


def judge_field(
    field: Row, points: np.ndarray, finds: dict[str, np.ndarray], within: float
) -> Judged:
    """Match the finds with the points of a field, ``within`` µm; return both, and counts."""
    mpp, side = float(field["mpp"]), float(field["side"])
    off = finds["at"] - [float(field["x0"]), float(field["y0"])]
    near = np.logical_and.reduce((off >= -within / mpp) & (off <= side + within / mpp), axis=1)
    inside = np.logical_and.reduce((off[near] >= 0) & (off[near] < side), axis=1)
    at, to = finds["at"][near] * mpp, points["at"] * mpp
    mate = np.full(len(at), -1)
    for which in (~points["second"], points["second"]):
        free, targets = np.flatnonzero(mate < 0), np.flatnonzero(which)
        mine = pair(at[free], to[targets], within)
        mate[free[mine >= 0]] = targets[mine[mine >= 0]]
    hit, points = mate >= 0, points.copy()
    points["found"][mate[hit]] = True
    points["tumour"][mate[hit]] = finds["cell_type"][near][hit] == "tumour"
    for name in COLUMNS[1:]:
        points[name][mate[hit]] = np.nan_to_num(finds[name][near][hit].astype(float))
    nucleus = ~(points["kind"] == "nothing").all(axis=1)
    return points, Counter(
        finds=int(inside.sum()), unread=int((inside & (away(at, to) > within)).sum()),
        beside=int((inside & repeats(at, to, mate, nucleus, within)).sum()),
    )  # fmt: skip


def repeats(
    at: np.ndarray, to: np.ndarray, mate: np.ndarray, nucleus: np.ndarray, within: float
) -> np.ndarray:
    """Return which unmatched finds lie beside the find that has their nearest read nucleus."""
    gap = np.where(nucleus, cdist(at, to), np.inf)
    owner = np.full(len(to), -1)
    owner[mate[mate >= 0]] = np.flatnonzero(mate >= 0)
    other = owner[gap.argmin(axis=1)]
    beside = np.hypot(*(at - at[other]).T) <= within
    return (mate < 0) & (gap.min(axis=1) <= within) & (other >= 0) & beside


def pool(parts: list[Judged]) -> Judged:
    """Return several fields or images as one."""
    return np.concatenate([p for p, _ in parts]), sum((c for _, c in parts), Counter())


def share(of: np.ndarray) -> Figures:
    """Return the share (or mean) and of how many, None where there is nothing."""
    return {"share": float(np.mean(of)) if len(of) else None, "n": len(of)}


def agreement(a: np.ndarray, b: np.ndarray) -> Figures:
    """Return how far grades 0 to 3 agree, where both are given (>= 0).

    The kappa has quadratic weights, and is None where chance alone would agree wholly. Its expected
    disagreement, the mean (a - b)**2 of independent a and b, is a sum of variances.
    """
    given = (a >= 0) & (b >= 0)
    a, b = a[given], b[given]
    if not len(a):
        return {"n": 0, "exact": None, "kappa": None, "stained": None}
    chance = float(a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    return {
        "n": len(a), "exact": float((a == b).mean()),
        "kappa": 1 - float(((a - b) ** 2).mean()) / chance if chance else None,
        "stained": float(((a > 0) == (b > 0)).mean()),
    }  # fmt: skip


def figures(points: np.ndarray, counts: Counter[str]) -> Figures:
    """Return every figure of a set of read points; see the head of this file."""
    mine = points[(points["kind"] == "tumour").all(axis=1)]
    seen = mine[mine["found"]]
    told = mine["whole"][(mine["whole"] >= 0).all(axis=1)]
    level = np.stack([seen["intensity"]] * 2, axis=1)
    whole = seen[(seen["whole"][:, 0] >= 0) & (seen["whole"][:, 0] == seen["whole"][:, 1])]
    yes, around = whole["whole"][:, 0] == 1, whole["completeness"]
    return {
        "readers": agreement(*mine["grade"].T) | {
            "kind": share(points["kind"][:, 0] == points["kind"][:, 1]),
            "complete": share(told[:, 0] == told[:, 1]), "missed": counts["missed_by_both"] / 2,
        },
        "membrane": _membranes(mine, seen),
        "cells": _cells(points, mine, counts),
        "completeness": {
            "agrees": share((around >= COMPLETE_AT) == yes),
            "mean_yes": share(around[yes]), "mean_no": share(around[~yes]),
        },
        "by_letter": {
            str(x): agreement(seen["grade"][seen["letter"] == x], level[seen["letter"] == x])
            for x in np.unique(points["letter"])
        },
    }  # fmt: skip


def _membranes(mine: np.ndarray, seen: np.ndarray) -> Figures:
    out = {
        "the_one": agreement(seen["grade"][:, 0], seen["intensity"]),
        "the_other": agreement(seen["grade"][:, 1], seen["intensity"]),
        "readers_there": agreement(*seen["grade"].T), "uncertain": share(seen["uncertain"]),
        "levels": {},
    }  # fmt: skip
    for grade, word in enumerate(GRADES):
        both = mine[(mine["grade"] == grade).all(axis=1)]
        right = both["found"] & ((both["intensity"] > 0) == (grade > 0))
        out[word] = share(right[both["found"]]) | {"of_all": share(right)}
        out["levels"][word] = np.bincount(both["intensity"][both["found"]], minlength=4).tolist()
    return out


def _cells(points: np.ndarray, mine: np.ndarray, counts: Counter[str]) -> Figures:
    first, nuclei = points[~points["second"]], np.isin(points["kind"], ["tumour", "other"])
    foreign = np.logical_and.reduce(np.isin(first["kind"], ["other", "nothing"]), axis=1)
    judged = foreign | (first["kind"] == "tumour").all(axis=1)
    nothing = (first["kind"] == "nothing").all(axis=1)
    return {
        "called_tumour": share(mine["tumour"]), "not_found": share(~mine["found"]),
        "nuclei_found": share(points["found"][nuclei.all(axis=1)]),
        "called_and_not": share(foreign[first["tumour"] & judged]),
        "no_nucleus": share(nothing[first["found"]]),
        "on_second_dot": int((points["found"] & points["second"]).sum()),
        **{k: counts[k] for k in ("beside", "finds", "unread")},
    }  # fmt: skip
