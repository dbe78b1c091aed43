"""Fit the score of nuclear contours, and print what it does on pictures that the fit never saw.

    python scripts/fit_nuclei.py --cache FOLDER [--real FOLDER] [--write]

Candidates of the classic detector are judged by the truth of drawings of three generators and, with
``--real``, by the hand marks on eight fields of four real cores: a candidate is as good as its
centre is near to a nucleus' (1 within 1 µm, 0 from 4 µm on), less where its size is wrong. Two
forests learn to tell that, without and with the slide's typical contrast. A third one learns which
pairs of the finds that are left are halves of one nucleus. Printed are the shares of nuclei missed
and of finds that are false, on unseen drawings, and on every core by forests fitted without it;
halves that are joined count at their middle there. ``--write`` replaces
her2path/nuclei/weights.npz. The same command gives the same trees.
"""

from __future__ import annotations

import argparse
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forest
import numpy as np
from drawn_phantoms import STYLES as OUTLINED
from matching import away, pair
from pictures import (
    CORES,
    Picture,
    Truth,
    outlined_picture,
    own_picture,
    plain_picture,
    real_core,
    stains,
)
from plain_phantoms import CHECKED, FITTED
from scipy.spatial import cKDTree
from sklearn.ensemble import HistGradientBoostingClassifier

from her2path.nuclei import _drafts, _hash, _joining, _score, _twins, classic, weights
from her2path.settings import NucleiSettings

WEIGHTS = Path(weights.__file__).parent / weights.FILE
#: a centre counts in full up to the first, and not beyond the second distance, µm
NEAR_UM, FAR_UM = 1.0, 4.0
#: a size that is off by this much of its logarithm counts 1/e
SIZE_LOG = 0.6
UNSURE_UM, EDGE_UM, AROUND_UM = 5.0, 8.0, 20.0
#: weight of all candidates of a kind of picture
KINDS = {"real": 2.0, "own": 1.0, "plain": 0.75, "outlined": 0.5}
#: weight of a pair of a kind of picture; how near to a nucleus both of its halves lie, in its radii
PAIRS, HALF_RADII = {"real": 3.0}, 1.5
#: features of a pair whose rise may only speak for one nucleus (1) or for two (-1)
PAIR_DIRECTION = {
    "apart": -1, "valley_of_paler": -1, "between_of_paler": -1, "valley_of_darker": -1,
    "facing_edge_high": -1, "facing_edge_low": -1, "gap": -1, "brown_between": -1,
}  # fmt: skip
#: features whose rise may only speak for a nucleus (1) or against it (-1)
DIRECTION = {
    "edge_mean": 1, "edge_low_quarter": 1, "inside_over_outside": 1, "gain": 1, "texture": -1,
    "dab_outside_over_inside": 1, "contrast_of_slide": 1, "edge_of_slide": 1,
}  # fmt: skip
#: where the slide's contrast is not known, more is asked for: log odds taken off
ALONE = 0.4
#: two finds are joined only where one nucleus is clearly likelier: log odds taken off
JOINED = 0.4
#: a slide without a known contrast is described by this one, OD
USUAL_CONTRAST = 0.1


@dataclass(frozen=True)
class Candidates:
    """Candidates of one picture; ``size`` is the picture's side, µm."""

    kind: str
    name: str
    planes: _drafts.Planes
    drafts: _drafts.Drafts
    mpp: float
    contrast: float | None
    truth: Truth
    size: float

    @property
    def at(self) -> np.ndarray:
        """Return the centres of the contours, µm."""
        return (self.drafts.at[:, ::-1] + self.drafts.centre[:, 1::-1] + 0.5) * self.mpp

    @property
    def radius(self) -> np.ndarray:
        """Return the radius of a disc of the same area, µm."""
        return np.sqrt(np.maximum(self.drafts.centre[:, 2], 1) / np.pi) * self.mpp

    def features(self, known: bool) -> np.ndarray:
        """Return the features, with the slide's contrast or without."""
        contrast = (self.contrast or USUAL_CONTRAST) if known else None
        return classic._features(self.drafts, self.mpp, contrast)


def candidates(kind: str, name: str, picture: Picture) -> Candidates:
    """Return the candidates of a picture; of a real core, those around the marked fields."""
    seen = stains(picture)
    how = seen.h, seen.d, seen.mpp, NucleiSettings(), (0, 0)
    planes, drafts = classic.ClassicDetector().draft(*how)
    # the planes lie in scratch memory
    planes = _drafts.Planes(planes.smooth.copy(), planes.brown.copy(), seen.d, planes.grid)
    if len(picture.truth.fields):
        at = (drafts.at[:, ::-1] + 0.5) * seen.mpp
        low, high = picture.truth.fields - AROUND_UM, picture.truth.fields + 75.0 + AROUND_UM
        near = np.any([((at >= a) & (at < b)).all(1) for a, b in zip(low, high, strict=True)], 0)
        fields = drafts.__dataclass_fields__
        drafts = _drafts.Drafts(**{n: getattr(drafts, n)[near] for n in fields})
    size = min(picture.rgb.shape[:2]) * picture.mpp
    return Candidates(kind, name, planes, drafts, seen.mpp, seen.contrast, picture.truth, size)


