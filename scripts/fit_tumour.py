"""Fit the tumour-cell selection, and measure it on drawings and cores that the fit never saw.

    python scripts/fit_tumour.py --cache FOLDER [--real FOLDER] [--write] [--styles] [--final]

First, with ``--write``, the net that looks at pixels learns from drawings of its own
(`look_fit.py`). Cells are found by the program's own detector on four kinds of picture: phantoms
of this program with everything drawn at random, plain and outlined phantoms of two other
generators, and, with ``--real``, the hand-marked fields of real cores. A detection is tumour where
it is paired, one to one and within 4 µm, with a tumour nucleus; lymphocytes, stroma, doubles and
detections of nothing are the rest. Stages are boosted trees; the second sees the first one's
verdicts on the neighbours, made by trees that had not seen the slide. Augmentation scales sizes,
cytoplasm and confidence and drops neighbours. ``--styles`` leaves out either half of the plain
generator's styles (and outlined ones of these names), in net and trees. ``--final`` also judges
drawings that no choice rests on. ``--write`` replaces look.npz and weights.npz in her2path/tumour.
The same command gives the same net and trees.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forest
import look_fit
import numpy as np
from matching import f1, pair
from plain_phantoms import FITTED
from sklearn.ensemble import HistGradientBoostingClassifier
from tumour_samples import FALSE, IGNORED, OTHER, TUMOUR, Cells, Columns, Store, label

from her2path.tumour.features import FIRST, SECOND, first_features, second_features
from her2path.tumour.look import LOOK_COLUMNS
from her2path.tumour.usual import usual_of
from her2path.tumour.weights import FILE, NET_FILE, net

PACKAGE = Path(__file__).parent.parent / "her2path" / "tumour"
FOLDS, COPIES = 2, 1
#: weight of a slide's cells by kind of picture
KINDS = {"own": 1.5, "plain": 1.0, "outlined": 0.7, "real": 8.0}
FIRST_ROUNDS, SECOND_ROUNDS = 120, 90
#: features whose rise may only speak for tumour (1) or against it (-1), here and as a mean of
#: the neighbours: what holds on every slide keeps the trees from learning one generator's ways
DIRECTION = {
    "log_area": 1, "log_elongation": -1, "irregularity": -1, "texture": -1, "confidence": 1,
    "inside_low": 1, "inside_high": -1, "ring_dab": 1, "against_area": 1, "against_ring_h": 1,
    "against_dab": 1, "rank_area": 1, "slide_area_mid": 1,
    "slide_area_high": 1, "nearest": 1, "nearest_better": 1, "better_overlap": -1,
    "better_margin": -1, "first": 1, "context_small": 1, "context_large": 1,
    "look_tumour": 1, "look_false": -1, "against_look_tumour": 1,
}  # fmt: skip


def augment(columns: Columns, rng: np.random.Generator) -> tuple[Columns, np.ndarray]:
    """Return the cells as another slide might show them, and which of them are left."""
    keep = rng.random(len(columns["x_um"])) > rng.choice([0.0, 0.0, 0.1, 0.25])
    out = {n: v[keep] for n, v in columns.items()}
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
    for name in LOOK_COLUMNS:
        unlike = rng.normal(0, 0.3) + rng.normal(0, 0.2, keep.sum())
        out[name] = out[name] + unlike
    trust = np.clip(out["nucleus_confidence"], 1e-3, 1 - 1e-3)
    trust = np.log(trust / (1 - trust)) + rng.uniform(-0.9, 0.7)
    out["nucleus_confidence"] = 1 / (1 + np.exp(-trust))
    return out, np.flatnonzero(keep)


def usual(columns: Columns) -> tuple[float, float, float] | None:
    """Return the usual nuclei of a slide."""
    names = ("nucleus_area_um2", "nucleus_hematoxylin_od", "nucleus_confidence")
    return usual_of(*(columns[n] for n in names))


def trees(rounds: int, names: tuple[str, ...]) -> HistGradientBoostingClassifier:
    """Return an unfitted stage."""
    # how far apart cells lie in general says nothing with one sign
    own = [n if n == "near_nearest" else n.removeprefix("near_") for n in names]
    return HistGradientBoostingClassifier(
        monotonic_cst=[DIRECTION.get(n, 0) for n in own],
        max_iter=rounds, learning_rate=0.1, max_depth=7, max_leaf_nodes=24, min_samples_leaf=40,
        l2_regularization=5.0, max_bins=64, random_state=0, early_stopping=False,
    )  # fmt: skip


def odds(stage: HistGradientBoostingClassifier, table: np.ndarray) -> np.ndarray:
    """Return log odds."""
    return np.asarray(stage.decision_function(table)) if len(table) else np.zeros(0)


class Samples:
    """The slides of a fit, each as it is and augmented, with features of the first stage."""

    def __init__(self, slides: list[Cells], copies: int = COPIES) -> None:
        self.tables, self.what, self.weight, self.slide = [], [], [], []
        for k, cells in enumerate(slides):
            what, weight = label(cells)
            share = KINDS[cells.kind] * np.sqrt(400 / max(1, (what != IGNORED).sum()))
            for c in range(copies + 1):
                rng = np.random.default_rng([c, *cells.name.encode()])
                every = np.arange(len(what))
                shown, kept = augment(cells.columns, rng) if c else (cells.columns, every)
                self.tables.append(first_features(shown, usual(shown)))
                self.what.append(what[kept])
                self.weight.append(weight[kept] * share)
                self.slide.append(k)

    def fit(self, tables: list[np.ndarray], which: Callable[[int], bool], names: Any) -> Any:
        """Fit one stage on the slides for which `which` holds."""
        take = [i for i, s in enumerate(self.slide) if which(s) and len(self.what[i])]
        x = np.concatenate([tables[i] for i in take])
        y, w = (np.concatenate([v[i] for i in take]) for v in (self.what, self.weight))
        use = y != IGNORED
        rounds = FIRST_ROUNDS if names is FIRST else SECOND_ROUNDS
        return trees(rounds, names).fit(x[use], y[use] == TUMOUR, sample_weight=w[use])

    def fit_both(self, which: Callable[[int], bool] = lambda _: True) -> tuple[Any, Any]:
        """Fit both stages; the second on verdicts of trees that had not seen the slide."""
        values = [t.values for t in self.tables]
        seconds: list[np.ndarray] = [np.zeros((0, len(SECOND)))] * len(values)
        for fold in range(FOLDS):
            first = self.fit(values, lambda s, f=fold: which(s) and s % FOLDS != f, FIRST)
            for i, s in enumerate(self.slide):
                if s % FOLDS == fold and which(s):
                    seconds[i] = second_features(self.tables[i], odds(first, values[i]))
        return self.fit(values, which, FIRST), self.fit(seconds, which, SECOND)


def judge(cells: Cells, stages: tuple[Any, Any]) -> np.ndarray:
    """Return the second stage's log odds of all cells."""
    table = first_features(cells.columns, usual(cells.columns))
    return odds(stages[1], second_features(table, odds(stages[0], table.values)))


