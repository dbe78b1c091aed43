"""Judge the score's probabilities by proper scoring rules.

    python -m scripts.evaluate.probability RESULTS --make drawings --seeds 0 6
    python -m scripts.evaluate.probability RESULTS --make cores --nets FOLDER --images '2_0123*'
    python -m scripts.evaluate.probability RESULTS --set membrane.cutoffs_relative_error=0.3

RESULTS holds one OUT of the program for every picture, and `truth.json` with what each of them is;
``--make`` adds to it. Drawings are of several laboratories: two generators, every mixture of
`her2path.phantom.TUMOURS` that has one score, membranes at a gain from 0.5 to 2, scanners from
sharp to soft; none has controls, so that the cut-offs are the shipped ones. Cores are real images
below ``HER2PATH_REAL_DATA``; their label is the case's score, which a core need not show.

The probabilities are made anew from the stored cells and the stored detection limit, with the
settings given. Printed are the log loss (natural, mean of -ln of the probability of the right
score, not below 1 in 1,000), the Brier score (sum over the four scores), how often the right score
has less than 5 and less than 10 %, and the reliability curve: all probabilities of all scores by
tenths, how often it was that score. Drawings are no tissue, and eight cores are no sample.
"""

from __future__ import annotations

import argparse
import json
import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from her2path.cells import sensitivity
from her2path.core.schema import PATTERNS, SCORES
from her2path.core.settings import Settings, parse_set
from her2path.io.store import RunStore
from her2path.phantom import TUMOURS, PhantomSpec
from her2path.runs.case.celltable import is_tumour
from her2path.scoring import guidelines, uncertainty
from scripts.evaluate.comparison import score_pixels
from scripts.evaluate.sensitivity import soften
from scripts.phantoms import own
from scripts.phantoms.generators import GENERATORS

LEAST = 1e-3
MARKS = ("FAINT_NOT_MEASURABLE", "TUMOUR_NOT_RECOGNISED")
Truth = dict[str, dict[str, Any]]


