"""What readers signed off, beside the program's score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from her2path.outputs.report.context import CannotSay, CaseContext, SlideContext
from her2path.runs.cohort.signed import Signed, signed_of_slide, signed_reads

__all__ = ["of_case", "of_slide"]

_NOBODY = "No reader has signed off a score."


def of_slide(context: SlideContext) -> dict[str, Any]:
    """Return the section of a slide's report."""
    return _values(signed_of_slide(context.store), context.get("score.ihc"), None)


def of_case(context: CaseContext) -> dict[str, Any]:
    """Return the section of a case's report: reads of any of its slides."""
    name = str(context.get("case_id"))
    batch = Path(context.folder).absolute().parent.parent
    found = [(slide, s) for (case, slide), group in signed_reads(batch).items()
             if case == name for s in group]  # fmt: skip
    return _values([s for _, s in found], context.get("score.ihc"), [slide for slide, _ in found])


def _values(signed: list[Signed], ihc: Any, slides: list[str] | None) -> dict[str, Any]:
    if not signed:
        raise CannotSay(_NOBODY)
    names = slides or [""] * len(signed)
    return {"signed": list(zip(names, signed, strict=True)), "program": ihc or "not evaluable",
            "with_slides": slides is not None}  # fmt: skip
