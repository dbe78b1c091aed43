"""Measure speed and memory as ratios, from interleaved rounds in one run.

    python -m scripts.bench.slide --texture real --mpp 0.25          # about 15 minutes on two cores
    python -m scripts.bench.slide --texture drawn --gigapixels 0.3 --rounds 2 --quick

Four things are timed in turn on the same slide, round after round, and the ratios are taken within
a round, so that a machine whose speed drifts does not matter:

job      ``her2path score --no-report``, a process of its own, start-up included
read     OpenSlide's bare ``read_region`` and RGB of the blocks that hold tissue
decode   the raw JPEG tiles of the whole slide through libjpeg-turbo
naive    the scikit-image pipeline of ``naive.py`` on a small part, scaled by the tissue's area

All four run on the same number of threads. Ratios of processor time stand beside those of the
clock: a machine that others use too distorts the latter. The slide is tissue whose encoded tiles
are repeated, from real cores (``HER2PATH_REAL_DATA``) or drawn, large enough that the bare read
takes 15 s or more (a warning says where it does not). A ratio is the median of its rounds, with
the smallest and the largest.

Then the peak memory of `her2path score` is taken on a small and on a 16-fold slide, each in a
process of its own. Figures are machine figures, not accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from scripts.bench.textures import Box, Timed, make_slide

NAIVE_SIDE_PX = 2048
READ_SIDE_PX = 2048
#: a bare read shorter than this says little about a whole slide
SHORTEST_READ_S = 15.0


def blocks(box: Box, side: int) -> list[Box]:
    """Return boxes (x, y, w, h) of at most `side` that cover the box."""
    left, top, width, height = box
    return [
        (left + x, top + y, min(side, width - x), min(side, height - y))
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]


def bare_read(slide: Timed, threads: int) -> None:
    """Read every block of the tissue with OpenSlide and turn it into RGB."""
    import openslide

    with openslide.OpenSlide(str(slide.path)) as opened, ThreadPoolExecutor(threads) as pool:

        def one(box: Box) -> int:
            x, y, w, h = box
            return np.asarray(opened.read_region((x, y), 0, (w, h)).convert("RGB")).shape[0]

        list(pool.map(one, [b for part in slide.tissue for b in blocks(part, READ_SIDE_PX)]))


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


def score_command(path: Path, out: str, threads: int) -> list[str]:
    """Return the command of the whole job."""
    return [sys.executable, "-m", "her2path", "score", str(path), "-o", out,
            "--workers", str(threads), "--no-report", "--quiet"]  # fmt: skip


def whole_job(path: Path, threads: int) -> None:
    """Slide to result, start-up included."""
    with tempfile.TemporaryDirectory() as out:
        subprocess.run(score_command(path, f"{out}/o", threads), check=True)


def naive(path: Path, threads: int) -> None:
    """Score a small part the scikit-image way."""
    from scripts.bench import naive as way

    way.score_box(str(path), (0, 0, NAIVE_SIDE_PX, NAIVE_SIDE_PX), threads)


def processor_s() -> float:
    """Return the processor time of this process and of those that it has ended, s."""
    own, ended = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that a call takes: by the clock, and of processor time."""
    t0, c0 = time.perf_counter(), processor_s()
    call()
    return time.perf_counter() - t0, processor_s() - c0


#: a process between: what a process once held counts for those that it starts itself
TELL_PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_mb(path: Path, threads: int) -> float:
    """Score a slide in a process of its own; return its peak memory, MiB."""
    with tempfile.TemporaryDirectory() as out:
        told = subprocess.run(
            [sys.executable, "-c", TELL_PEAK, *score_command(path, f"{out}/o", threads)],
            check=True,
            capture_output=True,
            text=True,
        )
    return int(told.stdout) / 1024