def marked(cells: Cells, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Return (called tumour, found) by what a detection in the marked fields is."""
    what = label(cells)[0]
    out = {}
    for name, code in (("tumour", TUMOUR), ("others", OTHER), ("false", FALSE)):
        out[name] = np.array([(chosen & (what == code)).sum(), (what == code).sum()])
    wanted = cells.truth.at[cells.truth.tumour]
    out["marks"] = np.array([(pair(wanted, cells.at[chosen]) >= 0).sum(), len(wanted)])
    return out


def report(slides: list[Cells], stages: Any, shift: float) -> None:
    """Print F1 by generator and style; `faultless` is what the detector alone allows."""
    groups: dict[str, list[tuple[float, ...]]] = {}
    for cells in slides:
        t, chosen = cells.truth, judge(cells, stages) + shift >= 0
        best = f1(cells.at[label(cells)[0] == TUMOUR], t.at, t.tumour, t.findable)[0]
        row = (*f1(cells.at[chosen], t.at, t.tumour, t.findable), best)
        groups.setdefault(cells.group, []).append(row)
    for group, rows in groups.items():
        v = np.array(rows)
        print(f"  {group:10s} {len(v):2d} F1 mean {v[:, 0].mean():.3f} "
              f"median {np.median(v[:, 0]):.3f} least {v[:, 0].min():.3f} "
              f"recall {v[:, 1].mean():.3f} precision {v[:, 2].mean():.3f}; "
              f"faultless {v[:, 3].mean():.3f}", flush=True)  # fmt: skip


def report_real(cores: list[Cells], stages: list[Any], shift: float) -> None:
    """Print what is called tumour on the marked fields, core by core and over all."""
    total: dict[str, np.ndarray] = {}
    for cells, pair_of in zip(cores, stages, strict=True):
        counts = marked(cells, judge(cells, pair_of) + shift >= 0)
        print("  ", cells.name, {k: f"{v[0]}/{v[1]}" for k, v in counts.items()})
        for k, v in counts.items():
            total[k] = total.get(k, np.zeros(2)) + v
    print("   all", {k: round(float(a / max(b, 1)), 3) for k, (a, b) in total.items()}, flush=True)


def report_styles(cache: Path, shift: float) -> None:
    """Print how styles are told by a net and trees fitted without any drawing of them."""
    for out in (FITTED[::2], FITTED[1::2]):
        net = tuple(look_fit.fit(look_fit.samples(cache, out)).values())
        store = Store(cache, net)
        slides = store.fitted()
        style = [c.group.removeprefix("outlined-") for c in slides]
        stages = Samples(slides).fit_both(lambda s, v=style, out=out: v[s] not in out)
        report([c for c in store.checked() if c.group in out], stages, shift)


def fit_net(cache: Path) -> None:
    """Fit the net and put it in the program's place."""
    np.savez_compressed(PACKAGE / NET_FILE, **look_fit.fit(look_fit.samples(cache)))
    net.cache_clear()


def main() -> None:
    """Detect (or take from the cache), fit, report, and write."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    ask.add_argument("--cache", type=Path, required=True)
    ask.add_argument("--real", type=Path, help="folder with her2_tma_cores")
    ask.add_argument("--shift", type=float, default=0.0, help="added to the final log odds")
    ask.add_argument("--styles", action="store_true", help="leave out half of the styles in turn")
    ask.add_argument("--final", action="store_true", help="judge the drawings kept for the end")
    ask.add_argument("--write", action="store_true")
    args = ask.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    if args.write:
        fit_net(args.cache)
    store = Store(args.cache)
    cores = store.cores(args.real)
    slides = [*store.fitted(), *cores]
    samples = Samples(slides)
    final = samples.fit_both()
    if args.write:
        saved = forest.arrays("first", FIRST, final[0]) | forest.arrays("second", SECOND, final[1])
        np.savez_compressed(PACKAGE / FILE, shift=np.float64(args.shift), **saved)
    print("drawings of the choices")
    report(store.checked(), final, args.shift)
    if cores:
        print("cores, each by a fit without it")
        first = len(slides) - len(cores)
        others = [
            samples.fit_both(lambda s, k=k: s != k) for k in range(first, first + len(cores))
        ]
        report_real(cores, others, args.shift)
        print("cores, fitted")
        report_real(cores, [final] * len(cores), args.shift)
    if args.styles:
        print("styles, half of them by a fit without these")
        report_styles(args.cache, args.shift)
    if args.final:
        print("drawings kept for the end")
        report(store.unseen(), final, args.shift)


if __name__ == "__main__":
    main()
