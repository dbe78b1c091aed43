"""Measure speed and memory as ratios, from interleaved rounds in one run.

    python -m scripts.bench.slide                 # everything; about 15 minutes on two cores
    python -m scripts.bench.slide --gigapixels 0.3 --rounds 2 --quick

Four things are timed in turn on the same slide, round after round, and the ratios are taken within
a round, so that a machine whose speed drifts does not matter:

job      slide to cell table (both passes, no report), threads
read     OpenSlide's bare ``read_region`` and RGB of the same blocks, threads
decode   raw JPEG tiles through libjpeg-turbo, threads
naive    the scikit-image pipeline of ``naive.py`` on a small part, scaled by area, threads

All four run on the same number of threads. Ratios of processor time stand beside those of the
clock: a machine that others use too distorts the latter. The slide is a phantom whose encoded tiles
are repeated, large enough that the bare read takes 15 s or more on two threads (a warning says
where it does not). A ratio is the median of its rounds, with the smallest and the largest.

Then the peak memory of `her2path score` is taken on a small and on a 16-fold slide, each in a
process of its own. Figures are machine figures, not accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

NAIVE_SIDE = 2048
UNIT_UM = 512.0
#: a bare read shorter than this says little about a whole slide
LEAST_READ_S = 15.0


def make_slide(path: Path, gigapixels: float, seed: int) -> tuple[int, int]:
    """Write a repeated phantom of about so many gigapixels; return width and height."""
    from her2path.phantom import TUMOURS, PhantomSpec, make_phantom, write_slide

    spec = PhantomSpec(
        seed=seed,
        width_um=UNIT_UM,
        height_um=UNIT_UM,
        mpp=0.25,
        layout="clustered",
        mixture=TUMOURS["1+"],
        second=TUMOURS["3+"],
        second_fraction=0.4,
    )
    phantom = make_phantom(spec)
    side = phantom.rgb.shape[0]
    n = max(1, round((gigapixels * 1e9) ** 0.5 / side))
    write_slide(phantom, path, tile_repeat=(n, n))
    return side * n, side * n


def blocks(width: int, height: int, side: int) -> list[tuple[int, int, int, int]]:
    """Return boxes (x, y, w, h) that cover the slide."""
    return [
        (x, y, min(side, width - x), min(side, height - y))
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]


def bare_read(path: Path, size: tuple[int, int], threads: int) -> None:
    """Read every block with OpenSlide and turn it into RGB."""
    import openslide

    with openslide.OpenSlide(str(path)) as slide, ThreadPoolExecutor(threads) as pool:

        def one(box: tuple[int, int, int, int]) -> int:
            x, y, w, h = box
            return np.asarray(slide.read_region((x, y), 0, (w, h)).convert("RGB")).shape[0]

        list(pool.map(one, blocks(*size, 2048)))


def raw_decode(path: Path, threads: int) -> None:
    """Decode every JPEG tile of level 0, and throw the pixels away."""
    import imagecodecs
    import tifffile

    with tifffile.TiffFile(path) as tiff, ThreadPoolExecutor(threads) as pool:
        page = tiff.pages[0]
        tables = page.jpegtables
        offsets, counts = page.dataoffsets, page.databytecounts
        fd = tiff.filehandle.fileno()

        def one(span: tuple[int, int]) -> int:
            data = os.pread(fd, span[1], span[0])
            return int(imagecodecs.jpeg8_decode(data, tables=tables).shape[0])

        list(pool.map(one, zip(offsets, counts, strict=True), chunksize=64))


def whole_job(path: Path, threads: int) -> dict[str, float]:
    """Slide to cell table; return seconds of the passes and the number of cells."""
    from her2path.core.settings import Settings
    from her2path.io.slide import SlideRef, open_slide
    from her2path.runs.case import passes
    from her2path.runs.case.plan import look, make_plan
    from her2path.runs.stream import Stream

    settings = Settings()
    with tempfile.TemporaryDirectory() as work, Stream(threads) as stream:
        ref = SlideRef(str(path))
        t0 = time.perf_counter()
        with open_slide(ref) as slide:
            seen = look(slide, settings, threads)
        plan = make_plan(ref, seen, settings, Path(work), 2)
        t1 = time.perf_counter()
        stream.each(passes.measure_block, plan.reading_order, (plan,))
        t2 = time.perf_counter()
        cells = stream.each(passes.resolve_block, plan.blocks, (plan,))
        t3 = time.perf_counter()
    return {"look": t1 - t0, "measure": t2 - t1, "resolve": t3 - t2, "cells": float(sum(cells))}


def naive(path: Path, threads: int) -> None:
    """Score a small part the scikit-image way."""
    from scripts.bench import naive as way

    way.score_box(str(path), (0, 0, NAIVE_SIDE, NAIVE_SIDE), threads)


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that a call takes: by the clock, and of processor time."""
    t0, c0 = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - t0, time.process_time() - c0