def judged(found: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """Return how good every candidate is, 0..1, and which of them count."""
    t, at = found.truth, found.at
    sure = t.seen & (t.kind != "unsure")
    good = np.zeros(len(at))
    if sure.any():
        gap, mate = cKDTree(t.at[sure]).query(at)
        true = np.where(np.isfinite(r := t.radius[sure][mate]), r, found.radius)
        good = np.clip((FAR_UM - gap) / (FAR_UM - NEAR_UM), 0, 1)
        good *= np.exp(-((np.log(found.radius / true) / SIZE_LOG) ** 2))
    if len(t.fields):
        unsure = away(at, t.at[t.kind == "unsure"]) <= UNSURE_UM
        return good, t.marked(at) & ~(unsure & (good < 0.3))
    return good, ((at > EDGE_UM) & (at < found.size - EDGE_UM)).all(axis=1)


def fit(pictures: list[Candidates], known: bool) -> HistGradientBoostingClassifier:
    """Fit one forest; a candidate of goodness g counts g times as a nucleus, else as none."""
    x, y, w = [], [], []
    for kind, weight in KINDS.items():
        rows = [(p, *judged(p)) for p in pictures if p.kind == kind]
        total = sum(np.sqrt(use.sum()) for _, _, use in rows)
        for picture, good, use in rows:
            share = weight * 20000 / total / np.sqrt(max(1, use.sum()))
            features, good = picture.features(known)[use], good[use]
            x += [features, features]
            y += [np.ones(len(good)), np.zeros(len(good))]
            w += [good * share, (1 - good) * share]
    x, y, w = (np.concatenate(v) for v in (x, y, w))
    names = _score.FEATURES + (_score.SLIDE_FEATURES if known else ())
    model = HistGradientBoostingClassifier(
        monotonic_cst=[DIRECTION.get(n, 0) for n in names], max_iter=60, learning_rate=0.15,
        max_depth=4, max_leaf_nodes=8, min_samples_leaf=100, l2_regularization=20.0, max_bins=64,
        random_state=0, early_stopping=False,
    )  # fmt: skip
    return model.fit(x[w > 0], y[w > 0], sample_weight=w[w > 0])


def kept_of(found: Candidates, model: Any, known: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of all candidates, and which win over their rivals."""
    features = found.features(known)
    score = np.zeros(len(features), np.float32)
    _score.probability(features, model.decision_function(features), score)
    kept = classic._best_of_rivals(found.drafts, score, found.mpp, NucleiSettings(), (0, 0))
    return score, kept


def pairs_of(found: Candidates, model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of near pairs of finds, and 1 for halves of one nucleus, 0 for two."""
    score, kept = kept_of(found, model, known=True)
    pairs, table = _joining.describe_pairs(found.planes, found.drafts, score, kept, found.mpp)
    t, at = found.truth, found.at[kept]
    sure = t.seen & (t.kind != "unsure")
    if not len(pairs) or not sure.any():
        return table[:0], np.zeros(0)
    mate = pair(at, t.at[sure])
    gap, near = cKDTree(t.at[sure]).query(at)
    true = np.where(np.isfinite(r := t.radius[sure][near]), r, found.radius[kept])
    inner = t.marked(at) & ((at > EDGE_UM) & (at < found.size - EDGE_UM)).all(axis=1)
    (i, j), half = pairs.T, gap < HALF_RADII * true + 1.0
    one = (near[i] == near[j]) & half[i] & half[j] & ((mate[i] < 0) | (mate[j] < 0))
    two = (mate[i] >= 0) & (mate[j] >= 0)
    known = inner[i] & inner[j] & (one | two)
    return table[known], one[known].astype(float)


def fit_pairs(pictures: list[Candidates], model: Any) -> HistGradientBoostingClassifier:
    """Fit the forest that tells halves of one nucleus from two nuclei."""
    rows = [(*pairs_of(p, model), PAIRS.get(p.kind, 1.0)) for p in pictures]
    x, y = np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows])
    w = np.concatenate([np.full(len(r[1]), r[2]) for r in rows])
    forest_ = HistGradientBoostingClassifier(
        monotonic_cst=[PAIR_DIRECTION.get(n, 0) for n in _twins.FEATURES], max_iter=80,
        learning_rate=0.12, max_leaf_nodes=8, min_samples_leaf=40, l2_regularization=5.0,
        max_bins=64, random_state=0, early_stopping=False,
    )  # fmt: skip
    return forest_.fit(x, y, sample_weight=w)


