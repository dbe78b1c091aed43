"""Cells to check by eye: patches with the border of the judged cell and what was measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from her2path.core.schema import OUTLINE_PER_UM, OUTLINE_RAYS, PATTERNS
from her2path.io.store import PATCH_PX
from her2path.outputs.palette import WORDS
from her2path.outputs.report import canvas, pictures
from her2path.outputs.report.context import CannotSay, SlideContext
from her2path.outputs.report.first import VIEWER_PORT, viewer_link

__all__ = ["gallery"]

Values = dict[str, Any]
#: patches shown for each pattern, and of borderline cells
_PER_PATTERN = 12
_BORDERLINE = 18
_COLUMNS = ["membrane_od", "membrane_mass", "completeness", "pattern", "outline"]
_NAMES = {"membrane_od": ("membrane OD", "OD"), "membrane_mass": ("membrane mass", "OD·µm")}


def gallery(context: SlideContext) -> Values:
    """Patches of real cells by pattern, and the borderline ones."""
    made = context.gallery
    table = made.table.to_pylist()
    if not table:
        raise CannotSay("No cell patches were stored." + context.why_not_evaluable)
    patterns = [r["pattern"] for r in table]
    groups = [(p, WORDS[p], [i for i, q in enumerate(patterns) if q == p]) for p in PATTERNS]
    borderline = [i for i, r in enumerate(table) if r["borderline"]][:_BORDERLINE]
    plain = {p: [i for i in at if not table[i]["borderline"]] or at for p, _, at in groups}
    shown = {i for at in plain.values() for i in at[:_PER_PATTERN]} | set(borderline)
    numbers = context.cells_by_id([table[i]["cell_id"] for i in sorted(shown)], _COLUMNS)
    measure = context.settings.membrane.measure
    cards = {i: _card(made.patches[i], table[i], numbers, measure) for i in sorted(shown)}
    return {
        "groups": [(w, [cards[i] for i in plain[p][:_PER_PATTERN]]) for p, w, _ in groups],
        "borderline": [cards[i] for i in borderline],
        "width_um": PATCH_PX * table[0]["mpp"],
        "measure": _NAMES[measure][0],
        "viewer_port": VIEWER_PORT,
    }


def _card(patch: Any, row: Values, numbers: dict[int, Values], measure: str) -> Values:
    known = numbers.get(row["cell_id"], {})
    od, whole = known.get(measure), known.get("completeness")
    words = WORDS[row["pattern"]]
    caption, told = "", ""
    if od is not None and whole is not None:
        unit = _NAMES[measure][1]
        caption = f"{od:.2f} {unit} · {100 * whole:.0f} %" if od > 0 else "not stained"
        told = f", strength {od:.2f} {unit}, completeness {100 * whole:.0f} %"
    return {
        "uri": canvas.data_uri(pictures.jpeg(patch, 85), "image/jpeg"), "caption": caption,
        "alt": f"Cell {row['cell_id']}, {words}{told}",
        "outline": _outline(known.get("outline"), float(row["mpp"])),
        "link": viewer_link(row["x_px"], row["y_px"], 0.5),
    }  # fmt: skip


def _outline(radii: list[int] | None, mpp: float) -> str | None:
    """Return the border as a path in pixels of the patch, whose middle is the nucleus."""
    if not radii or not any(radii):
        return None
    angle = np.arange(OUTLINE_RAYS) * (2 * np.pi / OUTLINE_RAYS)
    reach = np.asarray(radii, float) / OUTLINE_PER_UM / mpp
    x, y = PATCH_PX / 2 + reach * np.cos(angle), PATCH_PX / 2 + reach * np.sin(angle)
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True)) + "Z"
