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

from scripts.evaluate.read_figures import (
    COLUMNS,
    GRADES,
    MATCH_UM,
    READS,
    Figures,
    Row,
    figures,
    judge_field,
    pool,
    read_points,
    rows_of,
)

CORE = re.compile(r"\d_[0-9a-f]{4}")


def wanted(args: argparse.Namespace) -> dict[str, list[Row]]:
    """Return the fields to judge by name of result, cores first, looks after what is as it is."""
    out = defaultdict(list)
    for field in rows_of(args.reads / "fields.csv"):
        key = field["image"] + ("" if field["look"] == "as_is" else f"@{field['look']}")
        chosen = any(fnmatch(key, p) for p in args.images)
        if chosen and re.match(args.fields_like, field["field"]):
            out[key].append(field)
    return {k: out[k] for k in sorted(out, key=lambda k: (not CORE.match(k), "@" in k, k))}


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