#: a process between: what a process once held counts for those that it starts itself
TELL_PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_mb(path: Path, threads: int) -> float:
    """Score a slide in a process of its own; return its peak memory, MiB."""
    with tempfile.TemporaryDirectory() as out:
        score = [sys.executable, "-m", "her2path", "score", str(path), "-o", f"{out}/o",
                 "--workers", str(threads), "--no-report", "--quiet"]  # fmt: skip
        told = subprocess.run(
            [sys.executable, "-c", TELL_PEAK, *score], check=True, capture_output=True, text=True
        )
    return int(told.stdout) / 1024


def speed(path: Path, size: tuple[int, int], rounds: int, threads: int) -> dict[str, object]:
    """Time everything in interleaved rounds; return medians and ratios."""
    mpx = size[0] * size[1] / 1e6
    whole_job(path, threads)  # compiles and warms the page cache; not counted
    share = mpx * 1e6 / NAIVE_SIDE**2
    rows: list[dict[str, float]] = []
    for i in range(rounds):
        row: dict[str, float] = {}
        calls: dict[str, Callable[[], object]] = {
            "job": lambda row=row: row.update(whole_job(path, threads)),
            "read": lambda: bare_read(path, size, threads),
            "decode": lambda: raw_decode(path, threads),
            "naive": lambda: naive(path, threads),
        }
        for name, call in calls.items():
            by_clock, processor = timed(call)
            scale = share if name == "naive" else 1.0
            row[name], row[f"{name} cpu"] = by_clock * scale, processor * scale
        rows.append(row)
        print(f"round {i + 1}: " + ", ".join(f"{k} {v:.1f}" for k, v in row.items()), flush=True)

    def ratio(a: str, b: str) -> dict[str, float]:
        of = sorted(r[a] / r[b] for r in rows)
        found = {"median": statistics.median(of), "least": of[0], "most": of[-1]}
        return {k: round(v, 2) for k, v in found.items()}

    bare = statistics.median(r["read"] for r in rows)
    if bare < LEAST_READ_S:
        print(f"warning: the bare read takes {bare:.1f} s; give more --gigapixels", file=sys.stderr)
    return {
        "megapixels": round(mpx),
        "threads": threads,
        "rounds": rounds,
        "seconds": {k: round(statistics.median(r[k] for r in rows), 2) for k in rows[0]},
        "Mpx/s": {
            k: round(mpx / statistics.median(r[k] for r in rows), 1)
            for k in ("job", "read", "decode", "naive")
        },
        "job / bare OpenSlide read": ratio("job", "read"),
        "job / raw decoding": ratio("job", "decode"),
        "naive / job": ratio("naive", "job"),
        "job / bare OpenSlide read, processor time": ratio("job cpu", "read cpu"),
        "naive / job, processor time": ratio("naive cpu", "job cpu"),
    }


def main() -> None:
    """Run the benchmark and print JSON."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    ask.add_argument("--gigapixels", type=float, default=1.7)
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--threads", type=int, default=2)
    ask.add_argument("--seed", type=int, default=1)
    ask.add_argument("--quick", action="store_true", help="no memory measurement")
    args = ask.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.svs"
        size = make_slide(path, args.gigapixels, args.seed)
        report = speed(path, size, args.rounds, args.threads)
        if not args.quick:
            small, large = Path(folder) / "small.svs", Path(folder) / "large.svs"
            make_slide(small, args.gigapixels / 16, args.seed)
            make_slide(large, args.gigapixels, args.seed)
            a, b = peak_mb(small, args.threads), peak_mb(large, args.threads)
            report["peak MiB, small slide"] = round(a)
            report["peak MiB, 16-fold slide"] = round(b)
            report["growth"] = round(b / a - 1, 3)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
