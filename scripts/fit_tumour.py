"""Fit the tumour-cell selection, and measure it on drawings and cores that the fit never saw.

    python scripts/fit_tumour.py --cache FOLDER [--real FOLDER] [--write]

Cells are found by the program's own detector on three kinds of picture: phantoms of this program
with everything drawn at random, plain phantoms of a second generator, and, with ``--real``, the
hand-marked fields of real cores. A detection is tumour where it is paired, one to one and within
4 µm, with a tumour nucleus; lymphocytes, stroma, doubles and detections of nothing are the rest.
Stages are boosted trees; the second sees the first one's verdicts on the neighbours, made by
trees that had not seen the slide. Augmentation scales sizes, cytoplasm and confidence and drops
neighbours. ``--write`` replaces her2path/tumour/weights.npz. The same command gives the same trees.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from plain_phantoms import FITTED, STYLES, make_plain
from sklearn.ensemble import HistGradientBoostingClassifier

from her2path.analysis import FIXED, ID_STRIDE, Optics, _nucleus_columns
from her2path.case.plan import _nuclear_contrast
from her2path.geometry import analysis_factor
from her2path.nuclei import find_nuclei
from her2path.phantom import PhantomSpec, encode_decode, make_phantom
from her2path.settings import Settings
from her2path.stain import estimate, reduce_unmix
from her2path.tumour import surroundings
from her2path.tumour.features import FIRST, SECOND, first_features, second_features
from her2path.tumour.weights import FILE

MARKS = Path(__file__).parent.parent / "tests" / "data" / "real_nuclei_marks.csv"
WEIGHTS = Path(__file__).parent.parent / "her2path" / "tumour" / FILE
MATCH_UM, FOLDS = 4.0, 2
#: what a detection turned out to be
TUMOUR, OTHER, FALSE, IGNORED = 1, 0, 2, -1
#: weights: detections in bodies whose nucleus the section missed count little, either way
BODY_WEIGHT, REAL_WEIGHT = 0.25, 3.0
Cells = dict[str, np.ndarray]


# -- pictures and the cells found on them ----------------------------------------------------------


def detect(rgb: np.ndarray, mpp: float) -> Cells:
    """Return the raw columns of a picture's cells, as the program measures them."""
    settings = Settings()
    f = analysis_factor(mpp)
    rgb = rgb[: rgb.shape[0] // f * f, : rgb.shape[1] // f * f]
    side = round(128 / mpp) // f * f
    tiles = [
        rgb[y : y + side, x : x + side]
        for y in range(0, rgb.shape[0] - side // 2, side)
        for x in range(0, rgb.shape[1] - side // 2, side)
    ]
    tiles = tiles[:: max(1, len(tiles) // 24)]
    optics = Optics(mpp, f, estimate(tiles, mpp, settings.stain))
    contrast = _nuclear_contrast(tiles, optics, settings)
    found_by = settings.nuclei.model_copy(update={"contrast_od": contrast})
    h, d = reduce_unmix(rgb, f, optics.stain)
    found = find_nuclei(h, d, optics.mpp_a, found_by)
    x, y = (np.rint(v.astype(np.float64) * FIXED).astype(np.int64) for v in (found.x, found.y))
    columns: Cells = {"cell_id": y * ID_STRIDE + x}
    columns |= {n: (v / FIXED + 0.5) * optics.mpp_a for n, v in (("x_um", x), ("y_um", y))}
    return columns | _nucleus_columns(found, optics.mpp_a) | surroundings(found, h, d, optics.mpp_a)


def own_phantom(seed: int) -> Cells:
    """Return the cells of a random phantom of this program, with their truth."""
    rng = np.random.default_rng([seed, 99])
    spec = PhantomSpec.random(seed, width_um=300.0, height_um=300.0, **_extremes(rng))
    phantom = make_phantom(spec)
    cells = detect(encode_decode(phantom.rgb, spec.jpeg_quality, spec.subsampling), spec.mpp)
    truth = {n: np.asarray(phantom.truth[n].to_pylist()) for n in (
        "x_um", "y_um", "cell_type", "has_nucleus", "touches_edge")}  # fmt: skip
    at = np.column_stack([truth["x_um"], truth["y_um"]])
    return cells | {"t_at": at, "t_kind": truth["cell_type"], "t_seen": truth["has_nucleus"],
                    "t_edge": truth["touches_edge"]}  # fmt: skip


def _extremes(rng: np.random.Generator) -> dict[str, Any]:
    """Half of the phantoms reach beyond what `PhantomSpec.random` draws."""
    if rng.random() < 0.5:
        return {}
    return {
        "tumour_share": float(rng.choice([0.1, 0.3, 0.9, 1.0])),
        "lymphocytes": float(rng.choice([0.0, 0.0, 0.5, 1.0])),
        "stroma_cells": float(rng.choice([0.0, 0.5, 1.0])),
        "cell_um": float(rng.uniform(9, 18)),
        "crowding": float(rng.uniform(0, 1)),
        "missing_nucleus_share": float(rng.choice([0.0, 0.05])),
    }


def plain_phantom(seed: int, style: str) -> Cells:
    """Return the cells of a plain phantom, with their truth."""
    drawn = make_plain(seed, style, 260.0)
    near_edge = ((drawn.at < 4.0) | (drawn.at > 256.0)).any(axis=1)
    return detect(drawn.rgb, drawn.mpp) | {
        "t_at": drawn.at, "t_kind": drawn.kind, "t_seen": np.ones(len(drawn.at), bool),
        "t_edge": near_edge}  # fmt: skip


def real_core(folder: Path, image: str) -> Cells:
    """Return the cells of a real core, with the marks as truth; only marked fields count."""
    rgb = np.asarray(Image.open(next((folder / "her2_tma_cores").glob(f"{image}*.jpg"))))
    with MARKS.open(encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["image"] == image]
    at = np.array([[float(r["x_px"]), float(r["y_px"])] for r in rows]) * 0.25
    fields = sorted({(int(r["field_x0"]), int(r["field_y0"])) for r in rows})
    return detect(rgb, 0.25) | {
        "t_at": at, "t_kind": np.array([r["kind"] for r in rows]),
        "t_seen": np.ones(len(at), bool), "t_edge": np.zeros(len(at), bool),
        "fields": np.array(fields) * 0.25}  # fmt: skip


def pair(found: np.ndarray, truth: np.ndarray, within: float) -> np.ndarray:
    """Return for every found point the truth it is paired with, nearest pairs first, or -1."""
    mine = np.full(len(found), -1)
    if not len(found) or not len(truth):
        return mine
    gap = np.hypot(*(found[:, None] - truth[None]).transpose(2, 0, 1))
    i, j = np.nonzero(gap <= within)
    taken = np.zeros(len(truth), bool)
    for k in np.lexsort((j, i, gap[i, j])):
        if mine[i[k]] < 0 and not taken[j[k]]:
            mine[i[k]], taken[j[k]] = j[k], True
    return mine


def label(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Return what every detection is, and how much it weighs in the fit."""
    at = np.column_stack([cells["x_um"], cells["y_um"]])
    truth, kind, seen = cells["t_at"], cells["t_kind"], cells["t_seen"]
    what, weight = np.full(len(at), FALSE), np.ones(len(at))
    nuclei = np.flatnonzero(seen)
    mate = pair(at, truth[nuclei], MATCH_UM)
    hit = mate >= 0
    what[hit] = np.where(kind[nuclei[mate[hit]]] == "tumour", TUMOUR, OTHER)
    what[hit & (kind[nuclei[mate]] == "unsure")] = IGNORED
    body = pair(at, truth[~seen], MATCH_UM) >= 0
    weight[body & ~hit] = BODY_WEIGHT
    if "fields" in cells:
        weight *= REAL_WEIGHT
        inner = [((at >= f + 2.5) & (at < f + 72.5)).all(axis=1) for f in cells["fields"]]
        what[~np.any(inner, axis=0)] = IGNORED
        unsure = truth[kind == "unsure"]
        gap = np.hypot(*(at[:, None] - unsure[None]).transpose(2, 0, 1)).min(axis=1)
        what[(what == FALSE) & (gap < 5.0)] = IGNORED
    return what, weight


def cached(folder: Path, name: str, make: Any, *args: Any) -> Cells:
    """Return cells from the cache, or make them."""
    path = folder / f"{name}.npz"
    if not path.exists():
        np.savez(path.with_suffix(".part.npz"), **make(*args))
        path.with_suffix(".part.npz").rename(path)
    with np.load(path) as saved:
        return dict(saved)


def jobs(real: Path | None) -> dict[str, list[tuple[Any, ...]]]:
    """Return what is fitted and what is only measured: name, maker, arguments."""
    fitted: list[tuple[Any, ...]] = [(f"own{s}", own_phantom, s) for s in range(5000, 5056)]
    fitted += [(f"{t}{s}", plain_phantom, s, t) for t in FITTED for s in range(700, 707)]
    unseen: list[tuple[Any, ...]] = [(f"own{s}", own_phantom, s) for s in range(9000, 9032)]
    unseen += [(f"{t}{s}", plain_phantom, s, t)
               for t in STYLES for s in range(900, 903 if t in FITTED else 909)]  # fmt: skip
    cores = []
    if real:
        cores = [(f"real_{n}", real_core, real, n)
                 for n in ("0_a6d0", "1_154a", "2_a559", "2_aeb2")]  # fmt: skip
    return {"fitted": fitted, "unseen": unseen, "real": cores}


# -- fit -------------------------------------------------------------------------------------------


def augment(cells: Cells, rng: np.random.Generator) -> tuple[Cells, np.ndarray]:
    """Return the cells as another slide might show them, and which of them are left."""
    out = {n: v for n, v in cells.items() if not n.startswith("t_") and n != "fields"}
    keep = rng.random(len(out["x_um"])) > rng.choice([0.0, 0.0, 0.1, 0.25])
    out = {n: v[keep] for n, v in out.items()}
    size = rng.uniform(0.88, 1.15)
    for name in ("x_um", "y_um"):
        out[name] = out[name] * size
    out["nucleus_area_um2"] = out["nucleus_area_um2"] * (size * rng.uniform(0.68, 1.15)) ** 2
    pale, chromatin = np.exp(rng.uniform(-0.5, 0.5)), np.exp(rng.uniform(-0.3, 0.5))
    mean = out["nucleus_hematoxylin_od"]
    for name in ("ring_h20", "ring_h50", "ring_h80", "outer_h50"):
        out[name] = out[name] * pale
    for name in ("inside_h10", "inside_h90"):
        out[name] = mean + (out[name] - mean) * chromatin
    out["nucleus_texture"] = out["nucleus_texture"] * chromatin
    out["nucleus_contrast"] = out["nucleus_contrast"] * np.exp(rng.uniform(-0.25, 0.25))
    out["nucleus_irregularity"] = out["nucleus_irregularity"] * np.exp(rng.uniform(-0.2, 0.4))
    trust = np.clip(out["nucleus_confidence"], 1e-3, 1 - 1e-3)
    trust = np.log(trust / (1 - trust)) + rng.uniform(-0.9, 0.7)
    out["nucleus_confidence"] = 1 / (1 + np.exp(-trust))
    return out, np.flatnonzero(keep)


#: features whose rise may only speak for tumour (1) or against it (-1), here and as a mean of
#: the neighbours: what holds on every slide keeps the trees from learning one generator's ways
DIRECTION = {
    "log_area": 1, "log_elongation": -1, "irregularity": -1, "texture": -1, "confidence": 1,
    "inside_low": 1, "inside_high": -1, "ring_dab": 1, "against_area": 1, "against_ring_h": 1,
    "against_dab": 1, "nearest": 1, "nearest_better": 1, "better_overlap": -1,
    "better_margin": -1, "first": 1, "context_small": 1, "context_large": 1,
}  # fmt: skip


def trees(seed: int, rounds: int, names: tuple[str, ...]) -> HistGradientBoostingClassifier:
    """Return an unfitted stage."""
    # how far apart cells lie in general says nothing with one sign
    own = [n if n == "near_nearest" else n.removeprefix("near_") for n in names]
    return HistGradientBoostingClassifier(
        monotonic_cst=[DIRECTION.get(n, 0) for n in own],
        max_iter=rounds, learning_rate=0.1, max_leaf_nodes=14, min_samples_leaf=60,
        l2_regularization=5.0, max_bins=128, random_state=seed, early_stopping=False,
    )  # fmt: skip


def odds(stage: HistGradientBoostingClassifier, table: np.ndarray) -> np.ndarray:
    """Return log odds."""
    return np.asarray(stage.decision_function(table)) if len(table) else np.zeros(0)


class Samples:
    """The slides of a fit, each as it is and augmented, with features of the first stage."""

    def __init__(self, slides: list[Cells], copies: int) -> None:
        self.tables, self.what, self.weight, self.slide = [], [], [], []
        for k, cells in enumerate(slides):
            what, weight = label(cells)
            share = np.sqrt(400 / max(1, (what != IGNORED).sum()))
            for c in range(copies + 1):
                rng = np.random.default_rng([k, c])
                shown, kept = augment(cells, rng) if c else (cells, np.arange(len(what)))
                self.tables.append(first_features(shown))
                self.what.append(what[kept])
                self.weight.append(weight[kept] * share)
                self.slide.append(k)

    def fit(self, tables: list[np.ndarray], which: Any, rounds: int) -> Any:
        """Fit one stage on the slides for which `which` holds."""
        take = [i for i, s in enumerate(self.slide) if which(s) and len(self.what[i])]
        x = np.concatenate([tables[i] for i in take])
        y, w = (np.concatenate([v[i] for i in take]) for v in (self.what, self.weight))
        use = y != IGNORED
        names = FIRST if x.shape[1] == len(FIRST) else SECOND
        return trees(0, rounds, names).fit(x[use], y[use] == TUMOUR, sample_weight=w[use])


def fit(slides: list[Cells], copies: int = 2) -> tuple[Any, Any]:
    """Fit both stages; the second on verdicts of trees that had not seen the slide."""
    samples = Samples(slides, copies)
    values = [t.values for t in samples.tables]
    seconds: list[np.ndarray] = [np.zeros((0, len(SECOND)))] * len(values)
    for fold in range(FOLDS):
        first = samples.fit(values, lambda s, f=fold: s % FOLDS != f, FIRST_ROUNDS)
        for i, s in enumerate(samples.slide):
            if s % FOLDS == fold:
                seconds[i] = second_features(samples.tables[i], odds(first, values[i]))
    first = samples.fit(values, lambda _: True, FIRST_ROUNDS)
    return first, samples.fit(seconds, lambda _: True, SECOND_ROUNDS)


FIRST_ROUNDS, SECOND_ROUNDS = 90, 60


def judge(cells: Cells, stages: tuple[Any, Any]) -> np.ndarray:
    """Return the second stage's log odds of all cells."""
    table = first_features(cells)
    return odds(stages[1], second_features(table, odds(stages[0], table.values)))


def f1(cells: Cells, chosen: np.ndarray) -> tuple[float, float, float]:
    """Return F1, recall and precision of chosen detections, within 4 µm of tumour nuclei.

    Cells at the picture's edge and bodies without a nucleus neither help nor hurt.
    """
    at = np.column_stack([cells["x_um"], cells["y_um"]])[chosen]
    tumour = cells["t_kind"] == "tumour"
    wanted = tumour & cells["t_seen"] & ~cells["t_edge"]
    mate = pair(at, cells["t_at"], MATCH_UM)
    hit = np.zeros(len(wanted), bool)
    hit[mate[mate >= 0]] = True
    good, neutral = int((hit & wanted).sum()), int((hit & tumour & ~wanted).sum())
    found = len(at) - neutral
    return (2 * good / max(1, found + wanted.sum()), good / max(1, wanted.sum()),
            good / max(1, found))  # fmt: skip


def marked(cells: Cells, chosen: np.ndarray) -> dict[str, tuple[int, int]]:
    """Return (called tumour, found) by what a detection in the marked fields is."""
    what = label(cells)[0]
    at = np.column_stack([cells["x_um"], cells["y_um"]])
    out = {}
    for name, code in (("tumour", TUMOUR), ("others", OTHER), ("false", FALSE)):
        out[name] = (int((chosen & (what == code)).sum()), int((what == code).sum()))
    wanted = cells["t_at"][cells["t_kind"] == "tumour"]
    out["marks"] = (int((pair(wanted, at[chosen], MATCH_UM) >= 0).sum()), len(wanted))
    return out


# -- files and figures -----------------------------------------------------------------------------


def save(path: Path, stages: tuple[Any, Any], shift: float) -> None:
    """Write the trees as plain arrays."""
    out: dict[str, Any] = {"shift": np.float64(shift)}
    for name, names, stage in zip(("first", "second"), (FIRST, SECOND), stages, strict=True):
        nodes = [p[0].nodes for p in stage._predictors]
        leaf = [n["is_leaf"].astype(bool) for n in nodes]
        put = {
            "names": np.array(names),
            "base": np.float64(np.ravel(stage._baseline_prediction)[0]),
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
        out |= {f"{name}_{k}": v for k, v in put.items()}
    np.savez_compressed(path, **out)


def report(names: list[str], slides: list[Cells], stages: Any, shift: float) -> None:
    """Print F1 by generator and style; `all` is what the detector alone allows."""
    groups: dict[str, list[tuple[float, ...]]] = {}
    for name, cells in zip(names, slides, strict=True):
        chosen = judge(cells, stages) + shift >= 0
        real = label(cells)[0] == TUMOUR
        row = (*f1(cells, chosen), f1(cells, real)[0])
        groups.setdefault(name.rstrip("0123456789"), []).append(row)
    for group, rows in groups.items():
        v = np.array(rows)
        print(f"  {group:10s} F1 mean {v[:, 0].mean():.3f} median {np.median(v[:, 0]):.3f} least "
              f"{v[:, 0].min():.3f} recall {v[:, 1].mean():.3f} precision {v[:, 2].mean():.3f}; "
              f"a faultless selection {v[:, 3].mean():.3f}", flush=True)  # fmt: skip


def report_real(cores: list[Cells], stages: list[Any], shift: float) -> None:
    """Print what is called tumour on the marked fields, core by core and over all."""
    total: dict[str, np.ndarray] = {}
    for cells, pairs in zip(cores, stages, strict=True):
        counts = marked(cells, judge(cells, pairs) + shift >= 0)
        print("  ", {k: f"{a}/{b}" for k, (a, b) in counts.items()})
        for k, v in counts.items():
            total[k] = total.get(k, np.zeros(2)) + v
    print("   all", {k: round(float(a / max(b, 1)), 3) for k, (a, b) in total.items()}, flush=True)


def _loaded(folder: Path, todo: list[tuple[Any, ...]]) -> Iterator[Cells]:
    for name, make, *args in todo:
        yield cached(folder, name, make, *args)


def main() -> None:
    """Detect (or take from the cache), fit, report, and write."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    ask.add_argument("--cache", type=Path, required=True)
    ask.add_argument("--real", type=Path, help="folder with her2_tma_cores")
    ask.add_argument("--shift", type=float, default=0.0, help="added to the final log odds")
    ask.add_argument("--workers", type=int, default=2)
    ask.add_argument("--prepare", action="store_true", help="fill the cache and stop")
    ask.add_argument("--write", action="store_true")
    args = ask.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    todo = jobs(args.real)
    every = [job for part in todo.values() for job in part]
    with ProcessPoolExecutor(args.workers) as pool:
        list(pool.map(_prepare, [args.cache] * len(every), every))
    if args.prepare:
        return
    fitted, unseen, cores = (list(_loaded(args.cache, part)) for part in todo.values())
    alone = fit(fitted)
    print("drawings only; unseen drawings and real cores")
    report([j[0] for j in todo["unseen"]], unseen, alone, args.shift)
    report_real(cores, [alone] * len(cores), args.shift)
    if cores:
        print("with the marks of the other cores")
        others = [fit([*fitted, *cores[:k], *cores[k + 1 :]]) for k in range(len(cores))]
        report_real(cores, others, args.shift)
    final = fit([*fitted, *cores]) if cores else alone
    print("final; unseen drawings")
    report([j[0] for j in todo["unseen"]], unseen, final, args.shift)
    report_real(cores, [final] * len(cores), args.shift)
    if args.write:
        save(WEIGHTS, final, args.shift)


def _prepare(folder: Path, job: tuple[Any, ...]) -> None:
    name, make, *args = job
    if not (folder / f"{name}.npz").exists():
        cached(folder, name, make, *args)


if __name__ == "__main__":
    main()