def drawing(seed: int, mixture: str) -> tuple[np.ndarray, float, dict[str, int], str]:
    """Return one drawing, RGB, its um per pixel, its tumour cells by pattern, and its laboratory.

    A seed is a laboratory: its gain, its scanner and its hand are the same for every mixture.
    """
    rng = np.random.default_rng([seed, 16])
    gain, blur = float(np.exp(rng.uniform(np.log(0.5), np.log(2.0)))), float(rng.uniform(0.0, 0.5))
    noise, quality = float(rng.uniform(0.5, 2.0)), int(rng.choice([65, 80, 92]))
    place = seed * 100 + sorted(TUMOURS).index(mixture)
    laboratory = f"gain {gain:.2f}, softened {blur:.2f} um, quality {quality}"
    if seed % 2:
        generator = GENERATORS["outlined"]
        style = generator.STYLES[seed // 2 % 3]
        drawn = generator.draw(700_000 + place, style, TUMOURS[mixture], 380.0)
        rgb = soften(drawn, blur, quality, noise, place)
        laboratory = laboratory.split(", ", 1)[1]
    else:
        spec = PhantomSpec(
            seed=800_000 + place, width_um=420.0, height_um=420.0, margin_um=20.0,
            mixture=TUMOURS[mixture], strength=gain, blur_um=0.15 + blur, noise=noise,
            jpeg_quality=quality, subsampling="4:2:0",
        )  # fmt: skip
        drawn = own.of_spec(spec)
        rgb = drawn.rgb
    kinds, patterns = (drawn.truth.column(n).to_pylist() for n in ("cell_type", "pattern"))
    mine = [p for k, p in zip(kinds, patterns, strict=True) if k == "tumour"]
    return rgb, drawn.mpp, {p: mine.count(p) for p in PATTERNS}, laboratory


def score(rgb: np.ndarray, out: Path, changes: dict[str, Any]) -> None:
    """Score one picture into ``out``."""
    score_pixels(rgb, out, Settings().replace(changes))


def make_drawings(results: Path, seeds: range, changes: dict[str, Any]) -> Truth:
    """Draw and score; return what each drawing is."""
    truth: Truth = {}
    for seed in seeds:
        for mixture in TUMOURS:
            rgb, mpp, counts, laboratory = drawing(seed, mixture)
            name = f"drawn-{seed}-{mixture}"
            score(rgb, results / name, {"slide.mpp": mpp} | changes)
            right = guidelines.score(counts).ihc
            truth[name] = {"kind": "drawing", "score": right, "laboratory": laboratory}
            print(name, right, laboratory, flush=True)
    return truth


def make_cores(results: Path, wanted: list[str], changes: dict[str, Any]) -> Truth:
    """Score the real cores; return their labels."""
    truth: Truth = {}
    folder = Path(os.environ["HER2PATH_REAL_DATA"]) / "her2_tma_cores"
    fixed = {"slide.mpp": 0.25, "score.guideline": "gastric_resection"}
    for path in sorted(folder.glob("*.jpg")):
        name = path.stem[:6]
        if any(fnmatch(path.stem, w) for w in wanted):
            bgr = cv2.imread(str(path))
            if bgr is None:
                raise FileNotFoundError(f"{path} is not an image")
            score(bgr[..., ::-1], results / name, fixed | changes)
            label = int(name[0])
            truth[name] = {"kind": "core", "score": SCORES[label]}
            print(name, flush=True)
    return truth


def probability(out: Path, changes: dict[str, Any]) -> dict[str, Any] | None:
    """Return the probabilities of a stored result under other settings; None where not scored."""
    store = RunStore(out)
    result = store.result()
    if result.score is None:
        return None
    settings = store.settings().replace(changes)
    cells = store.cells(["x_um", "y_um", "cell_type", "pattern", "completeness", "membrane_od",
                         "membrane_mass", "uncertain", "kind_certainty"])  # fmt: skip
    tumour = cells.filter(is_tumour(cells))
    limit = result.sensitivity and sensitivity.with_limits(result.sensitivity, settings.membrane)
    if changes.get("sensitivity.cells") == 0:
        limit = None
    sure = uncertainty.bootstrap(tumour, settings.score.guideline, settings, limit)
    flags = [f.code for f in result.qc.flags]
    return {"ihc": result.score.ihc, "p": sure.probability, "limit": limit, "flags": flags}


def line(name: str, right: str, said: dict[str, Any]) -> str:
    """Return what was said of one picture."""
    odds = " ".join(f"{said['p'][s]:.3f}" for s in SCORES)
    limit, seen = said["limit"], "-"
    if limit is not None and limit.faint_found is not None:
        seen = f"{limit.faint_found:.2f} / {limit.blank_rate:.2f}"
    marks = [f for f in said["flags"] if f in MARKS]
    return f"{name}: is {right}, read {said['ihc']}, {odds}; found / blank {seen} {' '.join(marks)}"


def report(rows: list[dict[str, Any]], title: str) -> dict[str, Any]:
    """Print and return the scoring rules over some pictures."""
    p = np.array([[r["p"][s] for s in SCORES] for r in rows])
    right = np.array([SCORES.index(r["score"]) for r in rows])
    hit = np.eye(len(SCORES))[right]
    mine = p[np.arange(len(p)), right]
    loss = float(-np.log(np.maximum(mine, LEAST)).mean())
    found = {
        "n": len(rows), "log_loss": loss, "brier": float(((p - hit) ** 2).sum(axis=1).mean()),
        "right": float((p.argmax(axis=1) == right).mean()),
        "below_5": int((mine < 0.05).sum()), "below_10": int((mine < 0.10).sum()),
    }  # fmt: skip
    print(f"{title}: " + ", ".join(f"{k} {v:.3g}" for k, v in found.items()))
    for low in np.arange(0.0, 1.0, 0.2):
        inside = (p >= low) & ((p < low + 0.2) | (low > 0.75))
        if inside.any():
            print(f"  said {low:.1f} to {low + 0.2:.1f} (mean {p[inside].mean():.2f}): "
                  f"{hit[inside].mean():.2f} of {inside.sum()}")  # fmt: skip
    return found


def main() -> None:
    """Make what is asked for, judge what is there."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask.add_argument("results", type=Path)
    ask.add_argument("--make", choices=["drawings", "cores"])
    ask.add_argument("--seeds", type=int, nargs=2, default=(0, 6), help="first, end")
    ask.add_argument("--images", nargs="+", default=["*"], help="cores; * and ? hold")
    ask.add_argument("--nets", type=Path, help="folder of the nets to score with")
    ask.add_argument("--set", nargs="+", action="extend", default=[], help="settings, K=V")
    ask.add_argument("--quiet", action="store_true", help="no line for every picture")
    args = ask.parse_args()
    changes = dict(parse_set(c) for c in args.set)
    if args.nets:
        from her2path.cells.reading import nets

        nets.FOLDER = args.nets
    known = args.results / "truth.json"
    truth: Truth = json.loads(known.read_text()) if known.exists() else {}
    if args.make:
        args.results.mkdir(parents=True, exist_ok=True)
        if args.make == "drawings":
            truth |= make_drawings(args.results, range(*args.seeds), changes)
        else:
            truth |= make_cores(args.results, args.images, changes)
        known.write_text(json.dumps(truth, indent=1))
    rows = []
    for name, what in sorted(truth.items()):
        said = probability(args.results / name, changes)
        if said is None:
            print(f"{name}: not evaluable")
            continue
        rows.append({"name": name} | what | said)
        if not args.quiet:
            print(line(name, what["score"], said))
    for kind in ("drawing", "core"):
        mine = [r for r in rows if r["kind"] == kind]
        if mine:
            report(mine, f"{kind}s")


if __name__ == "__main__":
    main()
