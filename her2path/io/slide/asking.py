"""Asking a slide's own pixels, as shown, whether they are in the colours that its file claims."""

from __future__ import annotations

import numpy as np

from her2path.core.geometry import Box
from her2path.io.slide.cache import Pixels
from her2path.io.slide.colour import looks_converted_twice, stored_as
from her2path.io.slide.source import Source

__all__ = ["Answer", "ask", "shown_pixels"]

#: a level up to this size (px) is looked at as a whole; of a larger one, boxes of this side
WHOLE_PX = 1 << 20
BOX_PX = 64
BOXES = 24
#: farther than this from the background's colour (grey levels) something was scanned
SCANNED = 2


class Answer:
    """What the pixels of a source say.

    Attributes
    ----------
    ycbcr : frozenset of int
        Levels whose YCbCr is shown as if it were RGB.
    twice : bool
        Level 0 is RGB that was taken for YCbCr and converted: its colours are lost.
    """

    def __init__(self, ycbcr: frozenset[int], twice: bool) -> None:
        self.ycbcr, self.twice = ycbcr, twice


def ask(source: Source, background: tuple[int, int, int]) -> Answer:
    """Look at some pixels of every level, the same for the same file.

    Parameters
    ----------
    source : Source
        Shows the file as its tags say, without any change of colour.
    background : tuple of int
        Grey levels (R, G, B) of what was not scanned; it says nothing.
    """
    found, twice = [], False
    where = _scanned(source, background)
    for level in range(len(source.sizes)):
        pixels = shown_pixels(source, level, background, where)
        if level == 0:
            twice = looks_converted_twice(pixels)
        if stored_as(pixels) == "ycbcr":
            found.append(level)
    return Answer(frozenset(found), twice)


def shown_pixels(
    source: Source,
    level: int,
    background: tuple[int, int, int],
    where: list[tuple[float, float]] | None = None,
) -> Pixels:
    """Return scanned pixels of a level, (n, 3): all, or of boxes about places (0..1, x and y)."""
    width, height = source.sizes[level]
    if width * height <= WHOLE_PX:
        return _without(_read(source, level, Box(0, 0, width, height)), background)
    found = []
    for x, y in _scanned(source, background) if where is None else where:
        x0, y0 = _start(x, width), _start(y, height)
        box = Box(x0, y0, min(width, x0 + BOX_PX), min(height, y0 + BOX_PX))
        found.append(_without(_read(source, level, box), background))
    return np.concatenate(found) if found else np.zeros((0, 3), np.uint8)


def _start(at: float, length: int) -> int:
    """Return where a box about a place (0..1) of an axis starts, px."""
    return int(max(0.0, min(at * length - BOX_PX / 2, length - BOX_PX)))


def _scanned(source: Source, background: tuple[int, int, int]) -> list[tuple[float, float]]:
    """Return places of a slide, spread over what was scanned where a small level shows it."""
    last = len(source.sizes) - 1
    width, height = source.sizes[last]
    if width * height > 4 * WHOLE_PX:
        steps = (np.arange(7) + 0.5) / 7
        return [(float(x), float(y)) for y in steps for x in steps]
    small = _read(source, last, Box(0, 0, width, height))
    there = np.flatnonzero(_differs(small, background).ravel())
    picks = there[np.linspace(0, len(there) - 1, min(BOXES, len(there))).astype(np.int64)]
    return [((int(k) % width + 0.5) / width, (int(k) // width + 0.5) / height) for k in picks]


def _read(source: Source, level: int, box: Box) -> Pixels:
    out = np.empty((box.height, box.width, 3), np.uint8)
    source.read_into(level, box, out)
    return out


def _without(pixels: Pixels, background: tuple[int, int, int]) -> Pixels:
    return pixels[_differs(pixels, background)]


def _differs(pixels: Pixels, background: tuple[int, int, int]) -> np.ndarray:
    off = np.abs(pixels.astype(np.int16) - np.array(background, np.int16)).max(axis=2)
    return np.asarray(off > SCANNED)
