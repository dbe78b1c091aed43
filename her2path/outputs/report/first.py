"""The first screen: pictures, what to check, how sure the instrument is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import shapely

from her2path.cells import qc
from her2path.core.errors import Her2PathError
from her2path.io.store import RunStore
from her2path.outputs.report import canvas, pictures
from her2path.outputs.report.context import CannotSay, CaseContext, Context, SlideContext
from her2path.scoring.guidelines.trace import FLAGS as SCORE_FLAGS

__all__ = ["USUAL", "VIEWER_PORT", "Look", "case_looks", "checks", "looks", "viewer_link"]

Values = dict[str, Any]
#: port in the report's links into the viewer: `her2path view OUT --port 8870`
VIEWER_PORT = 8870
#: flags that nearly every slide carries, in a few words: one line, so that the others are seen
USUAL = {
    "IN_SITU_NOT_EXCLUDED": "tumour cells were chosen by morphology, in-situ carcinoma and normal "
    "ducts not excluded",
    "UNCALIBRATED_CUTOFFS": "cut-offs are not calibrated to this laboratory",
}
#: more regions than this are not outlined on the overview
_MOST_OUTLINES = 1500
#: slides of a case that are shown with a picture
MOST_SLIDES = 6


@dataclass(frozen=True)
class Look:
    """A slide's two pictures: as it is, and with its cells and regions."""

    name: str
    image: str
    layer: str | None
    outlines: str | None
    quality: str | None
    overview: pictures.Overview
    size_px: tuple[int, int] | None
    link: str | None
    report: str | None = None

    @property
    def codes(self) -> list[qc.Code]:
        """What the quality layer shows."""
        return [qc.CODES[name] for name in self.overview.codes]

    @property
    def shape(self) -> float:
        """Width over height."""
        return self.overview.width / self.overview.height


def viewer_link(x_px: float, y_px: float, step: float) -> str:
    """Return the address of a place in the viewer.

    Parameters
    ----------
    x_px, y_px : float
        Its middle, level-0 pixels.
    step : float
        Level-0 pixels per pixel of the screen.
    """
    place = f"x={x_px:.0f}&y={y_px:.0f}&step={step:.4g}"
    return f"http://127.0.0.1:{VIEWER_PORT}/#{quote(place, safe='=&')}"


def looks(context: SlideContext) -> Values:
    """Return a slide's pictures, or why there are none."""
    try:
        return {"looks": [_look(context)], "reason": None, "more": 0}
    except CannotSay as exc:
        return {"looks": [], "reason": str(exc), "more": 0}


def case_looks(context: CaseContext) -> Values:
    """Return the pictures of a case's slides, the first few."""
    made = []
    rows = [r for r in context.slides if r["result"] is not None]
    for row in rows[:MOST_SLIDES]:
        store = context.batch.slide(str(row.get("folder") or row["slide_id"]))
        try:
            made.append(_look(SlideContext(RunStore(store.out)), str(row["slide_id"]), row["link"]))
        except (CannotSay, Her2PathError):
            continue  # the table of slides tells what became of it
    return {"looks": made, "reason": None, "more": max(0, len(rows) - MOST_SLIDES)}


def _look(context: SlideContext, name: str = "", report: str | None = None) -> Look:
    made = pictures.overview(context)
    width, height = context.get("slide.width_px"), context.get("slide.height_px")
    size = (int(width), int(height)) if width and height else None
    link = None if size is None else viewer_link(width / 2, height / 2, max(width, height) / 900)
    return Look(
        name=name or context.title,
        image=canvas.data_uri(made.image, "image/jpeg"),
        layer=canvas.data_uri(made.layer, "image/png") if made.layer else None,
        outlines=_outlines(context) if size else None,
        quality=canvas.data_uri(made.quality, "image/png") if made.quality else None,
        overview=made, size_px=size, link=link, report=report,
    )  # fmt: skip


def _outlines(context: SlideContext) -> str | None:
    """Return the regions with enough cells as one path, level-0 pixels; None where too many."""
    try:
        rows = [r for r in context.regions if r.get("score") is not None]
    except CannotSay:
        return None
    if not rows or len(rows) > _MOST_OUTLINES:
        return None
    mpp = context.get("slide.mpp") or 1.0
    scale = np.array([context.get(f"slide.mpp_{k}") or mpp for k in "xy"])
    path = []
    for row in rows:
        shape = shapely.from_wkb(row["polygon"])
        for part in getattr(shape, "geoms", [shape]):
            at = np.asarray(part.exterior.coords)[:-1, :2] / scale
            path.append("M" + "L".join(f"{x:.0f} {y:.0f}" for x, y in at) + "Z")
    return "".join(path)


def checks(context: Context) -> Values:
    """Return the flags by weight: what matters, what is usual, what is only worth a note."""
    flags = context.get("qc.flags") or []
    order = {"fail": 0, "warning": 1}
    grave = sorted((f for f in flags if f["severity"] in order and f["code"] not in USUAL),
                   key=lambda f: order[f["severity"]])  # fmt: skip
    told = [{"severity": "warning", "code": code, "message": _capital(SCORE_FLAGS.get(code, code))}
            for code in context.get("score.flags") or ()]  # fmt: skip
    fails = [f for f in grave if f["severity"] == "fail"]
    return {
        "grave": [*fails, *told, *(f for f in grave if f not in fails)],
        "usual": [(USUAL[f["code"]], f["code"]) for f in flags if f["code"] in USUAL],
        "notes": [f for f in flags if f["severity"] == "info" and f["code"] not in USUAL],
    }


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
