"""How often a calibration from reads holds the truth: simulated laboratories.

Each laboratory has cut-offs of its own and reads its cases by them: a reader's cut-offs are the
laboratory's, off by a common factor that is drawn anew for every read (``--noise``, SD of its
logarithm). Measured: how often each cut-off lies in the 95 % interval that the fit gives it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from her2path.core.settings import Settings
from her2path.scoring.calibration.critical import critical_values
from her2path.scoring.calibration.ordinal import Reads, fit, intervals, predicted

START = np.array(Settings().membrane.cutoffs)


def main() -> None:
    """Simulate, fit, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--laboratories", type=int, default=200)
    parser.add_argument("--cases", type=int, default=30)
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--noise", type=float, default=0.15)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    for figures in measured(args, rng):
        print(json.dumps(figures), flush=True)


def measured(args: Any, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Yield, every 20 laboratories, coverage of the cut-offs, intervals' width and fits' error."""
    inside: list[np.ndarray] = []
    widths: list[np.ndarray] = []
    errors: list[np.ndarray] = []
    while len(inside) < args.laboratories:
        cuts = START * np.exp(rng.normal(0, 0.4)) * np.exp(rng.normal(0, 0.15, 3))
        reads = laboratory(rng, cuts, args.cases, args.readers, args.noise)
        if (reads.counts.sum(axis=0) < 2).any():
            continue  # `her2path calibrate` refuses such reads
        found = fit(reads, np.log(START))
        limits = intervals(reads, found, args.draws, rng)
        inside.append((limits[:, 0] <= np.log(cuts)) & (np.log(cuts) <= limits[:, 1]))
        widths.append(np.exp((limits[:, 1] - limits[:, 0]) / 2) - 1)
        errors.append(np.abs(np.expm1(found.log_cutoffs - np.log(cuts))))
        if len(inside) % 20 == 0 or len(inside) == args.laboratories:
            yield {
                "cases": args.cases, "readers": args.readers, "noise": args.noise,
                "laboratories": len(inside), "inside": np.mean(inside, axis=0).round(3).tolist(),
                "half_width": np.median(widths, axis=0).round(3).tolist(),
                "median_error": np.median(errors, axis=0).round(3).tolist(),
            }  # fmt: skip


def laboratory(
    rng: np.random.Generator, cuts: np.ndarray, cases: int, readers: int, noise: float
) -> Reads:
    """Return the reads of a laboratory with some cut-offs."""
    critical = np.array([critical_values(*case(rng, cuts), Settings()) for _ in range(cases)])
    counts = np.zeros((cases, 4))
    for i in range(cases):
        for _ in range(readers):
            own = np.log(cuts) + rng.normal(0, noise)
            counts[i, int(predicted(critical[i][None], own)[0])] += 1
    return Reads(critical, counts)


def case(rng: np.random.Generator, cuts: np.ndarray, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Return strengths and completeness of a case's tumour cells."""
    middle = np.log(cuts[0]) + rng.uniform(-0.8, np.log(cuts[2] / cuts[0]) + 1.2)
    strength = np.exp(rng.normal(middle, rng.uniform(0.3, 0.6), n))
    whole = np.clip(rng.beta(2, 1, n) + 0.15 * (strength > cuts[1]), 0, 1)
    bare = rng.random(n) < rng.uniform(0, 0.9) * (rng.random() < 0.6)
    return np.where(bare, 0.0, strength), np.where(bare, 0.0, whole)


if __name__ == "__main__":
    main()
