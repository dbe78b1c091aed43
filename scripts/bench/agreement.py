"""Times `her2path agree`'s figures on drawn reads: seconds, processor seconds and peak memory.

    python -m scripts.bench.agreement --cases 10000 --readers 20 --draws 2000

The aim is 10,000 cases, 20 readers (the last is the program) and 2,000 draws over cases in under
30 s on two cores. The processor's seconds stand beside the clock: on a shared machine only they
mean something.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np

from her2path.io.reads import PROGRAM, Read
from her2path.scoring.agreement import AgreeOptions, measure


def drawn(cases: int, readers: int, seed: int) -> list[Read]:
    """Return reads of scores that differ by one step in a quarter, 3 % of them missing."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(4, cases, p=[0.3, 0.3, 0.25, 0.15])
    step = rng.choice([-1, 0, 1], (readers, cases), p=[0.12, 0.76, 0.12])
    score = np.clip(truth + step, 0, 3)
    there = rng.random((readers, cases)) >= 0.03
    names = [*(f"r{r}" for r in range(1, readers)), PROGRAM]
    return [Read(0, f"case{c}", names[r], int(score[r, c])) for r, c in np.argwhere(there)]


def main() -> None:
    """Measure once and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    reads = drawn(given.cases, given.readers, given.seed)
    start, used = time.perf_counter(), time.process_time()
    tree = measure(reads, AgreeOptions(draws=given.draws))
    facts = {
        "pairs": len(tree["pairs"]),
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - used, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
