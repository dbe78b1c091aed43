"""Boxes, blocks and grids on a slide's level-0 plane of square pixels, and the named planes.

Names say which plane a value belongs to: ``_px`` are pixels, ``_um`` micrometres from the same
origin. The analysis plane is level 0 reduced by a whole-number factor. What leaves or enters the
program (annotations, tables, exports) is in the file's own pixels, `FilePlane`; what is measured
is on the `SquarePlane`, which differs where the file's pixels are oblong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = [
    "FIXED", "Block", "Box", "CropPlane", "FilePlane", "FramePlane", "Grid", "Plane", "Planes",
    "SquarePlane", "analysis_factor", "squared_px",
]  # fmt: skip

#: the analysis plane is never coarser than this (µm/px)
COARSEST_ANALYSIS_MPP = 0.56
#: cells' positions are fixed-point: so many parts of an analysis pixel
FIXED = 16


def analysis_factor(mpp: float) -> int:
    """Return the whole-number reduction from level 0 to the analysis plane (about 0.5 µm/px)."""
    return max(1, int(COARSEST_ANALYSIS_MPP / mpp))


@dataclass(frozen=True, order=True)
class Box:
    """A half-open rectangle of level-0 pixels: ``x0 <= x < x1``, ``y0 <= y < y1``."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.y1 - self.y0

    @property
    def area(self) -> int:
        """Area in pixels; 0 when empty."""
        return max(0, self.width) * max(0, self.height)

    @property
    def empty(self) -> bool:
        """Whether it holds no pixel."""
        return self.width <= 0 or self.height <= 0

    def contains(self, x: float, y: float) -> bool:
        """Tell whether a point lies inside."""
        return self.x0 <= x < self.x1 and self.y0 <= y < self.y1

    def grow(self, by: int) -> Box:
        """Return the box grown by ``by`` pixels on every side."""
        return Box(self.x0 - by, self.y0 - by, self.x1 + by, self.y1 + by)

    def clip(self, other: Box) -> Box:
        """Return the part inside ``other``; empty boxes have no area."""
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        return Box(x0, y0, max(x0, min(self.x1, other.x1)), max(y0, min(self.y1, other.y1)))

    def shift(self, dx: int, dy: int) -> Box:
        """Return the box moved by ``(dx, dy)`` pixels."""
        return Box(self.x0 + dx, self.y0 + dy, self.x1 + dx, self.y1 + dy)


@dataclass(frozen=True)
class Block:
    """One task: it owns what has its centre in ``core`` and reads ``read`` (core plus halo)."""

    index: int
    core: Box
    read: Box

    @property
    def name(self) -> str:
        """A name that sorts and is safe as a file name."""
        return f"b{self.core.y0:07d}_{self.core.x0:07d}"


