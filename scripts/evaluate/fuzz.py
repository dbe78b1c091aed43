"""Mutated inputs by the thousand: slides, annotations, tables, settings. Nothing may break through.

Every input is a sound one with bytes flipped, cut, doubled, or text swapped for something worse;
seeded, so that a finding can be made again with its number. They are read by child processes, as
a batch does. What counts as a finding: a child that dies, hangs or grows; an exception that is not
one of the program's own; an error of more than one line; a file anywhere but in the child's folder.

    python -m scripts.evaluate.fuzz --count 2000 --seed 1 --out /tmp/fuzz
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from her2path.core.errors import Her2PathError
from her2path.runs.cohort.child import Job
from her2path.runs.cohort.pool import Budget, Pool
from scripts.evaluate.mutations import mutate, retold

#: the most that one input may take, processor seconds: what else the machine does is not counted
INPUT_S = 15.0
#: the longest that a bundle may take (it hangs), seconds, and the most memory, MiB
LIMIT_S, LIMIT_MB = 300.0, 3000.0
#: inputs that one task reads, so that a process' start is paid once
BUNDLE = 20
#: formats read as slides; their bytes are spoilt, not their words
SLIDES = ("svs", "tiff", "tags", "orders")
KINDS = (*SLIDES, "geojson", "xml", "csv", "counts", "tma", "yaml", "qupath", "imagescope", "halo",
         "utf16", "ndpa", "reads")  # fmt: skip


@dataclass(frozen=True)
class Read:
    """Reads a bundle of mutated inputs; see `her2path.runs.cohort.child.Task`."""

    kind: str
    seed: str
    first: int
    count: int
    salt: int
    folder: str

    def with_threads(self, threads: int) -> Read:
        """Return the same task."""
        del threads
        return self

    def run(self, tick: Callable[[str, int, int, float], None]) -> dict[str, Any]:
        """Return how many inputs were taken, how many refused, and what broke through."""
        out: dict[str, Any] = {"taken": 0, "refused": 0, "found": []}
        data = Path(self.seed).read_bytes()
        home = Path(self.folder)
        home.mkdir(parents=True, exist_ok=True)
        os.chdir(home)
        for number in range(self.first, self.first + self.count):
            key = f"{self.kind}-{number}"
            tick(key, number - self.first, self.count, 0.0)
            draw = random.Random(f"{self.salt}-{key}")
            path = home / f"input.{self.kind}"
            if self.kind in ("tags", "orders") and draw.random() < 0.7:
                path.write_bytes(data)
                retold(path, draw)
            else:
                path.write_bytes(mutate(data, draw, self.kind not in SLIDES))
            begun = time.process_time()
            try:
                READERS[self.kind](path, Path(self.seed), home)
                out["taken"] += 1
            except Her2PathError as exc:
                out["refused"] += 1
                if "\n" in str(exc) or not str(exc).strip():
                    out["found"].append((key, f"not one line: {exc!r}"))
                if exc.exit_code == 5:
                    out["found"].append((key, f"taken for a fault of the program: {exc}"))
            except Exception as exc:  # noqa: BLE001 - what we look for
                out["found"].append((key, f"{type(exc).__name__}: {exc}"[:300]))
            path.unlink(missing_ok=True)
            if time.process_time() - begun > INPUT_S:
                out["found"].append((key, f"took {time.process_time() - begun:.0f} s"))
        left = [p.name for p in home.iterdir()]
        if left:
            out["found"].append((f"{self.kind}-{self.first}", f"left behind: {left}"))
        return out


def _slide(path: Path, _: Path, __: Path) -> None:
    from her2path.core.geometry import Box
    from her2path.io.slide import SlideRef, open_slide

    with open_slide(SlideRef(str(path))) as slide:
        info = slide.info
        slide.overview(512)
        side = min(600, info.width_px, info.height_px)
        slide.read(Box(-10, -10, side, side))
        slide.read(Box(info.width_px - side, info.height_px - side, info.width_px, info.height_px))


def _read_annotations(path: Path) -> Any:
    from her2path.core.settings import Settings
    from her2path.io.annotations import SlideCentre, read_annotations

    centre = SlideCentre((0.25, 0.25), (600, 600), (12_000_000.0, -100_000.0))
    return read_annotations(path, Settings().tumour, centre=centre)


def _annotations(path: Path, _: Path, __: Path) -> None:
    found = _read_annotations(path)
    found.share_outside(lambda x, y: x >= y, 1000, 1000)
    assert found.geojson()


def _manifest(path: Path, seed: Path, _: Path) -> None:
    from her2path.core.settings import Settings
    from her2path.runs.cohort.inputs import check_inputs, settings_for
    from her2path.runs.cohort.manifest import read_manifest

    beside = seed.with_name(f"m{os.getpid()}.csv")  # slides are found from the manifest's folder
    beside.write_bytes(path.read_bytes())
    try:
        entries = read_manifest(beside)
        check_inputs(path, entries, Settings())
        for entry in entries:
            settings_for(entry, Settings())
            assert not {"/", "\\", "\0"} & set(entry.folder)
    finally:
        beside.unlink()


def _counts(path: Path, _: Path, home: Path) -> None:
    from her2path.scoring import ish

    result = ish.interpret(ish.read_counts(path))
    ish.write(result, home / "ish")
    for file in (home / "ish").iterdir():
        file.unlink()
    (home / "ish").rmdir()


def _tma(path: Path, _: Path, __: Path) -> None:
    from her2path.runs.cohort.inputs import read_tma_map

    read_tma_map(path)


def _reads(path: Path, _: Path, __: Path) -> None:
    from her2path.io.reads import read_reads

    for read in read_reads(path):
        assert read.case
        assert read.reader


def _yaml(path: Path, _: Path, __: Path) -> None:
    from her2path.core.settings import load_settings

    load_settings(path).sha256()


def _dialect(path: Path, seed: Path, home: Path) -> None:
    """Read annotations, hide their names, and read what a result keeps of them."""
    from her2path.core.settings import Settings
    from her2path.io.annotations import read_annotations
    from her2path.runs.case.drawn import annotation_flags

    _annotations(path, seed, home)
    found = _read_annotations(path)
    kept = home / "kept.geojson"
    try:
        for one in (found, found.hidden()):
            kept.write_text(one.geojson(), encoding="utf-8")
            again = read_annotations(kept, Settings().tumour, stored=True)
            assert [a.role for a in again.items] == [a.role for a in found.items]
            assert all("\n" not in f.message for f in annotation_flags(one, "annotation"))
    finally:
        kept.unlink(missing_ok=True)


READERS: dict[str, Callable[[Path, Path, Path], None]] = {
    **dict.fromkeys(SLIDES, _slide), "geojson": _annotations, "xml": _annotations, "csv": _manifest,
    "counts": _counts, "tma": _tma, "yaml": _yaml,
    **dict.fromkeys(("qupath", "imagescope", "halo", "utf16", "ndpa"), _dialect),
    "reads": _reads,
}  # fmt: skip


def tree(folder: Path) -> str:
    """Return a fingerprint of the names below a folder."""
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()


def fuzz(
    count: int, seed: int, folder: Path, limit_s: float = 1800.0, workers: int = 2
) -> dict[str, Any]:
    """Read ``count`` mutated inputs, kinds in turn; return counts and findings.

    Parameters
    ----------
    count : int
        Inputs in all.
    seed : int
        Of every mutation.
    folder : Path
        For seeds and inputs; what is left there at the end are the seeds alone.
    limit_s : float
        When to stop, finished or not.
    workers : int
        Processes.
    """
    # here alone: children that read one input each need none of it
    from scripts.evaluate.fuzz_seeds import seeds

    sound = seeds(folder / "seeds")
    before = tree(folder / "seeds")
    each = -(-count // len(KINDS))
    jobs: list[Job] = []
    for kind in KINDS:
        for first in range(0, each, BUNDLE):
            home = folder / "work" / f"{kind}-{first}"
            bundle = min(BUNDLE, each - first)
            task = Read(kind, str(sound[kind]), first, bundle, seed, str(home))
            jobs.append(Job(len(jobs), task))
    budget = Budget(workers, LIMIT_MB, LIMIT_S)
    last: dict[int, str] = {}
    totals: Counter[str] = Counter()
    found: list[tuple[str, str]] = []
    begun = time.monotonic()
    with Pool(budget, lambda i, stage, *_: last.__setitem__(i, stage)) as pool:
        for outcome in pool.run(jobs):
            done = jobs[outcome.index].task
            assert isinstance(done, Read)
            if outcome.failure is not None:
                found.append((last.get(outcome.index, done.kind), outcome.failure.error))
            else:
                totals[f"{done.kind} taken"] += outcome.facts["taken"]
                totals[f"{done.kind} refused"] += outcome.facts["refused"]
                found += outcome.facts["found"]
                totals["run"] += done.count
            if time.monotonic() - begun > limit_s:
                break
    if tree(folder / "seeds") != before:
        found.append(("all", "files appeared beside the seeds"))
    return {"run": totals.pop("run", 0), "seed": seed, "counts": dict(sorted(totals.items())),
            "seconds": round(time.monotonic() - begun, 1), "peak_mb": round(pool.peak_mb),
            "found": found}  # fmt: skip


def main() -> int:
    """Run from the command line; 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds in all")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    folder = given.out or Path(tempfile.mkdtemp(prefix="her2path-fuzz-"))
    result = fuzz(given.count, given.seed, folder, given.limit, given.workers)
    print(json.dumps(result, indent=2))
    return 1 if result["found"] or result["run"] < given.count else 0


if __name__ == "__main__":
    sys.exit(main())