def one_round(slide: Timed, threads: int) -> dict[str, float]:
    """Time everything once; return seconds by the clock and, under "... cpu", of processor time."""
    calls: dict[str, Callable[[], object]] = {
        "job": partial(whole_job, slide.path, threads),
        "read": partial(bare_read, slide, threads),
        "decode": partial(raw_decode, slide.path, threads),
        "naive": partial(naive, slide.path, threads),
    }
    row: dict[str, float] = {}
    for name, call in calls.items():
        scale = slide.tissue_px / NAIVE_SIDE_PX**2 if name == "naive" else 1.0
        by_clock, processor = timed(call)
        row[name], row[f"{name} cpu"] = by_clock * scale, processor * scale
    return row


def ratio(rows: list[dict[str, float]], a: str, b: str) -> dict[str, float]:
    """Return median, least and most of a / b over the rounds."""
    of = sorted(r[a] / r[b] for r in rows)
    found = {"median": statistics.median(of), "least": of[0], "most": of[-1]}
    return {k: round(v, 2) for k, v in found.items()}


def speed(slide: Timed, rounds: int, threads: int) -> dict[str, object]:
    """Time everything in interleaved rounds; return medians and ratios."""
    whole_job(slide.path, threads)  # compiles and warms the page cache; not counted
    rows = []
    for i in range(rounds):
        rows.append(one_round(slide, threads))
        told = ", ".join(f"{k} {v:.1f}" for k, v in rows[-1].items())
        print(f"round {i + 1}: {told}", file=sys.stderr, flush=True)
    bare = statistics.median(r["read"] for r in rows)
    if bare < SHORTEST_READ_S:
        print(f"warning: the bare read takes {bare:.1f} s; give more --gigapixels", file=sys.stderr)
    pairs = {
        "job / bare OpenSlide read": ("job", "read"),
        "job / raw decoding": ("job", "decode"),
        "naive / job": ("naive", "job"),
        "job / bare OpenSlide read, processor time": ("job cpu", "read cpu"),
        "naive / job, processor time": ("naive cpu", "job cpu"),
    }
    return {
        "megapixels": round(slide.width * slide.height / 1e6),
        "megapixels of tissue": round(slide.tissue_px / 1e6),
        "threads": threads,
        "rounds": rounds,
        "seconds": {k: round(statistics.median(r[k] for r in rows), 2) for k in rows[0]},
        **{name: ratio(rows, a, b) for name, (a, b) in pairs.items()},
    }


def arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    ask.add_argument("--texture", choices=("real", "drawn"), default="drawn")
    ask.add_argument("--mpp", type=float, default=0.25, help="um/px of level 0")
    ask.add_argument("--tissue", type=float, default=1.0, help="share of the slide, e.g. 0.3")
    ask.add_argument("--subsampling", choices=("4:2:0", "4:2:2", "4:4:4"), default="4:2:0")
    ask.add_argument("--gigapixels", type=float, default=1.7)
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--threads", type=int, default=2)
    ask.add_argument("--seed", type=int, default=1)
    ask.add_argument("--quick", action="store_true", help="no memory measurement")
    return ask.parse_args()


def memory(folder: Path, make: Callable[..., Timed], gigapixels: float, threads: int) -> object:
    """Return peak memory on a small and a 16-fold slide (MiB), and the growth between them."""
    peaks = [
        peak_mb(make(folder / f"{name}.svs", gigapixels / part).path, threads)
        for name, part in (("small", 16), ("large", 1))
    ]
    return {
        "peak MiB, small slide": round(peaks[0]),
        "peak MiB, 16-fold slide": round(peaks[1]),
        "growth": round(peaks[1] / peaks[0] - 1, 3),
    }


def main() -> None:
    """Run the benchmark and print JSON."""
    args = arguments()
    make = partial(
        make_slide,
        texture=args.texture,
        mpp=args.mpp,
        tissue=args.tissue,
        subsampling=args.subsampling,
        seed=args.seed,
    )
    with tempfile.TemporaryDirectory() as name:
        slide = make(Path(name) / "bench.svs", args.gigapixels)
        report: dict[str, object] = {
            "texture": args.texture,
            "um/px": args.mpp,
            "subsampling": args.subsampling,
            **speed(slide, args.rounds, args.threads),
        }
        if not args.quick:
            report["memory"] = memory(Path(name), make, args.gigapixels, args.threads)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
