"""What is made anew when a reader signed off or a slide was rescored: tables, reports, index."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from her2path.core.errors import Her2PathError
from her2path.io.store import BatchStore, RunStore
from her2path.outputs import report
from her2path.outputs.viewer.desk import Viewer
from her2path.runs.cohort.signed import add_to_cases

__all__ = ["after_signing", "pages"]

log = logging.getLogger(__name__)
_ONE_AT_A_TIME = threading.Lock()


def after_signing(viewer: Viewer, number: int) -> None:
    """Show a signed score in tables, reports and index; what cannot be made is logged.

    The score itself is on the disk before this: `her2path report OUT` makes the pages again.
    """
    item = viewer.items[number]
    with _ONE_AT_A_TIME:
        try:
            if viewer.batch is not None:
                add_to_cases(viewer.out)
            pages(item.out, viewer.batch, item.case_id)
        except Her2PathError as exc:
            log.warning("a signed score is not in the reports yet: %s", exc)


def pages(out: Path, batch: BatchStore | None, case_id: str) -> None:
    """Make the reports of a slide, of its case, and the index anew; those that there are."""
    if RunStore(out).report_path.is_file():
        report.build(out)
    if batch is None:
        return
    for folder in batch.case_dirs():
        if (folder / "report.html").is_file() and _case_id(folder) == case_id:
            report.build_case(folder)
    report.build_index(batch.out)


def _case_id(folder: Path) -> str:
    from her2path.io.store import read_json

    return str(read_json(folder / "case.json").get("case_id"))
