"""A synthetic batch for tests of what people do with one: five slides, five cases."""

from __future__ import annotations

import shutil
from pathlib import Path

from fake_run import Plane, make_run

from her2path.runs.cohort import ReportWriters, collect
from her2path.runs.cohort.tables import csv_line

KINDS = ("zero", "low", "two_plus", "clustered", "not_evaluable")


def make_batch(out: Path, *, slides: bool = False) -> Path:
    """Write runs of each kind and put them together; ``slides`` adds the slides' files."""
    for number, kind in enumerate(KINDS, 1):
        folder = out.parent / "runs" / f"S{number}"
        make_run(folder, kind, plane=Plane(1536, 1024), slide=slides)
    manifest = out.parent / "m.csv"
    rows = [csv_line((f"S{n}.svs", f"S{n}", f"C{n}", "biopsy" if n % 2 else "resection"))
            for n in range(1, len(KINDS) + 1)]  # fmt: skip
    manifest.write_text("slide,slide_id,case_id,specimen\n" + "".join(rows))
    collect([out.parent / "runs"], out, manifest, ReportWriters())
    return out


def copied(batch: Path, target: Path) -> Path:
    """Return a copy of a batch that a test may change."""
    return Path(shutil.copytree(batch, target))
