"""Colours that mean something, the same in report, viewer and exports.

Scores run from light and cool to dark and warm, so that they keep their order in grey and stay
apart under the common colour-vision deficiencies; patterns take their intensity's colour,
incomplete ones a lighter shade.
"""

from __future__ import annotations

__all__ = [
    "AREA_COLOURS",
    "CATEGORY_COLOURS",
    "PATTERN_COLOURS",
    "SCORE_COLOURS",
    "WORDS",
    "rgb",
]

#: colour of scores 0, 1+, 2+, 3+ (and of intensities 0..3)
SCORE_COLOURS: dict[str, str] = {
    "0": "#b9c0c9",
    "1+": "#3598db",
    "2+": "#e58a00",
    "3+": "#a00d3b",
}
PATTERN_COLOURS: dict[str, str] = {
    "none": "#b9c0c9",
    "faint_incomplete": "#9fd2f2",
    "faint_complete": "#3598db",
    "moderate_incomplete": "#f7cf86",
    "moderate_complete": "#e58a00",
    "intense_incomplete": "#c0609a",
    "intense_complete": "#a00d3b",
}
#: classes of areas: one hue, so that none is taken for a score
AREA_COLOURS: dict[str, str] = {
    "positive": "#00504a",
    "heterogeneous": "#3fa796",
    "negative": "#c4ebe2",
    "indeterminate": "#8d99a6",
}
CATEGORY_COLOURS: dict[str, str] = {
    "positive": "#a00d3b",
    "equivocal": "#e58a00",
    "low": "#3598db",
    "ultralow": "#9fd2f2",
    "null": "#b9c0c9",
    "negative": "#b9c0c9",
}
#: patterns as people read them
WORDS: dict[str, str] = {
    "none": "no staining",
    "faint_incomplete": "faint, incomplete",
    "faint_complete": "faint, complete",
    "moderate_incomplete": "moderate, incomplete",
    "moderate_complete": "moderate, complete",
    "intense_incomplete": "intense, incomplete",
    "intense_complete": "intense, complete",
}


def rgb(colour: str) -> tuple[int, int, int]:
    """Return ``#rrggbb`` as three numbers, 0..255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