@dataclass(frozen=True)
class Grid:
    """Blocks whose cores partition a plane: every point is owned exactly once.

    Parameters
    ----------
    width_px, height_px : int
        Size of the level-0 plane.
    block_px : int
        Side of a core; rounded up to a multiple of ``align``.
    halo_px : int
        What a block reads beyond its core; rounded up to a multiple of ``align``.
    align : int
        Cores and reads start at multiples of this (the analysis factor times the map cell).
    """

    width_px: int
    height_px: int
    block_px: int
    halo_px: int
    align: int = 1

    @property
    def side(self) -> int:
        """Side of a core in level-0 pixels."""
        return max(1, -(-self.block_px // self.align)) * self.align

    @property
    def halo(self) -> int:
        """Halo in level-0 pixels."""
        return -(-self.halo_px // self.align) * self.align

    @property
    def shape(self) -> tuple[int, int]:
        """Number of blocks as (rows, columns)."""
        return -(-self.height_px // self.side), -(-self.width_px // self.side)

    def __len__(self) -> int:
        rows, cols = self.shape
        return rows * cols

    def __getitem__(self, index: int) -> Block:
        rows, cols = self.shape
        if not 0 <= index < rows * cols:
            raise IndexError(index)
        row, col = divmod(index, cols)
        x0, y0 = col * self.side, row * self.side
        core = Box(x0, y0, min(x0 + self.side, self.width_px), min(y0 + self.side, self.height_px))
        # the read box ends at a multiple of the alignment at the right and lower border too
        x1, y1 = (-(-v // self.align) * self.align for v in (core.x1, core.y1))
        read = Box(x0, y0, x1, y1).grow(self.halo)
        return Block(index, core, read)

    def __iter__(self) -> Iterator[Block]:
        return (self[i] for i in range(len(self)))

    def neighbours(self, index: int, rings: int = 1) -> list[int]:
        """Return the indices of the blocks up to ``rings`` around one, itself included, sorted."""
        rows, cols = self.shape
        row, col = divmod(index, cols)
        return [
            r * cols + c
            for r in range(max(0, row - rings), min(rows, row + rings + 1))
            for c in range(max(0, col - rings), min(cols, col + rings + 1))
        ]


@dataclass(frozen=True)
class Plane:
    """A plane of pixels along the slide's axes: ``um = origin_um + px * mpp`` on each of them."""

    mpp_x: float
    mpp_y: float
    x0_um: float = 0.0
    y0_um: float = 0.0

    def to_um(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Return positions on this plane, px, as µm from the file's level-0 origin."""
        return self.x0_um + x * self.mpp_x, self.y0_um + y * self.mpp_y

    def from_um(self, x_um: Any, y_um: Any) -> tuple[Any, Any]:
        """Return positions in µm from the file's level-0 origin as pixels of this plane."""
        return (x_um - self.x0_um) / self.mpp_x, (y_um - self.y0_um) / self.mpp_y

    def move(self, x: Any, y: Any, other: Plane) -> tuple[Any, Any]:
        """Return positions on this plane as pixels of another; the same values for an equal one."""
        same = (self.mpp_x, self.mpp_y, self.x0_um, self.y0_um)
        if same == (other.mpp_x, other.mpp_y, other.x0_um, other.y0_um):
            return x, y
        return other.from_um(*self.to_um(x, y))


class FilePlane(Plane):
    """Level 0 of the file in its own pixels, bounds offset included, as OpenSlide shows it."""


class SquarePlane(Plane):
    """Level 0 resampled to square pixels: what blocks are read from and cells measured on."""


class CropPlane(Plane):
    """The file's own pixels from the corner of its bounds, as QuPath shows MRXS and others."""


class FramePlane(Plane):
    """The total pixel matrix of one DICOM instance, which may be a coarser level of the slide."""


@dataclass(frozen=True)
class Planes:
    """The planes of one slide.

    Parameters
    ----------
    file : FilePlane
    square : SquarePlane
    crop : CropPlane
        Equal to ``file`` where the file states no bounds.
    width_px, height_px : int
        Level 0 in the file's own pixels.
    """

    file: FilePlane
    square: SquarePlane
    crop: CropPlane
    width_px: int
    height_px: int

    @classmethod
    def of(
        cls,
        mpp: tuple[float, float],
        size: tuple[int, int],
        corner: tuple[float, float] = (0.0, 0.0),
    ) -> Planes:
        """Return the planes of a file.

        Parameters
        ----------
        mpp : (float, float)
            Sides of the file's own pixels, µm.
        size : (int, int)
            Width and height of level 0, the file's own pixels.
        corner : (float, float)
            Upper left corner of its bounds, the file's own pixels.
        """
        side = min(mpp)
        # a resampled level has whole pixels: its scale is that of the sizes, not of mpp_x / mpp_y
        x, y = (
            side * squared_px(n, m, side) / n if n and m != side else m
            for n, m in zip(size, mpp, strict=True)
        )
        return cls(
            FilePlane(x, y),
            SquarePlane(side, side),
            CropPlane(x, y, corner[0] * x, corner[1] * y),
            *size,
        )

    @property
    def square_px(self) -> tuple[int, int]:
        """Width and height of the square plane, px."""
        return (
            max(1, round(self.width_px * self.file.mpp_x / self.square.mpp_x)),
            max(1, round(self.height_px * self.file.mpp_y / self.square.mpp_y)),
        )

    def frame(self, columns: int, rows: int) -> FramePlane:
        """Return the plane of a DICOM instance by its total pixel matrix."""
        return FramePlane(
            self.file.mpp_x * self.width_px / columns, self.file.mpp_y * self.height_px / rows
        )


def squared_px(length: int, side_um: float, square_um: float) -> int:
    """Return how many square pixels a length of so many oblong ones makes; one at the least."""
    return max(1, round(length * side_um / square_um))
