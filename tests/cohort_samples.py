"""What the batch's tests share: small slides, tasks that go wrong, and how to compare two runs."""

from __future__ import annotations

import atexit
import csv
import errno
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from her2path.core.settings import Settings

#: small and quick: few cells are enough, and few draws
CHANGES = {
    "score.min_cells": 20, "score.bootstrap_draws": 20, "regions.size_um": 100.0,
    "regions.min_cells": 5, "heterogeneity.permutations": 19, "heterogeneity.interval_draws": 20,
    "heterogeneity.biopsy_draws": 10, "stream.block_px": 512, "stream.workers": 2,
    "stain.sample_tiles": 8,
}  # fmt: skip
SETTINGS = Settings().replace(CHANGES)
SET_OPTIONS = [word for k, v in CHANGES.items() for word in ("--set", f"{k}={v}")]


def make_slides(folder: Path, count: int, side_um: float = 200.0) -> list[Path]:
    """Paint phantoms, ``s0.svs`` and so on."""
    from her2path.phantom import PhantomSpec, make_files  # heavy, and children import this module

    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for seed in range(count):
        spec = PhantomSpec(seed=seed, width_um=side_um, height_um=side_um, margin_um=12,
                           tumour_share=0.7, nest_um=90)  # fmt: skip
        made = make_files(spec, folder / f".made{seed}")
        out.append(made["slide"].rename(folder / f"s{seed}.svs"))
    return out


def manifest(folder: Path, rows: list[dict[str, Any]], name: str = "manifest.csv") -> Path:
    """Write a manifest."""
    columns = list(dict.fromkeys(k for row in rows for k in row))
    lines = [",".join(columns)]
    for row in rows:
        cells = [str(row.get(c, "")).replace('"', '""') for c in columns]
        lines.append(",".join(f'"{cell}"' for cell in cells))
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def command(*words: object) -> list[str]:
    """Return the program's command line."""
    return [sys.executable, "-m", "her2path", *map(str, words)]


def run(*words: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run the program."""
    return subprocess.run(
        command(*words), capture_output=True, text=True, timeout=timeout, check=False
    )


_TIMES = re.compile(rb'"(started|seconds|rescored)": ("[^"]*"|[0-9.e+-]+)')
_CLOCK = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\+00:00|Z| UTC)?|\b\d+(\.\d+)? ?s\b")
#: how a run went; not what it found
_HOW = {"batch.log", "run.json"}


def contents(out: Path) -> dict[str, bytes]:
    """Return every file of OUT, times masked."""
    found = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = path.relative_to(out).as_posix()
        if name in _HOW:
            continue
        data = path.read_bytes()
        if path.suffix == ".json":
            data = _TIMES.sub(b"", data)
        if path.suffix == ".html":
            data = _CLOCK.sub(b"", data)
        found[name] = data
    return found


def differences(one: Path, two: Path) -> list[str]:
    """Return the names of files that differ between two OUTs."""
    a, b = contents(one), contents(two)
    return sorted(n for n in {*a, *b} if a.get(n) != b.get(n))


# -- faces that go wrong: module-level functions, so that a spawned child finds them -----------


def crash_on_s1(folder: Path) -> None:
    """End the process as a broken decoder does."""
    if _is(folder, "s1"):
        os.kill(os.getpid(), signal.SIGSEGV)


def hang_on_s1(folder: Path) -> None:
    """Never come back."""
    if _is(folder, "s1"):
        time.sleep(3600)


def disk_full_on_s1(folder: Path) -> None:
    """Meet a full disk, after what ``--no-report`` makes."""
    from her2path.api import write_without_report

    write_without_report(folder)
    if _is(folder, "s1"):
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"x")


def _is(folder: Path, name: str) -> bool:
    return f"/slides/{name}/" in folder.as_posix() + "/"


# -- tasks for the pool alone ----------------------------------------------------------------------


@dataclass(frozen=True)
class Act:
    """A task that does one of a few things."""

    what: str
    value: float = 0.0

    def with_threads(self, threads: int) -> Act:
        return self

    def run(self, tick: Any) -> dict[str, Any]:
        tick(self.what, 0, 1, 1.0)
        return getattr(self, f"_{self.what}")()

    def _fine(self) -> dict[str, Any]:
        return {"value": self.value}

    def _segfault(self) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGSEGV)
        return {}

    def _exit(self) -> dict[str, Any]:
        os._exit(7)

    def _hang(self) -> dict[str, Any]:
        time.sleep(3600)
        return {}

    def _raise(self) -> dict[str, Any]:
        raise ZeroDivisionError("nothing\nto divide")

    def _full(self) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, "No space left on device")

    def _oom(self) -> dict[str, Any]:
        return {"value": int(Path("/proc/self/oom_score_adj").read_text())}

    def _noise(self) -> dict[str, Any]:
        os.write(1, b"a decoder talks\n")
        os.write(2, b"a decoder talks\n")
        return {}

    def _eat(self) -> dict[str, Any]:
        """Take ``value`` MiB for two seconds."""
        held = bytearray(int(self.value) << 20)
        held[::4096] = b"x" * len(held[::4096])
        time.sleep(2.0)
        return {"value": float(len(held) >> 20)}


# -- slides that all tests of one process share ----------------------------------------------------


@functools.cache
def shared_slides() -> Path:
    """Return a folder with three small slides, painted once."""
    folder = Path(tempfile.mkdtemp(prefix="her2path-slides-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    make_slides(folder, 3)
    return folder


def linked(target: Path, count: int = 3) -> Path:
    """Return a folder of its own with links to the shared slides."""
    target.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        os.link(shared_slides() / f"s{n % 3}.svs", target / f"s{n}.svs")
    return target


def rows_of(path: Path) -> list[dict[str, str]]:
    """Read a CSV table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))
