"""Judge a version of the program on real cells that were read by eye.

    python -m scripts.evaluate.reads RESULTS
    python -m scripts.evaluate.reads --score RESULTS --images '2_*' --set membrane.complete_at=0.7

RESULTS holds one OUT of the program for every image, named IMAGE, or IMAGE@LOOK for an image as
one of `looks.LOOKS` shows it; ``--score`` makes them first, afresh, from the images below
``HER2PATH_REAL_DATA``. Image-reading models read the cells, two for every field, blind to each
other and to the program; no person did, and they are no diagnoses. The two letters of a field, in
alphabetical order, are "the one" and "the other".

A find of the program is matched with a read point of the field within ``--match-um``, one to one,
nearest first: first with the points that stand for a nucleus or for nothing, then what is left
with the points that are a second dot on one nucleus. Figures, image by image and pooled:

- readers: exact, quadratic kappa, stained or not, on cells that both call tumour; kind over all
  points; complete on tumour cells of which both say yes or no; tumour nuclei that carry no number,
  mean of the two;
- membranes, the program with each reader, on cells that both call tumour and the program found:
  the same figures; ``there`` is the readers' own kappa on those very cells; ``weak``, ``moderate``,
  ``strong``: share found stained where both say so, and after the stroke the share with a cell not
  found counted as missed; ``none``: share called none; ``unsure``: share called uncertain;
- cells: tumour cells (both readers) called tumour, and not found at all; nuclei (tumour or other
  to both) found; of the cells called tumour on which both agree whether they are, the share that
  is not; of the finds on a read point, the share where both say there is no nucleus (neither
  counts a second dot); doubles: finds beside another find of the same read nucleus + finds on a
  second dot; finds inside the fields, and how many of them no read point is near (unread);
- completeness, on tumour cells that both call complete, or both not: agreement of >= 0.8 with the
  readers, its mean where they say yes and no; and the score with its probabilities.

A share is followed by the number it is of. The points came from a blob detector and from
finds of an earlier version, whose own finds therefore all lie on a point. A blob at a field's very
edge may belong to a nucleus beyond it, which counts as not found where its find is too far.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import sys
from collections import Counter, defaultdict
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
from scipy.spatial.distance import cdist

from scripts.evaluate.matching import away, pair

READS = Path(__file__).parents[2] / "tests" / "data" / "reads"
MATCH_UM = 3.0
COMPLETE_AT = 0.8
GRADES = ("none", "weak", "moderate", "strong")
CORE = re.compile(r"\d_[0-9a-f]{4}")
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


def wanted(args: argparse.Namespace) -> dict[str, list[Row]]:
    """Return the fields to judge by name of result, cores first, looks after what is as it is."""
    out = defaultdict(list)
    for field in rows_of(args.reads / "fields.csv"):
        key = field["image"] + ("" if field["look"] == "as_is" else f"@{field['look']}")
        chosen = any(fnmatch(key, p) for p in args.images)
        if chosen and re.match(args.fields_like, field["field"]):
            out[key].append(field)
    return {k: out[k] for k in sorted(out, key=lambda k: (not CORE.match(k), "@" in k, k))}


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


def finds_of(out: Path, field: Row) -> dict[str, np.ndarray]:
    """Return the cells of a result; ``at`` (n, 2) in pixels of the image as it is."""
    path = out / "cells.parquet"
    if not path.exists():
        return {"at": np.zeros((0, 2))} | {k: np.zeros(0) for k in COLUMNS}
    data = ds.dataset(path)
    here = [c for c in ("x_px", "y_px", *COLUMNS) if c in data.schema.names]
    table = data.to_table(columns=here)
    cells = {c: np.array(table.column(c).to_pylist()) for c in here}
    cells.setdefault("uncertain", np.zeros(table.num_rows, bool))
    scale = 1.0
    if field["look"] != "as_is":
        slide = json.loads((out / "result.json").read_text(encoding="utf-8"))["slide"]
        scale = slide["mpp"] / float(field["mpp"])
    at = np.stack([cells["x_px"], cells["y_px"]], axis=1).reshape(-1, 2)
    return cells | {"at": (at + 0.5) * scale - 0.5}


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


def judge(args: argparse.Namespace, failed: set[str]) -> dict[str, Figures]:
    """Return the figures of every image that has a result and did not fail, and of the pools."""
    points, judged, out = read_points(args.reads), {}, {}
    missed: Counter[str] = Counter()
    for row in rows_of(args.reads / "missed.csv"):  # one row of each of the two readers
        missed[row["field"]] += int(row["missed_tumour"])
    for key, mine in wanted(args).items():
        folder = args.results / key
        mine = [f for f in mine if f["field"] in points]
        if not mine or key in failed or not (folder / "result.json").exists():
            print(f"{key} has {'no result' if mine else 'no reads'}: left out", file=sys.stderr)
            continue
        finds = finds_of(folder, mine[0])
        parts = [judge_field(f, points[f["field"]], finds, args.match_um) for f in mine]
        judged[key] = pool(parts)
        judged[key][1]["missed_by_both"] = sum(missed[f["field"]] for f in mine)
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        score = result.get("score") or {"ihc": result["status"], "probability": {}}
        score = {k: score[k] for k in ("ihc", "probability")}
        out[key] = figures(*judged[key]) | {
            "score": score | {"flags": [f["code"] for f in result["qc"]["flags"]]}
        }
    pools = {
        "cores": [k for k in judged if CORE.fullmatch(k)],
        "cores, other looks": [k for k in judged if CORE.match(k) and "@" in k],
        "other images": [k for k in judged if not CORE.match(k)],
    }
    return out | {k: figures(*pool([judged[i] for i in v])) for k, v in pools.items() if v}


def score_images(args: argparse.Namespace) -> set[str]:
    """Score every image, as it is or as its look shows it; return which failed."""
    from her2path.cells.reading import nets
    from her2path.core.errors import Her2PathError
    from her2path.core.settings import Settings, parse_set
    from scripts.evaluate.comparison import score_pixels
    from scripts.fit.looks import as_seen
    from scripts.fit.real_images import real_image

    if args.nets:
        nets.FOLDER = args.nets
    changes, failed = dict(parse_set(c) for c in args.set), set()
    for key, mine in wanted(args).items():
        rgb, mpp = real_image(Path(os.environ["HER2PATH_REAL_DATA"]), mine[0]["image"])
        rgb, mpp = as_seen(rgb, mpp, mine[0]["look"])
        fixed = {"slide.mpp": mpp, "score.guideline": "gastric_resection", "score.min_cells": 1}
        settings = Settings().replace(fixed | changes)
        try:
            score_pixels(rgb, args.results / key, settings, key)
        except Her2PathError as fault:
            print(f"{key}: {fault}", file=sys.stderr)
            failed.add(key)
    return failed


def _text(value: Any) -> str:
    """Return a figure as text; a share with the number it is of."""
    if isinstance(value, dict):
        shares = [v["share"] for v in (value, value.get("of_all")) if v]
        n = value.get("of_all", value)["n"]
        return f"{'/'.join(map(_text, shares))} ({n})" if n else "-"
    if isinstance(value, float):
        return f"{value:.2f}"
    return "-" if value is None else str(value)


def table(title: str, heads: str, rows: dict[str, list[Any]]) -> str:
    """Return figures as lines of text, a name before each."""
    lines = [["", *heads.split(",")]] + [[k, *map(_text, v)] for k, v in rows.items()]
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ([c.ljust(n) for c, n in zip(line, wide, strict=True)] for line in lines)
    return "\n".join([title, *("  ".join(line).rstrip() for line in padded), ""])


def _membrane_row(f: Figures) -> list[Any]:
    m = f["membrane"]
    n, kappa, exact, stained = (
        f"{_text(m['the_one'][k])}/{_text(m['the_other'][k])}"
        for k in ("n", "kappa", "exact", "stained")
    )
    grades = [m[k] for k in (*GRADES[1:], "none")]
    return [n, kappa, m["readers_there"]["kappa"], exact, stained, *grades, m["uncertain"]]


def _cell_row(f: Figures) -> list[Any]:
    c = f["cells"]
    names = ("called_tumour", "not_found", "nuclei_found", "called_and_not", "no_nucleus")
    doubles = f"{c['beside']}+{c['on_second_dot']}"
    return [*(c[k] for k in names), doubles, c["finds"], c["unread"]]


def _score_row(f: Figures) -> list[Any]:
    own, score = f["completeness"], f.get("score", {"ihc": "", "probability": {}, "flags": []})
    odds = [score["probability"].get(k) for k in ("0", "1+", "2+", "3+")]
    return [*own.values(), score["ihc"], *odds, " ".join(score["flags"])]


TABLES = (
    ("Readers with each other", "cells,exact,kappa,stained or not,kind,complete,no number",
     lambda f: list(f["readers"].values())),
    ("Membranes, the program with the one/the other",
     "cells,kappa,there,exact,stained or not,weak,moderate,strong,none,unsure", _membrane_row),
    ("Cells",
     "called tumour,not found,nuclei found,called and not,no nucleus,doubles,finds,unread",
     _cell_row),
    ("Completeness and score", "agrees,mean yes,mean no,score,P(0),P(1+),P(2+),P(3+),flags",
     _score_row),
)  # fmt: skip


def main() -> None:
    """Score where asked to, judge, print the tables."""
    raw = argparse.RawTextHelpFormatter
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    ask.add_argument("results", type=Path, help="folder of results")
    ask.add_argument("--score", action="store_true", help="score the images into it first")
    ask.add_argument("--images", nargs="+", default=["*"], help="names of results; * and ? hold")
    ask.add_argument("--nets", type=Path, help="folder of the nets to score with")
    ask.add_argument("--set", nargs="+", action="extend", default=[], help="settings, K=V")
    ask.add_argument("--fields-like", default="", help="regular expression for names of fields")
    ask.add_argument("--match-um", type=float, default=MATCH_UM)
    ask.add_argument("--reads", type=Path, default=READS, help="folder of the reads")
    ask.add_argument("--json", type=Path, help="write all figures here")
    args, failed = ask.parse_args(), set()
    if args.score:
        if not os.environ.get("HER2PATH_REAL_DATA"):
            ask.error("HER2PATH_REAL_DATA is not set. Set it to the folder of the real images.")
        failed = score_images(args)
    every = judge(args, failed)
    if not every:
        ask.error(f"no result of a read image in {args.results}. Make them with --score.")
    for title, heads, row in TABLES:
        print(table(title, heads, {k: row(f) for k, f in every.items()}))
    if args.json:
        args.json.write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
