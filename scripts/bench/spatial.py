"""Times the heterogeneity measures on a drawn tumour: seconds by stage, and peak memory.

    python -m scripts.bench.spatial --cells 1000000

The aim is a million cells, 999 permutations included, in under 30 s on two cores, and memory that
stays flat enough for five million. Beside the clock stand the processor's seconds, of all threads
together: on a shared machine only they mean something.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from her2path.core.schema import PATTERNS
from her2path.core.settings import Settings
from her2path.space import heterogeneity
from her2path.space.heterogeneity.bystander import nearest_positive
from her2path.space.heterogeneity.pattern import type_pattern
from her2path.space.heterogeneity.table import read_points
from her2path.space.regions import make_regions
from her2path.space.spatial import fit_variogram, pair_counts


def tumour(cells: int, seed: int) -> pa.Table:
    """Return cells 11 µm apart in clones of some 300 µm, 30 % intense."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(cells)))
    col, row = np.arange(side * side) % side, np.arange(side * side) // side
    x = (11.0 * col + rng.normal(0, 2, col.size))[:cells]
    y = (11.0 * row + rng.normal(0, 2, col.size))[:cells]
    field = np.sin(x / 97) * np.sin(y / 83) + 0.3 * rng.normal(size=cells)
    positive = field > np.quantile(field, 0.7)
    other = rng.choice([0, 1, 2, 4], cells)
    code = np.where(positive, PATTERNS.index("intense_complete"), other)
    words = pa.DictionaryArray.from_arrays(pa.array(code.astype(np.int8)), list(PATTERNS))
    return pa.table({"x_um": x.astype(np.float32), "y_um": y.astype(np.float32), "pattern": words})


def main() -> None:
    """Run the stages, then the whole, and print the seconds as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    settings = Settings()
    warm = tumour(3_000, given.seed)
    make_regions(warm, "nest", settings)
    heterogeneity.measure(warm)  # compiles
    table = tumour(given.cells, given.seed)
    seconds: dict[str, float] = {}
    cpu: dict[str, float] = {}

    def timed(name: str, function: Callable[..., Any], *args: Any) -> Any:
        start, used = time.perf_counter(), time.process_time()
        value = function(*args)
        seconds[name] = round(time.perf_counter() - start, 2)
        cpu[name] = round(time.process_time() - used, 2)
        return value

    points = timed("read", read_points, table, ("intense_complete",), settings)
    x, y = points.at()
    timed("pattern", type_pattern, x, y, points.positive, points.ground_um2, settings)
    timed("bystander", nearest_positive, x, y, points.positive, 2)
    pairs = timed("pairs", pair_counts, x, y, points.positive, 400.0, 10.0)
    timed("variogram", fit_variogram, pairs)
    timed("regions: grid", make_regions, table, "grid", settings)
    timed("regions: nest", make_regions, table, "nest", settings)
    del points, x, y
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    timed("measure (all of it)", heterogeneity.measure, table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    memory = {"stages": round(before), "all": round(peak)}
    facts = {"cells": given.cells, "seconds": seconds, "cpu_seconds": cpu, "peak_mb": memory}
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
