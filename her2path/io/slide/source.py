"""What every decoder offers to the door: levels of the file's own pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from her2path.core.geometry import Box
from her2path.io.slide.cache import Pixels
from her2path.io.slide.colour import rgb_of_ycbcr

__all__ = ["Colour", "Source", "cells_of", "colour_of", "paint"]

#: a change of colour, pixel by pixel: (h, w, 3) to (h, w, 3)
Colour = Callable[[Pixels], Pixels]


class Source(Protocol):
    """A decoder: levels of a file, in the file's own pixels."""

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of every level, level 0 first."""
        ...

    def read_into(self, level: int, box: Box, out: Pixels) -> list[Box]:
        """Write the pixels of ``box`` into ``out``.

        Parameters
        ----------
        level : int
            Index into `sizes`.
        box : Box
            Pixels of that level, wholly inside it.
        out : uint8 (h, w, 3)
            Written wholly: what is missing or cannot be decoded becomes background.

        Returns
        -------
        list of Box
            The tiles in ``box`` (clipped to it) that cannot be decoded, in pixels of that level.
        """
        ...

    def take_as_ycbcr(self, levels: frozenset[int]) -> None:
        """Convert these levels from YCbCr, which they hold although they are shown as RGB."""
        ...

    def close(self) -> None:
        """Give back files and memory."""
        ...


def colour_of(ycbcr: bool, colour: Colour | None) -> Colour | None:
    """Return what is done to decoded pixels: YCbCr to RGB where it is that, then ``colour``."""
    if not ycbcr:
        return colour
    if colour is None:
        return rgb_of_ycbcr
    then = colour
    return lambda pixels: then(rgb_of_ycbcr(pixels))


def cells_of(box: Box, width: int, height: int) -> Iterator[tuple[int, int, Box]]:
    """Yield (column, row, part of the box) for the cells of a regular grid that a box touches."""
    for row in range(box.y0 // height, -(-box.y1 // height)):
        for col in range(box.x0 // width, -(-box.x1 // width)):
            cell = Box(col * width, row * height, (col + 1) * width, (row + 1) * height)
            yield col, row, cell.clip(box)


def paint(out: Pixels, colour: tuple[int, int, int]) -> None:
    """Fill ``out`` (h, w, 3) with one colour."""
    if len(set(colour)) == 1:
        out[...] = colour[0]  # several times faster than a colour of three values
    else:
        out[...] = colour
