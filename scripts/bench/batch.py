"""Two hundred small slides, ten of them broken: one batch against single runs.

Single runs are sampled: a tenth of the sound slides is scored one after the other by
``her2path score``, and the time scaled to all of them. Prints JSON.

    python -m scripts.bench.batch --slides 200 --broken 10 --sample 10
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

#: slides that are painted; the others are the same pixels under other names and descriptions
PAINTED = 4


def make(folder: Path, slides: int, broken: int, side_um: float) -> None:
    """Paint slides, and spoil some of them in different ways."""
    from her2path.phantom import PhantomSpec, make_files

    folder.mkdir(parents=True, exist_ok=True)
    seeds = []
    for seed in range(PAINTED):
        spec = PhantomSpec(seed=seed, width_um=side_um, height_um=side_um, margin_um=12,
                           tumour_share=0.7, nest_um=100)  # fmt: skip
        seeds.append(make_files(spec, folder / ".seeds" / str(seed))["slide"])
    for number in range(slides):
        path = folder / f"slide{number:04d}.svs"
        data = seeds[number % PAINTED].read_bytes()
        if number % (slides // broken) == 1 and number // (slides // broken) < broken:
            way = number // (slides // broken) % 4
            spoilt = (data[: len(data) // 2], b"", b"no slide" * 99, b"II*\0" + b"\xff" * 999)
            data = spoilt[way]
        # bytes after the end: another file by its fingerprint, the same picture
        path.write_bytes(data + (b"%08d" % number if data else b""))
    shutil.rmtree(folder / ".seeds")


def run(*words: object) -> tuple[int, float, float]:
    """Run the program; return its exit code, seconds, and processor seconds of all its processes.

    The latter hardly change where others use the machine too.
    """
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "her2path", *map(str, words)],
                          capture_output=True, check=False)  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.returncode, time.monotonic() - begun, cpu_s


def bench(
    folder: Path, slides: int, broken: int, sample: int, side_um: float, options: list[str]
) -> dict[str, Any]:
    """Measure.

    Parameters
    ----------
    folder : Path
        For slides and results.
    slides, broken : int
        Slides in all, and how many of them cannot be read.
    sample : int
        Sound slides that are scored one by one.
    side_um : float
        Side of a slide, µm.
    options : list of str
        Handed to both commands.
    """
    make(folder / "in", slides, broken, side_um)
    code, batch_s, batch_cpu_s = run("batch", folder / "in", "-o", folder / "out", *options)
    results = len(list((folder / "out" / "slides").glob("*/result.json")))
    with (folder / "out" / "failures.csv").open(encoding="utf-8", newline="") as file:
        failures = len(list(csv.DictReader(file)))
    names = sorted((folder / "out" / "slides").glob("*/result.json"))
    chosen = [p.parent.name for p in names[:: max(1, len(names) // sample)]][:sample]
    single_s = single_cpu_s = 0.0
    for name in chosen:
        slide, out = folder / "in" / f"{name}.svs", folder / "single" / name
        single, seconds, cpu_s = run("score", slide, "-o", out, *options)
        assert single in (0, 4), single
        single_s += seconds
        single_cpu_s += cpu_s
    scale = results / len(chosen)
    scaled_s = single_s * scale
    return {
        "slides": slides, "broken": broken, "results": results, "failures": failures,
        "exit_code": code, "batch_s": round(batch_s, 1), "singles_sampled": len(chosen),
        "single_s_each": round(single_s / len(chosen), 2), "singles_scaled_s": round(scaled_s, 1),
        "ratio": round(batch_s / scaled_s, 3),
        "batch_cpu_s": round(batch_cpu_s, 1),
        "single_cpu_s_each": round(single_cpu_s / len(chosen), 2),
        "cpu_ratio": round(batch_cpu_s / (single_cpu_s * scale), 3),
    }  # fmt: skip


def main() -> int:
    """Run from the command line; 1 where the numbers are not what they should be."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--slides", type=int, default=200)
    parser.add_argument("--broken", type=int, default=10)
    parser.add_argument("--sample", type=int, default=10)
    parser.add_argument("--side", type=float, default=250.0, help="side of a slide, µm")
    parser.add_argument("options", nargs="*", help="after --: handed to her2path")
    given = parser.parse_args()
    options = given.options or ["--set", "score.min_cells=20"]
    with tempfile.TemporaryDirectory(prefix="her2path-batch-") as folder:
        found = bench(Path(folder), given.slides, given.broken, given.sample, given.side, options)
    print(json.dumps(found, indent=2))
    sound = found["results"] == given.slides - given.broken and found["failures"] == given.broken
    return 0 if sound and found["exit_code"] == 3 and found["ratio"] <= 0.6 else 1


if __name__ == "__main__":
    sys.exit(main())