def found_and_false(found: Candidates, models: tuple[Any, Any], known: bool) -> np.ndarray:
    """Return how many nuclei are missed, of how many, and how many finds are false, of how many."""
    score, kept = kept_of(found, models[0], known)
    t, at = found.truth, found.at[kept]
    pairs, table = _joining.describe_pairs(found.planes, found.drafts, score, kept, found.mpp)
    mate = np.full(len(kept), -1, np.int32)
    if len(pairs):
        key = _hash.keys(found.drafts.at[kept], 0, 0)
        _twins.mates(pairs, models[1].decision_function(table) - JOINED, key, mate)
    joined = mate >= 0
    at[joined] = (at[joined] + found.at[kept][mate[joined]]) / 2
    large = found.radius[kept] > NucleiSettings().min_radius_um
    at = at[large & (~joined | (mate > np.arange(len(kept))))]
    sure = t.seen & (t.kind != "unsure")
    mate = pair(at, t.at[sure])
    hit = np.zeros(int(sure.sum()), bool)
    hit[mate[mate >= 0]] = True
    inner = t.marked(at) & ((at > EDGE_UM) & (at < found.size - EDGE_UM)).all(axis=1)
    false = inner & (mate < 0) & (away(at, t.at[t.kind == "unsure"]) > UNSURE_UM)
    wanted = (t.marked(t.at) & ~t.edge)[sure]
    counted = inner & ((mate >= 0) | false)
    return np.array([(wanted & ~hit).sum(), wanted.sum(), false.sum(), counted.sum()])


def report(
    title: str, pictures: list[Candidates], models: list[tuple[Any, Any]], known: bool
) -> None:
    """Print missed and false shares by kind of picture."""
    groups: dict[str, np.ndarray] = {}
    for picture, model in zip(pictures, models, strict=True):
        counts = found_and_false(picture, model, known)
        group = picture.name.rstrip("0123456789") if picture.kind != "real" else "real"
        groups[group] = groups.get(group, np.zeros(4)) + counts
    for group, (missed, wanted, false, counted) in groups.items():
        print(f"  {title} {group}: missed {missed / wanted:.3f} false {false / counted:.3f}",
              flush=True)  # fmt: skip


def cached(folder: Path, kind: str, name: str, make: Any, *args: Any) -> Candidates:
    """Return the candidates of a picture from the cache, or make them."""
    path = folder / f"candidates_{name}.pickle"
    if not path.exists():
        path.write_bytes(pickle.dumps(vars(candidates(kind, name, make(*args)))))
    return Candidates(**pickle.loads(path.read_bytes()))


def pictures(folder: Path, real: Path | None) -> tuple[list[Candidates], ...]:
    """Return what is fitted, unseen drawings, and real cores."""
    fitted = [cached(folder, "own", f"own{s}", own_picture, s) for s in range(5000, 5040)]
    fitted += [cached(folder, "plain", f"{t}{s}", plain_picture, s, t)
               for t in FITTED for s in range(700, 706)]  # fmt: skip
    fitted += [cached(folder, "outlined", f"outlined {t}{s}", outlined_picture, s, t)
               for t in OUTLINED for s in range(700, 706)]  # fmt: skip
    unseen = [cached(folder, "own", f"usual{s}", own_picture, s, False) for s in range(6000, 6012)]
    unseen += [cached(folder, "plain", f"{t}{s}", plain_picture, s, t)
               for t in FITTED + CHECKED for s in range(950, 953)]  # fmt: skip
    unseen += [cached(folder, "outlined", f"outlined {t}{s}", outlined_picture, s, t)
               for t in OUTLINED for s in range(950, 954)]  # fmt: skip
    cores = [cached(folder, "real", f"real_{n}", real_core, real, n) for n in CORES] if real else []
    return fitted, unseen, cores


def main() -> None:
    """Draft, fit, print, and write."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    ask.add_argument("--cache", type=Path, required=True)
    ask.add_argument("--real", type=Path, help="folder with her2_tma_cores")
    ask.add_argument("--write", action="store_true")
    args = ask.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    fitted, unseen, cores = pictures(args.cache, args.real)
    saved: dict[str, Any] = {}
    twins: list[Any] = []
    # the pairs first: they are described by the scores that know the slide's contrast
    for k in range(len(cores) + 1):
        learn = [*fitted, *cores[:k], *cores[k + 1 :]]
        twins.append(fit_pairs(learn, fit(learn, known=True)))
    saved |= forest.arrays("twins", _twins.FEATURES, twins[-1])
    for name, known in (("alone", False), ("with_contrast", True)):
        print("with" if known else "without", "the slide's contrast")
        others = [fit([*fitted, *cores[:k], *cores[k + 1 :]], known) for k in range(len(cores))]
        report("held out", cores, list(zip(others, twins, strict=False)), known)
        final = fit([*fitted, *cores], known)
        report("fitted", cores, [(final, twins[-1])] * len(cores), known)
        report("unseen", unseen, [(final, twins[-1])] * len(unseen), known)
        features = _score.FEATURES + (_score.SLIDE_FEATURES if known else ())
        saved |= forest.arrays(name, features, final)
    saved["alone_base"] -= ALONE
    saved["twins_base"] -= JOINED
    if args.write:
        np.savez_compressed(WEIGHTS, **saved)


if __name__ == "__main__":
    main()
